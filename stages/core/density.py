"""Local density of every sample among the samples with its pseudo label (the paper's section G).

The result is exact at every size: d_c and ρ are those of the full float64 distance matrix, which is
never stored. A sample of pairs brackets the quantile, one pass over float32 tiles counts what lies
below the bracket and keeps the few pairs inside it, and those near the cutoff are measured again in
float64.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from stages.core.distance_tiles import DistanceTiles, Scan, find_gpu, measure_squared_distances

SIGMAS = 3.5
"""Half the width of the bracket in standard errors of the sampled quantile; a miss costs a second pass."""


@dataclass(frozen=True)
class LocalDensity:
    """Local density of n samples in C pseudo-classes.

    Attributes:
        group_size: (n,) int64, samples with the same pseudo label.
        local_density: (n,) int64, ρ, samples of the group closer than the cutoff, itself included.
        density_weight: (n,) float64 in [0, 1], w^d, ρ over the group's largest ρ; 1 where that is 0.
        cutoff: (C,) float64, d_c, a squared distance; NaN for a class without samples.
    """

    group_size: np.ndarray
    local_density: np.ndarray
    density_weight: np.ndarray
    cutoff: np.ndarray


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
        seed: of the sampled pairs, which the result does not depend on.
        device: auto, cpu or cuda, where the float32 tiles are computed.
        settings: sizes of tiles and limits.

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
    rng = np.random.default_rng(seed)
    gpu = find_gpu(device)
    with ThreadPoolExecutor(n_threads, initializer=_use_one_faiss_thread) as pool:
        for group in np.unique(pseudo_labels):
            members = np.flatnonzero(pseudo_labels == group)
            # -0.0 becomes 0.0, so that equal rows have equal bytes.
            rows = features[members] + np.float32(0)
            rank = math.ceil(Fraction(str(float(cutoff_quantile))) * len(rows) ** 2)
            if len(rows) <= settings.small_group:
                cutoff[group], density = _estimate_small_group(rows, rank)
            else:
                cutoff[group], density = _estimate_group(rows, rank, rng, settings, pool.map, gpu)
            local_density[members] = density
            if density.max() > 0:
                density_weight[members] = density / density.max()
    return LocalDensity(group_size, local_density, density_weight, cutoff)


def _check_arguments(
    features: np.ndarray, pseudo_labels: np.ndarray, n_classes: int, cutoff_quantile: float
) -> tuple[np.ndarray, np.ndarray]:
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
    _, first, inverse, counts = np.unique(
        rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    # Pairs within one row are the zeros of the matrix: the diagonal and the duplicates.
    n_zeros = int(counts @ counts)
    if rank <= n_zeros:
        return 0.0, np.zeros(len(rows), dtype=np.int64)
    block = settings.block if gpu is None else settings.block_gpu
    tiles = DistanceTiles(rows[first], counts, block=block, map_threads=map_threads, gpu=gpu)
    position = np.empty_like(first)
    position[tiles.order] = np.arange(len(first))
    # The other entries come in equal pairs (i, j) and (j, i): each is looked at once.
    rank = (rank - n_zeros + 1) // 2
    fraction = rank / ((len(rows) ** 2 - n_zeros) // 2)
    n_sampled = min(max(len(rows) ** 2 // settings.pairs_per_sample, 2**14), settings.max_sampled)
    left, right = position[inverse[rng.integers(len(rows), size=(2, n_sampled))]]
    different = left != right
    sampled = tiles.measure_pairs(left[different], right[different])
    bracket = _bracket_quantile(sampled, np.ones(len(sampled)), fraction, (0.0, DistanceTiles.LARGEST))
    cutoff, below = _find_cutoff(tiles, rank, bracket, settings.max_kept)
    density = below + tiles.counts
    return cutoff * tiles.unit, density[position[inverse]]


def _find_cutoff(
    tiles: DistanceTiles, rank: int, bracket: tuple[float, float], max_kept: int
) -> tuple[float, np.ndarray]:
    """The distance of the `rank`-th nearest pair of samples, and each row's samples in nearer rows.

    Scans until the bracket holds the cutoff and all pairs inside it were kept. `proven` always
    holds the cutoff; the bracket only probably does.
    """
    proven = (0.0, DistanceTiles.LARGEST)
    while True:
        low, high = bracket
        scan = tiles.scan(low, high, max_kept)
        rank_kept = rank - scan.n_below
        single_float = np.nextafter(low, np.inf) >= high
        if rank_kept < 1:
            cutoff = -np.inf
        elif rank_kept > scan.n_kept:
            cutoff = np.inf
        elif single_float:
            return low, scan.below
        elif scan.complete:
            cutoff, below = _select_kept(tiles, scan, rank_kept, bracket)
        else:
            # What was kept lies within one margin of the bracket, its true distance within two.
            margin = 2.02 * tiles.find_largest_margin(low, high)
            proven = max(proven[0], low - margin), min(proven[1], high + margin)
            bracket = _narrow_bracket(tiles, scan, rank_kept, bracket, proven)
            continue
        if low <= cutoff < high:
            return cutoff, below
        proven = (proven[0], low) if cutoff < low else (high, proven[1])
        bracket = proven


def _select_kept(tiles: DistanceTiles, scan: Scan, rank: int, bracket: tuple[float, float]) -> tuple[float, np.ndarray]:
    """The `rank`-th smallest of the kept distances, and each row's samples in rows nearer than it.

    Order statistics of lower and upper bounds enclose that of the true distances; only pairs whose
    bounds reach between the two are measured again.
    """
    kept = scan.kept
    samples = tiles.counts[kept["row"]] * tiles.counts[kept["column"]]
    margins = tiles.find_margins(kept, *bracket)
    nearest = _select_weighted(kept["distance"] - margins, samples, rank)
    farthest = _select_weighted(kept["distance"] + margins, samples, rank)
    below = kept["distance"] + margins < nearest
    unsure = np.flatnonzero(~below & (kept["distance"] - margins <= farthest))
    distances = kept["distance"][unsure].copy()
    again = unsure[margins[unsure] > 0]
    distances[margins[unsure] > 0] = tiles.measure_pairs(kept["row"][again], kept["column"][again])
    cutoff = _select_weighted(distances, samples[unsure], rank - int(samples[below].sum()))
    below[unsure[distances < cutoff]] = True
    total = scan.below.copy()
    nearer = kept[below]
    for end, other in (("row", "column"), ("column", "row")):
        found = np.bincount(nearer[end], weights=tiles.counts[nearer[other]], minlength=len(total))
        total += found.astype(np.int64)
    return cutoff, total


def _narrow_bracket(
    tiles: DistanceTiles, scan: Scan, rank: int, bracket: tuple[float, float], proven: tuple[float, float]
) -> tuple[float, float]:
    """A bracket at most half as wide, from an even selection of the pairs inside the old one."""
    low, high = bracket
    kept = scan.kept
    samples = tiles.counts[kept["row"]] * tiles.counts[kept["column"]]
    margin = tiles.find_largest_margin(low, high)
    narrow_low, narrow_high = _bracket_quantile(kept["distance"], samples, rank / scan.n_kept, bracket)
    narrow_low = max(narrow_low - margin, proven[0])
    narrow_high = min(narrow_high + margin, proven[1])
    if narrow_high - narrow_low > (high - low) / 2:
        return low, low + (high - low) / 2
    return narrow_low, narrow_high


def _bracket_quantile(
    distances: np.ndarray, samples: np.ndarray, fraction: float, limits: tuple[float, float]
) -> tuple[float, float]:
    """The interval [low, high) that probably holds a quantile, from a weighted sample; else `limits`."""
    order = np.argsort(distances)
    cumulative = np.cumsum(samples[order])
    total = cumulative[-1] if len(order) else 0
    spread = SIGMAS * np.sqrt(fraction * (1 - fraction) * np.square(samples, dtype=np.float64).sum())
    spread += samples.max(initial=1)
    first, last = np.searchsorted(cumulative, [fraction * total - spread, fraction * total + spread])
    low = distances[order[first]] if fraction * total > spread else limits[0]
    high = np.nextafter(distances[order[last]], np.inf) if last < len(order) else limits[1]
    return float(low), float(high)


def _select_weighted(values: np.ndarray, samples: np.ndarray, rank: int) -> float:
    """The `rank`-th smallest value, from 1, where every value stands for a number of samples."""
    if samples.max() == 1:
        return float(np.partition(values, rank - 1)[rank - 1])
    order = np.argsort(values)
    return float(values[order[np.searchsorted(np.cumsum(samples[order]), rank)]])
