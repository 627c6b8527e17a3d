"""Local density of a large group, estimated from some of its samples, with the error that was measured.

For one group of n samples, of which m are drawn as members:

    1. d_c is the ⌈κ P⌉-th smallest of P entries drawn from the n² of the distance matrix.
    2. Of every sample the members nearer than d_c are counted, to the last one, and scaled to n.
    3. For some samples that are no members all n are counted: that is the measured error.

The result depends on the seed, and on neither threads, tiles nor device: pairs that float32 could put on the
wrong side of d_c are measured again in float64, as in the exact way (`stages/core/density.py`).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from stages.core.distance_tiles import DistanceTiles

N_CHECKED = 256
"""Samples whose density is counted exactly to see how far the estimate is from it."""


@dataclass(frozen=True)
class SamplingError:
    """How the density of a group was estimated, and how far that is from counting all of the group.

    Of the samples that were checked, all against the estimated d_c.

    Attributes:
        sample_size: m, members drawn.
        pairs: P, pairs drawn for d_c.
        checked: samples that are no members and were counted exactly.
        mean_relative_error: of ρ, mean of |estimate - ρ| / ρ.
        largest_relative_error: of ρ.
        mean_weight_error: of w^d, mean of |estimate - w^d|; for the largest ρ, as many samples again were counted
            exactly, those with the largest estimates.
        largest_weight_error: of w^d.
    """

    sample_size: int
    pairs: int
    checked: int = 0
    mean_relative_error: float = 0.0
    largest_relative_error: float = 0.0
    mean_weight_error: float = 0.0
    largest_weight_error: float = 0.0


def sample_density(
    tiles: DistanceTiles, cutoff_quantile: Fraction, sample_size: int, n_pairs: int, rng: np.random.Generator
) -> tuple[float, np.ndarray, SamplingError]:
    """Estimate d_c and ρ of one group.

    Args:
        tiles: of the group's n rows, a row for each sample.
        cutoff_quantile: κ.
        sample_size: m, below n.
        n_pairs: P.
        rng: draws pairs, members, and whom to check.

    Returns:
        d_c, a squared distance of features; ρ in the order of the rows given to `tiles`, (n,) int64; the error.
    """
    n = len(tiles.order)
    distances = tiles.measure_pairs(*rng.integers(n, size=(2, n_pairs)))
    rank = math.ceil(cutoff_quantile * n_pairs)
    cutoff = float(np.partition(distances, rank - 1)[rank - 1])
    if cutoff == 0:
        return 0.0, np.zeros(n, dtype=np.int64), SamplingError(sample_size, n_pairs)
    everybody = np.arange(n)
    members = np.sort(rng.choice(n, sample_size, replace=False))
    is_member = np.isin(everybody, members)
    # A sample is nearer than d_c to itself: that is known of all, and counted of members only.
    others = tiles.count_nearer(everybody, members, cutoff) - is_member
    estimate = np.rint(1 + others * ((n - 1) / (sample_size - is_member))).astype(np.int64)

    held_out = np.flatnonzero(~is_member)
    checked = np.sort(rng.choice(held_out, min(N_CHECKED, len(held_out)), replace=False))
    densest = np.sort(np.argsort(-estimate, kind="stable")[:N_CHECKED])
    exact, exact_densest = (tiles.count_nearer(rows, everybody, cutoff) for rows in (checked, densest))
    relative = np.abs(estimate[checked] - exact) / exact
    weight = np.abs(estimate[checked] / estimate.max() - exact / max(exact.max(), exact_densest.max()))
    density = np.empty(n, dtype=np.int64)
    density[tiles.order] = estimate
    errors = [float(value) for error in (relative, weight) for value in (error.mean(), error.max())]
    return cutoff * tiles.unit, density, SamplingError(sample_size, n_pairs, len(checked), *errors)
