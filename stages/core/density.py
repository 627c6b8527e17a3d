"""Local density of every sample among the samples with its pseudo label (the paper's section G).

The result is exact at every size, unless sampling is asked for (`stages/core/sampled_density.py`): d_c and ρ
are those of the full float64 distance matrix, which is never stored. For one group of n samples:

    1. A sample of pairs brackets the cutoff.                 _guess_bracket
    2. One pass over float32 tiles counts, row by row, the    DistanceTiles.scan
       pairs below the bracket and keeps those inside it.
    3. The cutoff is found among the kept pairs; the few      _select_kept
       that rounding could put on its wrong side are
       measured again in float64.
    4. ρ is the row's count, its kept pairs below d_c, its    _estimate_group
       duplicates and itself.

                             d_c
       counted      ┌─ kept ──┼─────────┐   never looked at again
    ────────────────┴─────────┴─────────┴──────────────────────────→ squared distance
    0              low                 high

A cutoff outside of the bracket, or more pairs inside it than memory is meant for, costs another pass
(`_find_cutoff`). Equal samples are merged into one row first: their distances of 0 are known.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from stages.core.distance_tiles import Bracket, DistanceTiles, Scan, find_gpu, measure_squared_distances
from stages.core.errors import UserError
from stages.core.sampled_density import SamplingError, sample_density

MIN_SAMPLED = 2**14
"""Pairs sampled at least for a bracket."""
SIGMAS = 3.5
"""Half the width of the bracket in standard errors of the sampled quantile; a miss costs a second pass."""

EVERYTHING = Bracket(0.0, DistanceTiles.LARGEST)
"""What holds every squared distance of different rows."""


@dataclass(frozen=True)
class LocalDensity:
    """Local density of n samples in C pseudo-classes.

    Attributes:
        group_size: (n,) int64, samples with the same pseudo label.
        local_density: (n,) int64, ρ, samples of the group closer than the cutoff, itself included.
        density_weight: (n,) float64 in [0, 1], w^d, ρ over the group's largest ρ; 1 where that is 0.
        cutoff: (C,) float64, d_c, a squared distance; NaN for a class without samples.
        sampled: by class index, how far ρ is from exact where it was estimated from a sample of the group.
    """

    group_size: np.ndarray
    local_density: np.ndarray
    density_weight: np.ndarray
    cutoff: np.ndarray
    sampled: dict[int, SamplingError] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """Which groups are estimated from a sample of them.

    Attributes:
        exact_up_to: samples of the largest group that never is.
        sample_size: m, samples drawn from a larger one, 2 or more; one with no more than these is exact as well.
    """

    exact_up_to: int
    sample_size: int

    def __post_init__(self) -> None:
        if self.sample_size < 2:
            raise UserError(f"the sample of a group must have 2 samples or more, not {self.sample_size}")


@dataclass(frozen=True)
class TileSettings:
    """Sizes that decide speed and memory, never the result.

    Attributes:
        small_group: largest group whose full matrix is computed at once.
        block: rows and columns of a tile on the CPU.
        block_gpu: rows and columns of a tile on a GPU.
        max_kept: pairs kept from one pass, 16 bytes each.
        pairs_per_sample: pairs of the group for one sampled pair.
        max_sampled: largest number of sampled pairs.
    """

    small_group: int = 256
    block: int = 512
    block_gpu: int = 2048
    max_kept: int = 4_000_000
    pairs_per_sample: int = 1000
    max_sampled: int = 2**21


def estimate_local_density(
    features: np.ndarray,
    pseudo_labels: np.ndarray,
    n_classes: int,
    *,
    cutoff_quantile: float,
    n_threads: int,
    seed: int,
    device: str = "cpu",
    settings: TileSettings | None = None,
    sampling: Sampling | None = None,
) -> LocalDensity:
    """ρ, w^d and d_c of section G, per group of samples with one pseudo label.

    In a group of n samples, D_ij = ||f_i - f_j||², d_c is the ⌈κ n²⌉-th smallest of the n² entries
    (diagonal included, counted from 1) and ρ_i = #{j : D_ij < d_c}.

    Args:
        features: (n, d) float32, f.
        pseudo_labels: (n,) integers in [0, n_classes).
        n_classes: C.
        cutoff_quantile: κ in (0, 1], taken as the decimal it prints as.
        n_threads: worker threads.
        seed: of what is sampled; an exact result does not depend on it.
        device: auto, cpu or cuda, where the float32 tiles are computed.
        settings: sizes of tiles and limits.
        sampling: of large groups; None has all exact.

    Raises:
        ValueError: κ is out of range, features are not finite, the labels do not fit, or the device
            is not there.
    """
    features, pseudo_labels = _check_arguments(features, pseudo_labels, n_classes, cutoff_quantile)
    settings = settings or TileSettings()
    group_size = np.bincount(pseudo_labels, minlength=n_classes)[pseudo_labels]
    local_density = np.zeros(len(features), dtype=np.int64)
    density_weight = np.ones(len(features))
    cutoff = np.full(n_classes, np.nan)
    sampled = {}
    quantile = Fraction(str(float(cutoff_quantile)))
    limit = max(sampling.exact_up_to, sampling.sample_size) if sampling else math.inf
    rng = np.random.default_rng(seed)
    gpu = find_gpu(device)
    with ThreadPoolExecutor(n_threads, initializer=_use_one_faiss_thread) as pool:
        for group in np.unique(pseudo_labels):
            members = np.flatnonzero(pseudo_labels == group)
            # -0.0 becomes 0.0, so that equal rows have equal bytes.
            rows = features[members] + np.float32(0)
            rank = math.ceil(quantile * len(rows) ** 2)
            if len(rows) > limit:
                tiles = _cut_tiles(rows, np.ones(len(rows), dtype=np.int64), settings, pool.map, gpu)
                draws = np.random.default_rng([seed, group])
                n_pairs = _count_sampled_pairs(len(rows), settings)
                found = sample_density(tiles, quantile, sampling.sample_size, n_pairs, draws)
                cutoff[group], density, sampled[int(group)] = found
            elif len(rows) <= settings.small_group:
                cutoff[group], density = _estimate_small_group(rows, rank)
            else:
                cutoff[group], density = _estimate_group(rows, rank, rng, settings, pool.map, gpu)
            local_density[members] = density
            if density.max() > 0:
                density_weight[members] = density / density.max()
    return LocalDensity(group_size, local_density, density_weight, cutoff, sampled)


def _check_arguments(
    features: np.ndarray, pseudo_labels: np.ndarray, n_classes: int, cutoff_quantile: float
) -> tuple[np.ndarray, np.ndarray]:
    """Features and pseudo labels as arrays, once all arguments are what `estimate_local_density` wants."""
    if not 0 < cutoff_quantile <= 1:
        raise ValueError(f"the cutoff quantile must be above 0 and at most 1, not {cutoff_quantile}")
    features = np.asarray(features)
    pseudo_labels = np.asarray(pseudo_labels)
    if features.dtype != np.float32 or features.ndim != 2:
        raise ValueError(f"features must be float32 of shape (n, d), not {features.dtype} of shape {features.shape}")
    if pseudo_labels.shape != features.shape[:1] or pseudo_labels.dtype.kind not in "iu":
        raise ValueError(
            f"{len(features)} features need as many integer pseudo labels, "
            f"not {pseudo_labels.dtype} of shape {pseudo_labels.shape}"
        )
    if len(pseudo_labels) and not 0 <= pseudo_labels.min() <= pseudo_labels.max() < n_classes:
        raise ValueError(f"pseudo labels must lie in [0, {n_classes})")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(f"features must be finite; row {int(np.argmin(finite))} is not")
    return features, pseudo_labels


def _use_one_faiss_thread() -> None:
    """Give each worker one FAISS thread; OpenMP keeps this setting per thread."""
    import faiss

    faiss.omp_set_num_threads(1)


def _estimate_small_group(rows: np.ndarray, rank: int) -> tuple[float, np.ndarray]:
    """`_estimate_group` by the definition, with the full matrix."""
    rows = rows.astype(np.float64)
    distances = measure_squared_distances(rows, rows)
    cutoff = np.partition(distances, rank - 1, axis=None)[rank - 1]
    return float(cutoff), np.count_nonzero(distances < cutoff, axis=1)


def _estimate_group(
    rows: np.ndarray,
    rank: int,
    rng: np.random.Generator,
    settings: TileSettings,
    map_threads: Callable[[Callable, Iterable], Iterator],
    gpu: Any,
) -> tuple[float, np.ndarray]:
    """d_c and ρ of one group.

    Args:
        rows: (n, d) float32, f of its samples, without negative zeros.
        rank: of d_c among the n² entries of the distance matrix, from 1.
        rng: draws the sampled pairs.
        settings: sizes of tiles and limits.
        map_threads: `map` on worker threads in which FAISS uses one thread.
        gpu: FAISS GPU resources, or None for the CPU.

    Returns:
        d_c, a squared distance of features, and ρ, (n,) int64.
    """
    distinct = _merge_duplicates(rows)
    # Pairs within one row are the zeros of the matrix: the diagonal and the duplicates.
    n_zeros = int(distinct.counts @ distinct.counts)
    if rank <= n_zeros:
        return 0.0, np.zeros(len(rows), dtype=np.int64)
    # The other entries come in equal pairs (i, j) and (j, i): each is looked at once.
    rank = (rank - n_zeros + 1) // 2
    n_pairs = (len(rows) ** 2 - n_zeros) // 2
    tiles = _cut_tiles(rows[distinct.first], distinct.counts, settings, map_threads, gpu)
    position = np.empty_like(tiles.order)
    position[tiles.order] = np.arange(len(position))
    row_of_sample = position[distinct.row_of_sample]
    bracket = _guess_bracket(tiles, row_of_sample, rank / n_pairs, rng, settings)
    cutoff = _find_cutoff(tiles, rank, bracket, settings.max_kept)
    density = cutoff.nearer + tiles.counts
    return cutoff.distance * tiles.unit, density[row_of_sample]


def _cut_tiles(
    rows: np.ndarray,
    counts: np.ndarray,
    settings: TileSettings,
    map_threads: Callable[[Callable, Iterable], Iterator],
    gpu: Any,
) -> DistanceTiles:
    """The distances of rows (m, d) that stand for some samples each, (m,), in tiles as large as the device wants."""
    block = settings.block if gpu is None else settings.block_gpu
    return DistanceTiles(rows, counts, block=block, map_threads=map_threads, gpu=gpu)


def _count_sampled_pairs(n_samples: int, settings: TileSettings) -> int:
    """How many pairs of a group are enough to know about where its cutoff lies."""
    return min(max(n_samples**2 // settings.pairs_per_sample, MIN_SAMPLED), settings.max_sampled)


class _DistinctRows(NamedTuple):
    """The m different rows among n samples.

    Attributes:
        first: (m,) the first sample that each row is the feature of.
        row_of_sample: (n,) which row a sample's feature is.
        counts: (m,) int64, samples with that feature.
    """

    first: np.ndarray
    row_of_sample: np.ndarray
    counts: np.ndarray


def _merge_duplicates(rows: np.ndarray) -> _DistinctRows:
    """The different ones among float32 rows (n, d) without negative zeros: equal rows have equal bytes."""
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    return _DistinctRows(*np.unique(as_bytes, return_index=True, return_inverse=True, return_counts=True)[1:])


def _guess_bracket(
    tiles: DistanceTiles, row_of_sample: np.ndarray, fraction: float, rng: np.random.Generator, settings: TileSettings
) -> Bracket:
    """Where the cutoff probably lies, from a sample of pairs.

    Args:
        tiles: of the group's different rows.
        row_of_sample: (n,) the row of `tiles` that a sample's feature is.
        fraction: of the pairs of samples in different rows, the share that is nearer than the cutoff.
        rng: draws the pairs.
        settings: how many of them.
    """
    n = len(row_of_sample)
    left, right = row_of_sample[rng.integers(n, size=(2, _count_sampled_pairs(n, settings)))]
    different = left != right
    distances = tiles.measure_pairs(left[different], right[different])
    return _bracket_quantile(distances, np.ones(len(distances)), fraction, EVERYTHING)


class _Cutoff(NamedTuple):
    """Where the cutoff lies and what is nearer, in the rows and scaled units of `DistanceTiles`.

    Attributes:
        distance: d_c, a squared distance.
        nearer: (m,) int64, for each row the samples in other rows nearer than d_c.
    """

    distance: float
    nearer: np.ndarray


def _find_cutoff(tiles: DistanceTiles, rank: int, bracket: Bracket, max_kept: int) -> _Cutoff:
    """Scan until the bracket holds the cutoff and all pairs inside it were kept; once is the normal case.

    `proven` always holds the cutoff, the bracket only probably. Where a scan leaves no doubt that it
    missed, what is left of `proven` on that side is the next bracket; where it kept too many pairs, a
    narrower one is. In the end that is a single float: all pairs inside are equally far, and none need
    be stored to know d_c.

    Args:
        tiles: of the group's different rows.
        rank: of the cutoff among the distances of pairs of samples in different rows, from 1.
        bracket: the first to try.
        max_kept: pairs of rows stored in one scan.
    """
    proven = EVERYTHING
    while True:
        scan = tiles.scan(bracket, max_kept)
        rank_kept = rank - scan.n_below
        if rank_kept < 1:
            found = _Cutoff(-np.inf, scan.below)
        elif rank_kept > scan.n_kept:
            found = _Cutoff(np.inf, scan.below)
        elif bracket.is_single_float:
            found = _Cutoff(bracket.low, scan.below)
        elif scan.complete:
            found = _select_kept(tiles, scan, rank_kept, bracket)
        else:
            # What was kept lies within one margin of the bracket, its true distance within two.
            margin = 2.02 * tiles.find_largest_margin(bracket)
            proven = Bracket(max(proven.low, bracket.low - margin), min(proven.high, bracket.high + margin))
            bracket = _narrow_bracket(tiles, scan, rank_kept, bracket, proven)
            continue
        if bracket.low <= found.distance < bracket.high:
            return found
        missed_below = found.distance < bracket.low
        proven = Bracket(proven.low, bracket.low) if missed_below else Bracket(bracket.high, proven.high)
        bracket = proven


def _select_kept(tiles: DistanceTiles, scan: Scan, rank: int, bracket: Bracket) -> _Cutoff:
    """The cutoff among kept pairs, all of which are there.

    Order statistics of the lower and of the upper bounds enclose that of the true distances; only
    pairs whose bounds reach between the two are measured again.

    Args:
        tiles: what was scanned.
        scan: what that found for `bracket`.
        rank: of the cutoff among the kept pairs of samples, from 1.
        bracket: of the scan.
    """
    kept = scan.kept
    samples = _count_samples(tiles, kept)
    margins = tiles.find_margins(kept, bracket)
    nearest = _select_weighted(kept["distance"] - margins, samples, rank)
    farthest = _select_weighted(kept["distance"] + margins, samples, rank)
    below = kept["distance"] + margins < nearest
    unsure = np.flatnonzero(~below & (kept["distance"] - margins <= farthest))
    distances = kept["distance"][unsure].copy()
    again = unsure[margins[unsure] > 0]
    distances[margins[unsure] > 0] = tiles.measure_pairs(kept["row"][again], kept["column"][again])
    cutoff = _select_weighted(distances, samples[unsure], rank - int(samples[below].sum()))
    below[unsure[distances < cutoff]] = True
    nearer = scan.below.copy()
    pairs = kept[below]
    for end, other in (("row", "column"), ("column", "row")):
        found = np.bincount(pairs[end], weights=tiles.counts[pairs[other]], minlength=len(nearer))
        nearer += found.astype(np.int64)
    return _Cutoff(cutoff, nearer)


def _narrow_bracket(tiles: DistanceTiles, scan: Scan, rank: int, bracket: Bracket, proven: Bracket) -> Bracket:
    """A bracket at most half as wide as the one of which too many pairs were found.

    Args:
        tiles: what was scanned.
        scan: with an even selection of the pairs inside.
        rank: of the cutoff among all pairs of samples inside, from 1.
        bracket: of the scan.
        proven: what surely holds the cutoff.
    """
    margin = tiles.find_largest_margin(bracket)
    samples = _count_samples(tiles, scan.kept)
    low, high = _bracket_quantile(scan.kept["distance"], samples, rank / scan.n_kept, bracket)
    narrow = Bracket(max(low - margin, proven.low), min(high + margin, proven.high))
    if narrow.width > bracket.width / 2:
        return Bracket(bracket.low, bracket.low + bracket.width / 2)
    return narrow


def _count_samples(tiles: DistanceTiles, kept: np.ndarray) -> np.ndarray:
    """The pairs of samples that each pair of rows stands for, (m,) int64."""
    return tiles.counts[kept["row"]] * tiles.counts[kept["column"]]


def _bracket_quantile(distances: np.ndarray, samples: np.ndarray, fraction: float, limits: Bracket) -> Bracket:
    """The interval that probably holds a quantile: some standard errors of its rank to either side.

    Args:
        distances: (m,) a sample of them.
        samples: (m,) how many each stands for.
        fraction: the quantile, from 0 to 1.
        limits: which of them the interval has where the sample ends before it.
    """
    order = np.argsort(distances)
    cumulative = np.cumsum(samples[order])
    total = cumulative[-1] if len(order) else 0
    spread = SIGMAS * np.sqrt(fraction * (1 - fraction) * np.square(samples, dtype=np.float64).sum())
    spread += samples.max(initial=1)
    first, last = np.searchsorted(cumulative, [fraction * total - spread, fraction * total + spread])
    low = distances[order[first]] if fraction * total > spread else limits.low
    high = np.nextafter(distances[order[last]], np.inf) if last < len(order) else limits.high
    return Bracket(float(low), float(high))


def _select_weighted(values: np.ndarray, samples: np.ndarray, rank: int) -> float:
    """The `rank`-th smallest, from 1, of values (m,) of which each stands for a number of samples, (m,)."""
    if samples.max() == 1:
        return float(np.partition(values, rank - 1)[rank - 1])
    order = np.argsort(values)
    return float(values[order[np.searchsorted(np.cumsum(samples[order]), rank)]])
