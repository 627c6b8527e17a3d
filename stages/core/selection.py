"""From what the network says about a sample to the label it is trained on (sections 4.1 and 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CRITERIA = ("confidence", "density", "distribution")
"""The three weights a method may multiply: w^c, w^d and w^g."""
DECAY_SCALES = ("absolute", "median")
"""Whether λ is per unit of distance, or per median distance of the unlabeled samples."""
ALIGNMENTS = ("none", "once", "full")
"""Whether soft labels are scaled by what their mean lacks of a class mix: not, once, or until it is their mean."""
MAX_ALIGNMENTS = 1000
TOLERANCE_ALIGNMENT = 1e-5
"""How far a full alignment may leave the mean share of a class from its target."""
INTERPOLATIONS = ("soft", "threshold")
"""Whether w itself interpolates the labels, or 0 and 1 on either side of a quantile of w."""
NORMALIZATIONS = ("joint", "separate")
"""Whether the loss of a task is one mean over given and made labels, or the sum of a mean over each."""


@dataclass(frozen=True)
class Selection:
    """Every weight of every sample, shape (n,) each, float64; None where it was not computed.

    Attributes:
        pseudo_labels: class index of the largest soft label, or the refined one, int32.
        confidence_weights: w^c.
        density_weights: w^d.
        confident_weights: w^s = w^c w^d.
        sample_distances: d̂.
        distribution_weights: w^g = exp(-λ d̂), or of d̂ over its median; may underflow to 0, which w never relies on.
        selection_weights: w.
    """

    pseudo_labels: np.ndarray
    confidence_weights: np.ndarray
    density_weights: np.ndarray | None
    confident_weights: np.ndarray | None
    sample_distances: np.ndarray | None
    distribution_weights: np.ndarray | None
    selection_weights: np.ndarray


def weigh_samples(
    soft_labels: np.ndarray,
    *,
    criteria: Sequence[str] | float,
    pseudo_labels: np.ndarray | None = None,
    density_weights: np.ndarray | None = None,
    responsibilities: np.ndarray | None = None,
    transport_distances: np.ndarray | None = None,
    decay: float | None = None,
    decay_scale: str = "absolute",
    sharpness: float = 1,
) -> Selection:
    """Combine confidence, density and distribution into the selection weight w (section 4.2).

    w_i is the product of the criteria, to the power of `sharpness`, over its largest value. It is formed
    from logarithms, so that squared distances of hundreds, at which exp(-λ d̂) is 0 in float64, still
    rank the samples and the largest weight is exactly 1.

    Args:
        soft_labels: ỹ, shape (n, C), rows sum to 1.
        criteria: which of `CRITERIA` to multiply, or a constant weight from 0 to 1.
        pseudo_labels: class indices, shape (n,), where something better is known than the largest
            soft label (lowest index on ties).
        density_weights: w^d, shape (n,), above 0; needed by `density`.
        responsibilities: γ, shape (n, C_u); needed by `distribution`.
        transport_distances: d^E, or another distance of each cluster from the labeled domain,
            shape (C_u,); needed by `distribution`.
        decay: λ; needed by `distribution`.
        decay_scale: what λ is per, one of `DECAY_SCALES`.
        sharpness: above 1 only the best keep a large weight, below 1 weights are nearer to each other.

    Raises:
        ValueError: a criterion is unknown or its ingredients are missing.
    """
    soft_labels = np.asarray(soft_labels, dtype=np.float64)
    if pseudo_labels is None:
        pseudo_labels = soft_labels.argmax(axis=1).astype(np.int32)
    confidence = soft_labels.max(axis=1)
    distances = distribution = None
    if responsibilities is not None and transport_distances is not None and decay is not None:
        distances = responsibilities @ transport_distances
        if decay_scale == "median":
            # Where it is 0 most samples lie in the labeled domain, and nothing says how far is far.
            decay = decay / (np.median(distances) or 1.0)
        distribution = np.exp(-decay * distances)
    if isinstance(criteria, int | float):
        weights = np.full(len(soft_labels), float(criteria))
    else:
        logarithms = {
            "confidence": np.log(confidence),
            "density": None if density_weights is None else np.log(density_weights),
            "distribution": None if distances is None else -decay * distances,
        }
        weights = normalise_weights(sharpness * sum(_pick(logarithms, criterion) for criterion in criteria))
    return Selection(
        pseudo_labels=pseudo_labels,
        confidence_weights=confidence,
        density_weights=density_weights,
        confident_weights=None if density_weights is None else confidence * density_weights,
        sample_distances=distances,
        distribution_weights=distribution,
        selection_weights=weights,
    )


def normalise_weights(log_weights: np.ndarray) -> np.ndarray:
    """exp(log w) over its maximum, shape (n,); the largest is exactly 1, whatever the scale."""
    return np.exp(log_weights - log_weights.max())


def threshold_weights(selection_weights: np.ndarray, quantile: float) -> np.ndarray:
    """1 for the samples whose weight reaches a quantile of all weights, 0 for the others.

    Hard selection, as pseudo labelling usually has it: the best keep their pseudo labels, the
    others their soft labels.

    Args:
        selection_weights: w, shape (n,).
        quantile: share of the samples to leave out, from 0 (none) to 1 (all but the best).
    """
    return (selection_weights >= np.quantile(selection_weights, quantile, method="higher")).astype(np.float64)


def align_labels(soft_labels: np.ndarray, frequencies: np.ndarray, alignment: str) -> np.ndarray:
    """Soft labels with the class mix of the labeled domain, shape (n, C), float64, rows sum to 1.

    Distribution alignment, as in ReMixMatch (Berthelot et al., 2020): ỹ_k is multiplied by the class's
    frequency over its mean ỹ, and rows are normalised. Repeated, that converges to labels with the given mix,
    the nearest to ỹ by Kullback-Leibler divergence; labels that have it already stay as they are.

    Args:
        soft_labels: ỹ, shape (n, C), rows sum to 1.
        frequencies: shape (C,), not negative, sum to 1; a class that never occurs is given to no sample.
        alignment: one of `ALIGNMENTS`.
    """
    soft_labels = np.asarray(soft_labels, dtype=np.float64)
    if alignment == "none":
        return soft_labels
    occurring = frequencies > 0
    # A sample that is certain of one class in float32 still leaves the others a way.
    scores = np.log(np.maximum(soft_labels[:, occurring], np.finfo(np.float32).tiny))
    target = np.log(frequencies[occurring])
    for _ in range(1 if alignment == "once" else MAX_ALIGNMENTS):
        mean = np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))
        if np.abs(np.exp(mean) - frequencies[occurring]).max() <= TOLERANCE_ALIGNMENT:
            break
        scores += target - mean
        scores -= np.logaddexp.reduce(scores, axis=1)[:, None]
    aligned = np.zeros_like(soft_labels)
    aligned[:, occurring] = np.exp(scores)
    return aligned


def soften_labels(soft_labels: np.ndarray, temperature: float) -> np.ndarray:
    """ỹ' with ỹ'_j ∝ ỹ_j^(1/T) (section 4.2), shape (n, C), float64, rows sum to 1.

    Args:
        soft_labels: ỹ, shape (n, C).
        temperature: T, above 0; larger is flatter, 1 changes nothing.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    soft_labels = np.asarray(soft_labels, dtype=np.float64)
    # Divided by the row's maximum first: with T < 1 the power of a small row would underflow whole.
    powers = (soft_labels / soft_labels.max(axis=1, keepdims=True)) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def interpolate_labels(
    softened_labels: np.ndarray, pseudo_labels: np.ndarray, selection_weights: np.ndarray
) -> np.ndarray:
    """ŷ = w ȳ + (1 - w) ỹ' (equation 6), shape (n, C), float64.

    Args:
        softened_labels: ỹ', shape (n, C).
        pseudo_labels: class index of ȳ, shape (n,).
        selection_weights: w, shape (n,), from 0 to 1.
    """
    labels = (1 - selection_weights)[:, None] * softened_labels
    labels[np.arange(len(labels)), pseudo_labels] += selection_weights
    return labels


def _pick(logarithms: dict[str, np.ndarray | None], criterion: str) -> np.ndarray:
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion '{criterion}'; there are {', '.join(CRITERIA)}")
    if logarithms[criterion] is None:
        raise ValueError(f"the criterion '{criterion}' was asked for, but its table was not given")
    return logarithms[criterion]
