"""Whether the weights can be trusted: pseudo-label accuracy along each of them."""

from collections.abc import Mapping

import numpy as np

N_FIFTHS = 5
DENSE, SPARSE = 0.95, 0.15
"""Beyond which w^d section L of the paper counts a sample as dense, below which as sparse."""


def split_by_rank(values: np.ndarray, n_parts: int) -> list[np.ndarray]:
    """Rows of equally large parts of the samples, the lowest values first, shape (n / n_parts,) each.

    Ties are ranked by row, so a weight that hardly varies shows parts that hardly differ.
    """
    return np.array_split(np.argsort(values, kind="stable"), n_parts)


def audit_weights(correct: np.ndarray, weights: Mapping[str, np.ndarray]) -> list[dict]:
    """Accuracy of the pseudo labels in each fifth of the samples, ranked by each weight.

    Args:
        correct: whether each pseudo label is right, shape (n,), bool.
        weights: weight of every sample by name, shape (n,) each.

    Returns:
        One row per weight and fifth that has samples: `weight`, `fifth` (1 is the lowest),
        `n_samples`, `lowest`, `highest` and `pseudo_label_accuracy`.
    """
    rows = []
    for name, values in weights.items():
        for fifth, members in enumerate(split_by_rank(values, N_FIFTHS), start=1):
            if not len(members):
                continue
            rows.append(
                {
                    "weight": name,
                    "fifth": fifth,
                    "n_samples": len(members),
                    "lowest": values[members].min(),
                    "highest": values[members].max(),
                    "pseudo_label_accuracy": correct[members].mean(),
                }
            )
    return rows


def measure_ranks(correct: np.ndarray, values: np.ndarray, n_parts: int) -> np.ndarray:
    """Accuracy in each part of the samples, ranked by a weight.

    Args:
        correct: whether each pseudo label is right, shape (n,), bool.
        values: the weight, shape (n,).
        n_parts: P, such as 5 or 10.

    Returns:
        Shares of shape (P,), the lowest weights first; NaN for a part without samples, and for all
        of them where the weight is null or constant and ranks nothing.
    """
    if not len(values) or not np.isfinite(values).all() or np.ptp(values) == 0:
        return np.full(n_parts, np.nan)
    return np.array([correct[part].mean() if len(part) else np.nan for part in split_by_rank(values, n_parts)])


def measure_reliability(correct: np.ndarray, confidence: np.ndarray, n_bins: int = 10) -> dict[str, np.ndarray | float]:
    """How often the network is right where it is so confident.

    Args:
        correct: whether each pseudo label is right, shape (n,), bool.
        confidence: w^c, shape (n,), from 0 to 1.
        n_bins: B, of equal width.

    Returns:
        `n_samples`, `confidence` (its mean) and `accuracy` by bin, shape (B,), NaN where a bin is
        empty, and `error`: the expected calibration error, the mean distance of the two.
    """
    places = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    n_samples = np.bincount(places, minlength=n_bins)
    filled = np.where(n_samples > 0, n_samples, np.nan)
    means = np.bincount(places, confidence, n_bins) / filled
    accuracy = np.bincount(places, correct, n_bins) / filled
    error = float(np.nansum(np.abs(means - accuracy) * n_samples) / max(1, len(confidence)))
    return {"n_samples": n_samples, "confidence": means, "accuracy": accuracy, "error": error}


def contrast_density(correct: np.ndarray, density_weights: np.ndarray) -> dict[str, tuple[float, int]]:
    """Section L: accuracy and number of the samples whose w^d is above `DENSE` and below `SPARSE`; NaN without such.

    Args:
        correct: whether each pseudo label is right, shape (n,), bool.
        density_weights: w^d, shape (n,); NaN is in neither.
    """
    members = {"dense": density_weights > DENSE, "sparse": density_weights < SPARSE}
    return {
        name: (float(correct[chosen].mean()) if chosen.any() else np.nan, int(chosen.sum()))
        for name, chosen in members.items()
    }
