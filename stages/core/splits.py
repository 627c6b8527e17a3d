"""Splitting a dataset so that every class keeps its share in every part."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from stages.core.errors import UserError


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
        raise UserError(f"the ratios of a split must be positive and sum to 1, not {dict(ratios)}")
    names = np.array(list(ratios))
    labels = np.asarray(labels, dtype=object)
    assigned = np.empty(len(labels), dtype=names.dtype)
    for label in sorted(set(labels)):
        drawn = _shuffle_class(labels, label, seed)
        assigned[drawn] = np.repeat(names, _share(len(drawn), list(ratios.values())))
    return assigned


def draw_stratified(labels: Sequence[str], n_samples: int, seed: int) -> np.ndarray:
    """Choose samples so that every class keeps its share, and at least one sample.

    Args:
        labels: class of every sample, shape (n,).
        n_samples: how many to choose, from the number of classes to n.
        seed: at least 0.

    Returns:
        Whether each sample is chosen, bool of shape (n,); exactly `n_samples` are.

    Raises:
        ValueError: there are fewer samples than that, or more classes.
    """
    labels = np.asarray(labels, dtype=object)
    classes = sorted(set(labels))
    if not len(classes) <= n_samples <= len(labels):
        raise UserError(
            f"{n_samples} samples cannot be drawn from {len(labels)} of {len(classes)} classes; "
            f"ask for {len(classes)} to {len(labels)}"
        )
    sizes = [int((labels == label).sum()) for label in classes]
    counts = _share(n_samples, [size / len(labels) for size in sizes])
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, counts, strict=True):
        chosen[_shuffle_class(labels, label, seed)[:count]] = True
    return chosen


def draw_part(names: Sequence[str], start: float, end: float, seed: int) -> np.ndarray:
    """Choose the samples whose hash lies between share `start` and share `end` of all hashes.

    Nothing but the seed and its own name decides about a sample: two datasets made from the same
    images, each with another label and perhaps with gaps, have disjoint parts where the shares do
    not overlap. The part's size is therefore the share of n only nearly.

    Args:
        names: name of every sample, shape (n,).
        start: share at which the part begins, from 0.
        end: share at which it ends, at most 1.
        seed: at least 0.

    Returns:
        Whether each sample is in the part, bool of shape (n,).

    Raises:
        ValueError: the shares are no interval within [0, 1].
    """
    if not 0 <= start < end <= 1:
        raise UserError(f"a part goes from a share to a larger one, both within 0 and 1, not [{start}, {end}]")
    digests = [hashlib.sha256(f"{seed}/part/{name}".encode()).digest() for name in names]
    places = np.array([int.from_bytes(digest[:6], "big") for digest in digests]) / 2**48
    return (start <= places) & (places < end)


def _shuffle_class(labels: np.ndarray, label: str, seed: int) -> np.ndarray:
    """Positions of a class in the order of a hash of the seed, the class and the place in it."""
    members = np.flatnonzero(labels == label)
    keys = [hashlib.sha256(f"{seed}/{place}/{label}".encode()).digest() for place in range(len(members))]
    return members[sorted(range(len(members)), key=keys.__getitem__)]


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
