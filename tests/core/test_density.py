"""Local density: the tiled way equals sorting and counting the full float64 matrix."""

import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from stages.core import density as density_module
from stages.core.density import Sampling, TileSettings, estimate_local_density
from stages.core.distance_tiles import Bracket, DistanceTiles, find_gpu

SMALL_TILES = TileSettings(small_group=1, block=7)


def brute_force(features, labels, n_classes, quantile):
    """The definition, written out: every entry of the matrix, in the order of the dimensions."""
    cutoffs = np.full(n_classes, np.nan)
    densities = np.zeros(len(features), dtype=np.int64)
    weights = np.zeros(len(features))
    for group in set(labels.tolist()):
        members = labels == group
        distances = 0.0
        for values in features[members].astype(np.float64).T:
            distances = distances + (values[:, None] - values[None, :]) ** 2
        exact_rank = Fraction(repr(quantile)) * distances.size
        rank = -(-exact_rank.numerator // exact_rank.denominator)
        cutoffs[group] = sorted(distances.ravel().tolist())[rank - 1]
        found = (distances < cutoffs[group]).sum(axis=1)
        densities[members] = found
        weights[members] = found / found.max() if found.max() else 1.0
    return cutoffs, densities, weights


def check_against_brute_force(features, labels=None, n_classes=1, quantile=0.6, n_threads=2, tiles=SMALL_TILES):
    labels = np.zeros(len(features), dtype=np.int32) if labels is None else labels
    result = estimate_local_density(
        features, labels, n_classes, cutoff_quantile=quantile, n_threads=n_threads, seed=0, settings=tiles
    )
    cutoffs, densities, weights = brute_force(features, labels, n_classes, quantile)
    np.testing.assert_array_equal(result.cutoff, cutoffs)
    np.testing.assert_array_equal(result.local_density, densities)
    np.testing.assert_array_equal(result.density_weight, weights)
    np.testing.assert_array_equal(result.group_size, [(labels == label).sum() for label in labels])
    return result


def draw_features(kind, n_samples, dim, rng):
    normal = rng.normal(size=(n_samples, dim))
    features = {
        "normal": lambda: normal,
        "unit length": lambda: normal / np.linalg.norm(normal, axis=1, keepdims=True),
        "lattice": lambda: rng.integers(0, 3, size=normal.shape),
        "tenths": lambda: rng.integers(0, 4, size=normal.shape) / 10,
        "rectified": lambda: np.maximum(normal - 1.2, 0),
        "duplicates": lambda: normal[rng.integers(0, max(1, n_samples // 5), n_samples)],
        "identical": lambda: np.repeat(normal[:1], n_samples, axis=0),
        "far from the origin": lambda: 1e4 + 1e-2 * normal,
        "huge": lambda: 1e30 * normal,
        "tiny": lambda: 1e-35 * normal,
        "outliers": lambda: normal * np.where(np.arange(n_samples) % 50, 1, 1e5)[:, None],
        "two scales": lambda: np.sign(normal[:, :1]) * 100 + 1e-4 * normal,
        "signed zeros": lambda: np.where(normal > 0.5, normal, np.copysign(0, normal)),
    }[kind]()
    return features.astype(np.float32)


KINDS = [
    "normal",
    "unit length",
    "lattice",
    "tenths",
    "rectified",
    "duplicates",
    "identical",
    "far from the origin",
    "huge",
    "tiny",
    "outliers",
    "two scales",
    "signed zeros",
]


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n_samples=st.integers(1, 80),
    dim=st.integers(1, 9),
    n_classes=st.integers(1, 4),
    quantile=st.sampled_from([0.6, 1.0, 1e-9, 0.07, 0.3, 0.999]),
    max_kept=st.sampled_from([5, 200, 10**6]),
    block=st.sampled_from([9, 32, 100]),
    small_group=st.sampled_from([1, 30]),
    max_sampled=st.sampled_from([3, 40, 10**5]),
    seed=st.integers(0, 2**32),
)
def test_equals_brute_force(kind, n_samples, dim, n_classes, quantile, max_kept, block, small_group, max_sampled, seed):
    rng = np.random.default_rng(seed)
    features = draw_features(kind, n_samples, dim, rng)
    labels = rng.integers(0, n_classes, n_samples).astype(np.int32)
    tiles = TileSettings(small_group=small_group, block=block, max_kept=max_kept, max_sampled=max_sampled)
    # One class more than is drawn from is always absent.
    result = check_against_brute_force(features, labels, n_classes + 1, quantile, tiles=tiles)
    assert np.isnan(result.cutoff[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_brute_force_with_default_sizes(kind):
    # More than one block of 512, so that float32 tiles decide most pairs.
    features = draw_features(kind, 700, 24, np.random.default_rng(1))
    check_against_brute_force(features, tiles=TileSettings())


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 17, 64, 129])
def test_both_float64_ways_round_alike(dim):
    # Equal distances that round differently would split ties at the cutoff.
    rows = draw_features("tenths", 40, dim, np.random.default_rng(0))
    rows = np.unique(rows, axis=0)
    tiles = DistanceTiles(rows, np.ones(len(rows), dtype=np.int64), block=100, map_threads=map)
    left, right = np.triu_indices(len(rows), 1)
    exact = cdist(rows[tiles.order].astype(float), rows[tiles.order].astype(float), "sqeuclidean")
    np.testing.assert_array_equal(tiles.measure_pairs(left, right) * tiles.unit, exact[left, right])


@pytest.mark.parametrize("kind", ["normal", "far from the origin", "outliers", "two scales", "huge", "tiny"])
@pytest.mark.parametrize("dim", [2, 128])
def test_float32_tiles_stay_within_their_margins(kind, dim):
    rows = draw_features(kind, 200, dim, np.random.default_rng(0))
    tiles = DistanceTiles(rows, np.ones(len(rows), dtype=np.int64), block=50, map_threads=map)
    everything = Bracket(-np.inf, np.inf)
    kept = tiles.scan(everything, 10**6).kept
    assert len(kept) == 200 * 199 // 2
    margins = tiles.find_margins(kept, everything)
    assert margins.max() < 1e-2
    error = np.abs(kept["distance"] - tiles.measure_pairs(kept["row"], kept["column"]))
    assert (error <= margins).all()


def test_scan_counts_weigh_duplicates():
    rows = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    tiles = DistanceTiles(rows, np.array([2, 1, 5]), block=2, map_threads=map)
    scan = tiles.scan(Bracket(2 / tiles.unit, 5 / tiles.unit), 100)
    # Squared distances 1, 4 and 9 stand for 2, 5 and 10 pairs of samples.
    assert (scan.n_below, scan.n_kept, scan.complete) == (2, 5, True)
    below = np.empty(3, dtype=int)
    below[tiles.order] = scan.below
    assert below.tolist() == [1, 2, 0]


class _ScanLog:
    """Records every scan: its bracket, whether it kept everything, and how many tiles were float64."""

    def __init__(self, monkeypatch):
        self.scans = []
        scan = DistanceTiles.scan

        def log_scan(tiles, bracket, max_kept):
            result = scan(tiles, bracket, max_kept)
            assert len(result.kept) <= max_kept
            share_float64 = (tiles.margins > bracket.width).mean()
            complete = result.complete
            self.scans.append(SimpleNamespace(bracket=bracket, complete=complete, share_float64=share_float64))
            return result

        monkeypatch.setattr(DistanceTiles, "scan", log_scan)


@pytest.fixture
def scan_log(monkeypatch):
    return _ScanLog(monkeypatch)


def test_one_float32_pass_is_the_normal_case(scan_log):
    check_against_brute_force(draw_features("normal", 600, 16, np.random.default_rng(3)), tiles=TileSettings())
    assert [(scan.complete, scan.share_float64) for scan in scan_log.scans] == [(True, 0)]


@pytest.mark.parametrize("wrong", [(0.0, 1e-3), (3.0, 4.0), (1e-3, 2e-3)])
def test_bracket_beside_the_cutoff_is_widened(wrong, scan_log, monkeypatch):
    monkeypatch.setattr(density_module, "_bracket_quantile", lambda *_: Bracket(*wrong))
    check_against_brute_force(draw_features("normal", 100, 16, np.random.default_rng(4)))
    assert len(scan_log.scans) > 1
    assert scan_log.scans[0].bracket == wrong


def test_too_many_kept_pairs_narrow_the_bracket(scan_log):
    tiles = TileSettings(small_group=1, block=16, max_kept=300, max_sampled=50)
    check_against_brute_force(draw_features("normal", 300, 4, np.random.default_rng(5)), tiles=tiles)
    widths = [scan.bracket.width for scan in scan_log.scans]
    assert len(widths) > 1
    assert not scan_log.scans[0].complete
    assert scan_log.scans[-1].complete
    assert widths[-1] < widths[0] / 2


def test_massive_ties_end_in_a_single_float(scan_log):
    features = draw_features("lattice", 400, 6, np.random.default_rng(6))
    tiles = TileSettings(small_group=1, block=64, max_kept=100)
    check_against_brute_force(features, tiles=tiles)
    last = scan_log.scans[-1]
    assert last.share_float64 == 1
    assert not last.complete
    assert last.bracket.is_single_float


def test_outliers_cost_float64_only_in_their_own_tiles(scan_log):
    features = draw_features("normal", 2000, 16, np.random.default_rng(7))
    features[[5, 700]] *= 1e4
    check_against_brute_force(features, tiles=TileSettings(block=128))
    assert len(scan_log.scans) == 1
    assert 0 < scan_log.scans[0].share_float64 < 0.13


def test_result_does_not_depend_on_threads_seed_or_order():
    rng = np.random.default_rng(8)
    features = draw_features("rectified", 900, 12, rng)
    labels = rng.integers(0, 2, 900)
    tiles = TileSettings(small_group=10, block=32)

    def run(order, n_threads, seed):
        result = estimate_local_density(
            features[order],
            labels[order],
            2,
            cutoff_quantile=0.6,
            n_threads=n_threads,
            seed=seed,
            settings=tiles,
        )
        unordered = np.empty_like(result.local_density)
        unordered[order] = result.local_density
        return result.cutoff.tolist(), unordered.tolist()

    first = run(np.arange(900), 1, 0)
    for n_threads, seed in ((2, 1), (5, 2)):
        assert run(np.arange(900), n_threads, seed) == first
        assert run(rng.permutation(900), n_threads, seed) == first


def test_groups_where_nothing_is_nearer_than_the_cutoff():
    features = np.array([[1, 2], [3, 4], [3, 4], [3, 4]], dtype=np.float32)
    result = check_against_brute_force(features, np.array([0, 2, 2, 2]), 3, tiles=TileSettings())
    assert result.local_density.tolist() == [0, 0, 0, 0]
    assert result.density_weight.tolist() == [1, 1, 1, 1]
    assert result.cutoff.tolist()[::2] == [0, 0]


def test_zeros_of_either_sign_are_duplicates():
    features = np.where(np.arange(60) % 2, 0.0, -0.0)[:, None].repeat(3, axis=1).astype(np.float32)
    result = check_against_brute_force(np.vstack([features, np.ones((5, 3), dtype=np.float32)]))
    assert result.cutoff[0] == 0
    assert not result.local_density.any()


def test_rank_takes_the_quantile_as_a_decimal():
    # 0.07 * 20² is 28.000000000000004 in float64, which would round up to the 29th entry.
    features = np.cumsum(np.arange(1.0, 21) ** 3, dtype=np.float32)[:, None]
    entries = np.sort(cdist(features.astype(float), features.astype(float), "sqeuclidean"), axis=None)
    assert entries[27] < entries[28]
    for tiles in (TileSettings(), SMALL_TILES):
        result = check_against_brute_force(features, quantile=0.07, tiles=tiles)
        assert result.cutoff[0] == entries[27]


def test_no_samples():
    result = estimate_local_density(
        np.empty((0, 3), dtype=np.float32),
        np.empty(0, dtype=int),
        2,
        cutoff_quantile=0.6,
        n_threads=1,
        seed=0,
    )
    assert len(result.local_density) == 0
    assert np.isnan(result.cutoff).all()


class _FakeGpu:
    """Stands in for FAISS on a GPU; `digits` bits of a feature survive its products."""

    def __init__(self, monkeypatch, digits):
        import faiss

        self.n_tiles = 0
        self.digits = digits
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: self, raising=False)
        monkeypatch.setattr(faiss, "pairwise_distance_gpu", self.measure, raising=False)

    def measure(self, resources, left, right):
        assert resources is self
        self.n_tiles += 1
        left, right = (np.round(part * 2.0**self.digits) / 2.0**self.digits for part in (left, right))
        return cdist(left, right, "sqeuclidean").astype(np.float32)


@pytest.mark.parametrize(("digits", "share_float64"), [(30, 0), (8, 1)])
def test_gpu_tiles_are_used_where_they_are_precise(digits, share_float64, monkeypatch, scan_log):
    gpu = _FakeGpu(monkeypatch, digits)
    features = draw_features("normal", 300, 8, np.random.default_rng(9))
    result = estimate_local_density(
        features, np.zeros(300, dtype=int), 1, cutoff_quantile=0.6, n_threads=2, seed=0, device="auto"
    )
    cutoffs, densities, _ = brute_force(features, np.zeros(300, dtype=int), 1, 0.6)
    assert result.cutoff == cutoffs
    assert (result.local_density == densities).all()
    assert gpu.n_tiles >= 1
    assert [scan.share_float64 for scan in scan_log.scans] == [share_float64] * len(scan_log.scans)


def test_cuda_without_a_gpu_is_an_error(monkeypatch):
    import faiss

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    assert find_gpu("auto") is None
    with pytest.raises(ValueError, match="no GPU"):
        find_gpu("cuda")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        find_gpu("tpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff_quantile": 0.0}, "quantile"),
        ({"cutoff_quantile": 1.01}, "quantile"),
        ({"cutoff_quantile": float("nan")}, "quantile"),
        ({"features": np.array([[0], [np.inf], [np.nan]], dtype=np.float32)}, "row 1"),
        ({"features": np.zeros((3, 1))}, "float32"),
        ({"features": np.zeros(3, dtype=np.float32)}, "shape"),
        ({"pseudo_labels": np.array([0, 1])}, "3 features"),
        ({"pseudo_labels": np.array([0.0, 1.0, 1.0])}, "integer"),
        ({"pseudo_labels": np.array([0, 1, 2])}, "lie in"),
        ({"pseudo_labels": np.array([0, -1, 1])}, "lie in"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "features": np.zeros((3, 1), dtype=np.float32),
        "pseudo_labels": np.array([0, 1, 1]),
        "n_classes": 2,
        "cutoff_quantile": 0.6,
        "n_threads": 1,
        "seed": 0,
    } | change
    with pytest.raises(ValueError, match=message):
        estimate_local_density(**arguments)


def test_import_loads_neither_faiss_nor_torch():
    import subprocess

    code = "import stages.core.density, sys; sys.exit(bool({'faiss', 'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def sample(features, *, exact_up_to=0, sample_size=100, labels=None, n_classes=1, seed=0, **options):
    labels = np.zeros(len(features), dtype=np.int32) if labels is None else labels
    options = {"cutoff_quantile": 0.6, "n_threads": 2} | options
    sampling = Sampling(exact_up_to, sample_size)
    return estimate_local_density(features, labels, n_classes, seed=seed, sampling=sampling, **options)


def count_nearer(features, cutoff):
    return (cdist(features.astype(float), features.astype(float), "sqeuclidean") < cutoff).sum(axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [7, 64])
def test_nearer_rows_are_counted_exactly(kind, block):
    features = draw_features(kind, 150, 9, np.random.default_rng(0))
    tiles = DistanceTiles(features, np.ones(150, dtype=np.int64), block=block, map_threads=map)
    rows, columns = np.arange(0, 150, 3), np.arange(1, 150, 2)
    expected = cdist(*(features[tiles.order][part].astype(float) for part in (rows, columns)), "sqeuclidean")
    for distance in np.quantile(expected[expected > 0], [0.0, 0.3, 0.9]) if (expected > 0).any() else []:
        found = tiles.count_nearer(rows, columns, distance / tiles.unit)
        assert found.tolist() == (expected < distance).sum(axis=1).tolist()


def test_a_sampled_density_is_as_near_to_the_exact_one_as_it_says():
    features = draw_features("normal", 3000, 8, np.random.default_rng(1))
    result, exact = sample(features, sample_size=500), sample(features, exact_up_to=3000)
    error = result.sampled[0]
    assert not exact.sampled
    assert (error.sample_size, error.checked) == (500, 256)
    relative = np.abs(result.local_density / count_nearer(features, result.cutoff[0]) - 1)
    # Members count themselves with certainty; those that were checked are of the others, and a part of them.
    assert error.mean_relative_error == pytest.approx(relative.mean(), rel=0.2)
    assert 0 < error.mean_relative_error < error.largest_relative_error <= relative.max()
    difference = np.abs(result.density_weight - exact.density_weight)
    assert error.mean_weight_error == pytest.approx(difference.mean(), rel=0.3)
    assert error.largest_weight_error <= difference.max() + 0.01
    # Of n members drawn at random √(p (1 - p) / m) is the standard error; d_c adds less.
    shares = exact.local_density / 3000
    deviations = (result.local_density / 3000 - shares) / np.sqrt(shares * (1 - shares) / 500)
    assert 0.5 < np.sqrt(np.mean(deviations**2)) < 1.5
    assert np.corrcoef(result.density_weight, exact.density_weight)[0, 1] > 0.99


def test_a_larger_sample_has_a_smaller_error():
    features = draw_features("normal", 4000, 8, np.random.default_rng(2))
    small, large = (sample(features, sample_size=size).sampled[0] for size in (100, 2500))
    assert large.mean_relative_error < small.mean_relative_error / 3


def test_a_sample_depends_on_its_seed_alone():
    features = draw_features("rectified", 900, 12, np.random.default_rng(3))
    first, other = sample(features), sample(features, seed=1)
    again = sample(features, n_threads=1, settings=TileSettings(block=50))
    assert again.local_density.tolist() == first.local_density.tolist()
    assert (again.cutoff, again.sampled) == (first.cutoff, first.sampled)
    assert other.local_density.tolist() != first.local_density.tolist()


def test_a_group_is_sampled_by_itself():
    """Whatever groups there are beside it."""
    rng = np.random.default_rng(4)
    features, labels = draw_features("normal", 900, 6, rng), np.repeat([0, 1, 1], 300)
    both = sample(features, labels=labels, n_classes=2)
    alone = sample(features[300:], labels=labels[300:], n_classes=2)
    assert list(both.sampled) == [0, 1]
    assert both.local_density[300:].tolist() == alone.local_density.tolist()
    assert both.density_weight[300:].max() == 1


def test_small_groups_are_exact_beside_sampled_ones():
    rng = np.random.default_rng(5)
    features, labels = draw_features("normal", 700, 6, rng), np.repeat([0, 1], [400, 300])
    _, exact, weights = brute_force(features, labels, 2, 0.6)
    result = sample(features, labels=labels, n_classes=2, exact_up_to=300)
    assert list(result.sampled) == [0]
    assert result.local_density[400:].tolist() == exact[400:].tolist()
    for everything in ({"exact_up_to": 400}, {"sample_size": 400}):
        result = sample(features, labels=labels, n_classes=2, **everything)
        assert result.sampled == {}
        assert result.local_density.tolist() == exact.tolist()
        assert result.density_weight.tolist() == weights.tolist()


def test_sampling_identical_features_and_one_sample():
    features = np.ones((400, 3), dtype=np.float32)
    features[-1] = 5
    result = sample(features, labels=np.repeat([0, 1], [399, 1]), n_classes=2)
    assert result.density_weight.tolist() == [1.0] * 400
    assert result.local_density.tolist() == [0] * 400
    assert result.cutoff.tolist() == [0, 0]
    assert result.sampled[0].largest_relative_error == 0


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_densities_are_possible_ones(kind):
    """Between 1 and n, counted against a distance that is one of the group's; with ties as the definition has them."""
    features = draw_features(kind, 500, 5, np.random.default_rng(6))
    result = sample(features, sample_size=499)
    assert result.local_density.max() <= 500
    assert result.density_weight.max() == 1
    entries = cdist(features.astype(float), features.astype(float), "sqeuclidean")
    assert result.cutoff[0] in entries
    if result.cutoff[0]:
        np.testing.assert_allclose(result.local_density, count_nearer(features, result.cutoff[0]), atol=1)
