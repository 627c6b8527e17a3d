import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import discrepancy
from stages.core.discrepancy import compare_domains, estimate_bandwidth, measure_discrepancies


def draw_domains(seed, n=23, m=17, dim=4, n_components=3):
    rng = np.random.default_rng(seed)
    unlabeled = rng.normal(size=(n, dim)).astype(np.float32)
    labeled = (rng.normal(size=(m, dim)) + 0.5).astype(np.float32)
    return unlabeled, rng.dirichlet(np.ones(n_components), n), labeled


def average_kernel(left, left_weights, right, right_weights, bandwidth):
    total = 0.0
    for x, weight_x in zip(left.astype(np.float64), left_weights, strict=True):
        for y, weight_y in zip(right.astype(np.float64), right_weights, strict=True):
            total += weight_x * weight_y * np.exp(-((x - y) ** 2).sum() / (2 * bandwidth))
    return total


def measure_directly(unlabeled, responsibilities, labeled, bandwidth):
    uniform = np.full(len(labeled), 1 / len(labeled))
    return [
        average_kernel(unlabeled, weights, unlabeled, weights, bandwidth)
        - 2 * average_kernel(unlabeled, weights, labeled, uniform, bandwidth)
        + average_kernel(labeled, uniform, labeled, uniform, bandwidth)
        for weights in (responsibilities / responsibilities.sum(axis=0)).T
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 30.0]), st.sampled_from([0.0, 1e5]))
def test_discrepancies_are_those_of_the_definition(seed, bandwidth, offset):
    unlabeled, responsibilities, labeled = draw_domains(seed)
    unlabeled, labeled = unlabeled + np.float32(offset), labeled + np.float32(offset)
    measured = measure_discrepancies(unlabeled, responsibilities, labeled, bandwidth)
    assert measured.dtype == np.float64
    expected = measure_directly(unlabeled, responsibilities, labeled, bandwidth)
    np.testing.assert_allclose(measured, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("block", [1, 7, 40, 1000])
def test_blocks_do_not_matter(block, monkeypatch):
    domains = draw_domains(1)
    monkeypatch.setattr(discrepancy, "BLOCK", block)
    np.testing.assert_allclose(measure_discrepancies(*domains, 2.0), measure_directly(*domains, 2.0), rtol=1e-11)


def test_a_cluster_that_is_the_labeled_domain_is_at_distance_zero():
    labeled, _, other = draw_domains(2)
    # The second component is the other samples; what they weigh in the first is nothing.
    responsibilities = np.repeat(np.eye(2), [len(labeled), len(other)], axis=0)
    measured = measure_discrepancies(np.concatenate([labeled, other]), responsibilities, labeled, 2.0)
    assert 0 <= measured[0] < 1e-15
    assert measured[1] > 1e-3


def test_the_discrepancy_grows_with_a_shift():
    unlabeled, responsibilities, _ = draw_domains(3)
    measured = np.array(
        [measure_discrepancies(unlabeled, responsibilities, unlabeled + shift, 4.0) for shift in (0, 1, 2, 4, 100)]
    )
    assert (np.diff(measured, axis=0) > 0).all()
    # Far apart nothing is left of the mixed term, and the two others are at most 1.
    assert (measured[-1] <= 2).all()


def test_duplicated_samples_of_half_the_weight_change_nothing():
    unlabeled, responsibilities, labeled = draw_domains(4)
    twice = measure_discrepancies(
        np.repeat(unlabeled, 2, axis=0),
        np.repeat(responsibilities / 2, 2, axis=0),
        np.repeat(labeled, 2, axis=0),
        1.5,
    )
    np.testing.assert_allclose(twice, measure_discrepancies(unlabeled, responsibilities, labeled, 1.5), rtol=1e-11)


def test_a_component_without_responsibility_counts_as_the_whole_domain():
    unlabeled, responsibilities, labeled = draw_domains(5)
    without = np.column_stack([responsibilities, np.zeros(len(unlabeled))])
    whole = np.column_stack([responsibilities, np.ones(len(unlabeled))])
    np.testing.assert_array_equal(
        measure_discrepancies(unlabeled, without, labeled, 1.0), measure_discrepancies(unlabeled, whole, labeled, 1.0)
    )


def test_the_bandwidth_is_the_median_over_pairs_of_different_samples():
    unlabeled, _, labeled = draw_domains(6)
    pooled = np.concatenate([unlabeled, labeled]).astype(np.float64)
    pairs = [((x - y) ** 2).sum() for number, x in enumerate(pooled) for y in pooled[number + 1 :]]
    assert estimate_bandwidth(unlabeled, labeled, seed=0) == pytest.approx(np.median(pairs), rel=1e-12)


def test_the_bandwidth_of_large_domains_comes_from_as_many_samples_of_each(monkeypatch):
    monkeypatch.setattr(discrepancy, "SAMPLES_PER_DOMAIN", 10)
    small, large = np.zeros((10, 1)), np.full((4000, 1), 3.0)
    # 100 of the 190 pairs are mixed; over all samples hardly any pair would be.
    assert estimate_bandwidth(large, small, seed=0) == 9
    unlabeled, _, labeled = draw_domains(7, n=300, m=300)
    assert estimate_bandwidth(unlabeled, labeled, seed=1) == estimate_bandwidth(unlabeled, labeled, seed=1)
    assert estimate_bandwidth(unlabeled, labeled, seed=1) != estimate_bandwidth(unlabeled, labeled, seed=2)


def test_identical_samples_have_a_defined_bandwidth_and_no_discrepancy():
    same = np.full((6, 3), 0.1, dtype=np.float32)
    bandwidth = estimate_bandwidth(same, same[:2], seed=0)
    assert bandwidth == 1
    np.testing.assert_allclose(measure_discrepancies(same, np.ones((6, 1)), same[:2], bandwidth), [0], atol=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_domain_and_row(value):
    unlabeled, responsibilities, labeled = draw_domains(8)
    labeled[5, 1] = value
    with pytest.raises(ValueError, match="labeled features must be finite; row 5 is not"):
        measure_discrepancies(unlabeled, responsibilities, labeled, 1.0)
    with pytest.raises(ValueError, match="unlabeled features must be finite; row 5 is not"):
        estimate_bandwidth(labeled, unlabeled, seed=0)


def test_arguments_that_do_not_fit_are_refused():
    unlabeled, responsibilities, labeled = draw_domains(9)
    with pytest.raises(ValueError, match="unlabeled features have 4 dimensions, labeled ones 3"):
        estimate_bandwidth(unlabeled, labeled[:, :3], seed=0)
    with pytest.raises(ValueError, match=r"labeled features must be samples of shape \(n, d\), not \(0, 4\)"):
        measure_discrepancies(unlabeled, responsibilities, labeled[:0], 1.0)
    with pytest.raises(ValueError, match=r"23 unlabeled samples need responsibilities of shape \(23, C\), not \(22, 3"):
        measure_discrepancies(unlabeled, responsibilities[1:], labeled, 1.0)
    with pytest.raises(ValueError, match="responsibilities must be finite and not negative"):
        measure_discrepancies(unlabeled, -responsibilities, labeled, 1.0)
    for bandwidth in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="bandwidth must be above 0 and finite"):
            measure_discrepancies(unlabeled, responsibilities, labeled, bandwidth)


def test_domains_are_compared_with_their_own_halves():
    rng = np.random.default_rng(1)
    unlabeled = rng.normal(size=(60, 4))
    labeled = rng.normal(size=(50, 4)) + 3
    found = compare_domains(unlabeled, labeled, seed=0)
    bandwidth = estimate_bandwidth(unlabeled, labeled, seed=0)
    kernel = np.exp(-((unlabeled[:, None] - labeled[None]) ** 2).sum(axis=2) / (2 * bandwidth))
    own = [np.exp(-((d[:, None] - d[None]) ** 2).sum(axis=2) / (2 * bandwidth)).mean() for d in (unlabeled, labeled)]
    assert found["between the domains"] == pytest.approx(sum(own) - 2 * kernel.mean())
    for name in ("unlabeled", "labeled"):
        assert found[f"random halves of the {name}"] < found[f"k-means halves of the {name}"]
        assert found[f"k-means halves of the {name}"] < found["between the domains"]
    assert compare_domains(unlabeled, labeled, seed=0) == found


def test_a_domain_of_one_sample_has_no_halves():
    found = compare_domains(np.ones((1, 3)), np.zeros((4, 3)), seed=0)
    assert np.isnan(found["k-means halves of the unlabeled"])
    assert found["between the domains"] > 0
