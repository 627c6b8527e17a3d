"""Splitting a dataset so that every class keeps its share in every part."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np


def split_stratified(labels: Sequence[str], ratios: Mapping[str, float], seed: int) -> np.ndarray:
    """Assign every sample to a split.

    Within a class of n samples each split gets its ratio of n, rounded so that the class is used
    up, and at least one sample where n reaches the number of splits. Smaller classes fill the
    splits in the order of `ratios`. Samples are drawn by a hash of the seed, the class and the
    place in the class: neither the platform, nor a library's version, nor another class matters.

    Args:
        labels: class of every sample, shape (n,).
        ratios: share by name of the split, positive, summing to 1.
        seed: at least 0.

    Returns:
        Names of splits, strings of shape (n,).

    Raises:
        ValueError: the ratios are not positive or do not sum to 1.
    """
    if not ratios or min(ratios.values()) <= 0 or not math.isclose(sum(ratios.values()), 1, abs_tol=1e-9):
        raise ValueError(f"the ratios of a split must be positive and sum to 1, not {dict(ratios)}")
    names = np.array(list(ratios))
    labels = np.asarray(labels, dtype=object)
    assigned = np.empty(len(labels), dtype=names.dtype)
    for label in sorted(set(labels)):
        members = np.flatnonzero(labels == label)
        keys = [hashlib.sha256(f"{seed}/{place}/{label}".encode()).digest() for place in range(len(members))]
        drawn = members[sorted(range(len(members)), key=keys.__getitem__)]
        assigned[drawn] = np.repeat(names, _share(len(members), list(ratios.values())))
    return assigned


def _share(n_samples: int, ratios: list[float]) -> list[int]:
    if n_samples < len(ratios):
        return [1 if part < n_samples else 0 for part in range(len(ratios))]
    exact = [n_samples * ratio for ratio in ratios]
    counts = [math.floor(value) for value in exact]
    largest_remainders = sorted(range(len(ratios)), key=lambda part: counts[part] - exact[part])
    for part in largest_remainders[: n_samples - sum(counts)]:
        counts[part] += 1
    while 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts
