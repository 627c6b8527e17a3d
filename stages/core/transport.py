"""Earth mover's distance from each unlabeled cluster to the labeled domain (supplementary H)."""

import warnings

import numpy as np

GROUND_DISTANCES = ("sqeuclidean", "euclidean")
TOLERANCE_MASS = 1e-6


def measure_component_distances(
    unlabeled_means: np.ndarray, labeled_means: np.ndarray, ground_distance: str = "sqeuclidean"
) -> np.ndarray:
    """d^M, the distance between every pair of component means (supplementary H).

    Args:
        unlabeled_means: μ_k, shape (C_u, d).
        labeled_means: μ_j, shape (C_l, d).
        ground_distance: `sqeuclidean`, the paper's ||μ_k - μ_j||², or `euclidean`, its root.

    Returns:
        float64 of shape (C_u, C_l), in feature units, squared where the distance is.
    """
    differences = unlabeled_means[:, None, :].astype(np.float64) - labeled_means[None, :, :]
    squared = np.einsum("kjd,kjd->kj", differences, differences)
    return squared if ground_distance == "sqeuclidean" else np.sqrt(squared)


def measure_mean_distances(
    unlabeled_means: np.ndarray, labeled_means: np.ndarray, mixing_weights: np.ndarray, ground_distance: str
) -> np.ndarray:
    """Distance from every unlabeled component to the mean m = Σ_j π_j μ_j of the labeled domain.

    With squared distances this is the earth mover's distance less a constant, the spread
    Σ_j π_j ||μ_j - m||² of the labeled domain, and gives the same weights.

    Args:
        unlabeled_means: μ_k, shape (C_u, d).
        labeled_means: μ_j, shape (C_l, d).
        mixing_weights: π of the labeled domain, shape (C_l,).
        ground_distance: see `measure_component_distances`.

    Returns:
        float64 of shape (C_u,), in the units of that distance.
    """
    mean = mixing_weights @ labeled_means / mixing_weights.sum()
    return measure_component_distances(unlabeled_means, mean[None, :], ground_distance)[:, 0]


def solve_transport(component_distances: np.ndarray, mixing_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move each unlabeled component, of mass 1, to the whole labeled domain (equation 7).

    The problem is balanced: {(μ_k, 1)} against {(μ_j, π_j)}, both of mass 1.

    Args:
        component_distances: d^M, shape (C_u, C_l), finite and not negative.
        mixing_weights: π of the labeled domain, shape (C_l,), sums to 1.

    Returns:
        h, the optimal flow, shape (C_u, C_l) with rows that sum to 1, and d^E, shape (C_u,),
        the flow's mean distance in the units of d^M, both float64.

    Raises:
        ValueError: a mass or a distance is negative or not finite, the masses do not sum to 1, or
            the solver did not find the optimum.
    """
    # Checked first because the solver answers NaN and negative masses with 0 and a mere warning.
    if not (np.isfinite(mixing_weights).all() and (mixing_weights >= 0).all()):
        raise ValueError(f"mixing weights must be finite and not negative, not {mixing_weights.tolist()}")
    if abs(mixing_weights.sum() - 1) > TOLERANCE_MASS:
        raise ValueError(f"mixing weights must sum to 1, not {mixing_weights.sum()}")
    if not (np.isfinite(component_distances).all() and (component_distances >= 0).all()):
        raise ValueError("component distances must be finite and not negative; the mixtures hold broken means")
    import ot

    masses = np.asarray(mixing_weights, dtype=np.float64) / np.sum(mixing_weights, dtype=np.float64)
    source = np.ones(1)
    flows = np.empty(component_distances.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for k, distances in enumerate(np.ascontiguousarray(component_distances, dtype=np.float64)):
            try:
                flows[k] = ot.emd(source, masses, distances[None, :])[0]
            except UserWarning as warning:
                raise ValueError(f"no optimal flow was found for component {k}: {warning}") from None
    transport_distances = (flows * component_distances).sum(axis=1) / flows.sum(axis=1)
    return flows, transport_distances
