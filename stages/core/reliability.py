"""How many pseudo labels are right in a domain whose labels are not known, and what that is worth."""

import warnings

import numpy as np

from stages.core.errors import UserError
from stages.core.selection import soften_labels

ESTIMATES = ("none", "validation", "transport")
"""What an accuracy is taken for: nothing, that on the labeled domain's validation split, or `estimate_accuracy`."""
BALANCES = ("none", "rows")
"""Whether the number of samples without a label, per sample with one, counts."""
N_SAMPLES = 10_000
"""Samples of the unlabeled domain that optimal transport looks at; the others change an estimate by about 0.005."""
MAX_ITERATIONS = 10_000_000
"""Of the network simplex."""
TEMPERATURES = (0.05, 20.0)
"""Bounds of a calibration: where all predictions are right, no temperature is small enough."""


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which predictions of known samples are most likely (Guo et al., 2017).

    The mean of -log(p_y^β / Σ_k p_k^β) is convex in β = 1/T; bisection finds where its slope is 0.

    Args:
        probabilities: p, shape (n, C), rows sum to 1.
        labels: class indices y, shape (n,).

    Returns:
        T within `TEMPERATURES`, to seven digits; above 1 where the network is too sure.
    """
    tiny = np.finfo(np.float32).tiny
    probabilities = np.maximum(probabilities, tiny, dtype=np.float64)
    logarithms = np.log(probabilities)
    true = logarithms[np.arange(len(labels)), labels]
    low, high = (np.log(temperature) for temperature in TEMPERATURES)
    while high - low > 1e-7:
        middle = (low + high) / 2
        slopes = (soften_labels(probabilities, np.exp(middle)) * logarithms).sum(axis=1) - true
        # Downhill in β is towards a lower T; where all is right it underflows to 0 at last.
        low, high = (low, middle) if slopes.mean() <= 0 else (middle, high)
    return float(np.exp(middle))


def estimate_accuracy(soft_labels: np.ndarray, frequencies: np.ndarray, seed: int) -> float:
    """Accuracy of pseudo labels by confidence optimal transport (Lu et al., 2023), from 0 to 1.

    The samples are dealt out to the classes so that each class gets its share of the labeled domain, at the
    least cost 1 - p_ik, which is the largest difference between p_i and the one-hot vector of k. The
    mean p of where they went is the estimate: the mean confidence, less what sureness of the wrong mix costs.

    Args:
        soft_labels: p, calibrated, shape (n, C), rows sum to 1.
        frequencies: of the classes in the labeled domain, shape (C,), sum to 1.
        seed: of the samples drawn from more than `N_SAMPLES`.

    Raises:
        ValueError: the solver did not find the optimum.
    """
    import ot

    drawn = np.random.default_rng(seed).permutation(len(soft_labels))[:N_SAMPLES]
    occurring = frequencies > 0
    confidences = np.ascontiguousarray(soft_labels[drawn][:, occurring], dtype=np.float64)
    masses = np.full(len(drawn), 1 / len(drawn))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            flows = ot.emd(masses, frequencies[occurring], 1 - confidences, numItermax=MAX_ITERATIONS)
        except UserWarning as warning:
            raise UserError(f"no optimal transport of soft labels to classes was found: {warning}") from None
    return float(np.clip((flows * confidences).sum(), 0, 1))


def rate_accuracy(accuracy: float, chance: float) -> float:
    """What an accuracy is worth, from 0 (no more than guessing) to 1 (all are right).

    Args:
        accuracy: from 0 to 1.
        chance: accuracy of always guessing the most frequent class.
    """
    return max(0.0, accuracy - chance) / (1 - chance) if chance < 1 else 0.0


def compare_sizes(n_unlabeled: int, n_labeled: int) -> float:
    """How much there is to learn from samples without a label: min(1, |U| / |L|)."""
    return min(1.0, n_unlabeled / n_labeled)
