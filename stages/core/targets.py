"""What the samples of a dataset are trained on: label vectors, given or made, and what each counts in the loss."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Targets:
    """What the samples of a dataset are trained on for one task.

    Attributes:
        vectors: label vectors, float32 (n, C), times the weight of their sample; those of samples without a target
            are not looked at.
        known: which samples have a target, bool (n,).
        given: whose target is the dataset's own label, bool (n,).
        strength: α, weight of the loss of the other targets, against 1 for given ones.
        temperature: by which the scores of their samples are divided.
        normalization: one of `selection.NORMALIZATIONS`; see `share_loss`.
    """

    vectors: np.ndarray
    known: np.ndarray
    given: np.ndarray
    strength: float = 1
    temperature: float = 1
    normalization: str = "joint"

    @property
    def plain(self) -> bool:
        """Whether all samples count alike."""
        return self.strength == self.temperature == 1 and self.normalization == "joint"

    @classmethod
    def for_all(cls, vectors: np.ndarray, *, given: bool) -> "Targets":
        """Every sample has a target, and either all of these are given labels or none is."""
        return cls(vectors, np.full(len(vectors), True), np.full(len(vectors), given))


def share_loss(
    strengths: np.ndarray, temperatures: np.ndarray, given: np.ndarray, *, separate: bool = False
) -> np.ndarray:
    """What each sample's cross-entropy counts in a task's loss, float64 (n,).

    It is α T² over the sum of all α: a mean in which made labels count α times as much as given ones, and the
    gradients of softened scores as much as others. Where no label is given it is over the number of samples, so
    that α does not cancel out: the task then counts α times as much as others.

    Args:
        strengths: α, 1 for given labels, shape (n,).
        temperatures: T, 1 for given labels, shape (n,).
        given: whose label is, bool (n,).
        separate: take the mean over the given labels, as if there were no others, and add that of α over the made ones.
    """
    if separate:
        return strengths * temperatures**2 / np.where(given, given.sum(), (~given).sum())
    return strengths * temperatures**2 / (strengths.sum() if given.any() else len(strengths))


def make_given(
    labels: np.ndarray, n_classes: int, *, smoothing: float = 0.0, class_weights: np.ndarray | None = None
) -> np.ndarray:
    """What given labels are trained on: their vectors ȳ, smoothed and times the weight of their class, float32 (n, C).

    Args:
        labels: class indices (n,) below C; of -1 the vector is zero.
        n_classes: C.
        smoothing: share that is spread evenly over all classes.
        class_weights: of every class, (C,); None weighs all alike.
    """
    vectors = one_hot(labels, n_classes)
    if smoothing:
        vectors = np.where(labels[:, None] < 0, vectors, (1 - smoothing) * vectors + smoothing / n_classes)
    if class_weights is not None:
        vectors = vectors * class_weights[labels][:, None]
    return vectors.astype(np.float32)


def balance_classes(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights with which all classes that are there count alike and the mean over the samples is 1, float64 (C,).

    Args:
        labels: class indices (n,) below C; those of -1 do not count.
        n_classes: C.
    """
    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    return counts.sum() / (max((counts > 0).sum(), 1) * np.maximum(counts, 1))


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Label vectors ȳ, float32 (n, C), of class indices (n,) below C; zeros where the index is -1."""
    return np.vstack([np.eye(n_classes, dtype=np.float32), np.zeros(n_classes, dtype=np.float32)])[labels]
