"""Pseudo labels refined by a Markov random field, for the baseline DCN-AP (supplementary, baselines).

Every sample is a node with the network's probabilities as its unary term; edges to its nearest
neighbours in feature space ask for equal labels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Refinement:
    """The mean field of the random field over n samples and C classes.

    Attributes:
        probabilities: q, shape (n, C), float64, rows sum to 1.
        iterations: updates that were made.
        converged: whether the last update moved no probability by more than the tolerance.
    """

    probabilities: np.ndarray
    iterations: int
    converged: bool


def build_graph(features: np.ndarray, n_neighbors: int, n_threads: int) -> sparse.csr_matrix:
    """s, the normalised Gaussian similarities of nearest neighbours.

    S_ij = exp(-||f_i - f_j||² / σ²) where j is among the k nearest samples of i or i among those of
    j, with σ² the mean squared distance to a neighbour, and s = D^(-1/2) S D^(-1/2) with D the row
    sums of S, so that the spectral norm of s is at most 1. The search is exhaustive; only
    samples whose distances are equal to float32 rounding may be taken for one another.

    Args:
        features: f, shape (n, d), float32, finite.
        n_neighbors: k, at least 1; n - 1 where there are fewer samples.
        n_threads: of FAISS.

    Returns:
        float64 of shape (n, n), symmetric, with nothing on its diagonal.

    Raises:
        ValueError: a feature is not finite, or k is below 1.
    """
    import faiss

    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be 1 or more, not {n_neighbors}")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(f"features must be finite; row {int(np.argmin(finite))} is not")
    n = len(features)
    k = min(n_neighbors, n - 1)
    if k < 1:
        return sparse.csr_matrix((n, n))
    # Similarities do not depend on place and scale, but the rounding of FAISS's float32 does; around the
    # mean, one outlier would take all others far from the origin.
    centred = features - np.median(features.astype(np.float64), axis=0)
    centred /= np.abs(centred).max() or 1
    queries = centred.astype(np.float32)
    faiss.omp_set_num_threads(n_threads)
    index = faiss.IndexFlatL2(queries.shape[1])
    index.add(queries)
    _, found = index.search(queries, k + 1)
    # Among duplicates a sample need not find itself; the farthest goes in its place.
    dropped = found == np.arange(n)[:, None]
    dropped[~dropped.any(axis=1), -1] = True
    neighbours = found[~dropped].reshape(n, k)
    squared = np.stack([np.square(centred - centred[column]).sum(axis=1) for column in neighbours.T], axis=1)
    similarities = np.exp(-squared / (squared.mean() or 1))
    directed = sparse.csr_matrix((similarities.ravel(), neighbours.ravel(), np.arange(n + 1) * k), shape=(n, n))
    graph = directed.maximum(directed.T).tocoo()
    degrees = graph.sum(axis=1).A1
    roots = np.sqrt(np.where(degrees > 0, degrees, 1))
    graph.data /= roots[graph.row] * roots[graph.col]
    return graph.tocsr()


def refine_soft_labels(
    soft_labels: np.ndarray,
    graph: sparse.csr_matrix,
    strength: float,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
) -> Refinement:
    """Mean field q_i ∝ exp(log p_i + η Σ_j s_ij q_j), all samples updated at once from q = p.

    A softmax changes by at most half as much as its scores, and the spectral norm of s is at most
    1: with η < 2 the update is a contraction, and the fixed point is unique and does not depend on
    the start. A class of probability 0 keeps it.

    Args:
        soft_labels: p, shape (n, C), finite, not negative, each row with something above 0.
        graph: s, shape (n, n), as of `build_graph`.
        strength: η, 0 or more; 0 changes no label.
        max_iterations: updates at most; a refinement that ends there has `converged` False.
        tolerance: largest change of a probability at which the updates stop.

    Raises:
        ValueError: the soft labels do not fit the graph or are no probabilities, or the strength is
            negative or not finite.
    """
    if not 0 <= strength < np.inf:
        raise ValueError(f"the strength must be 0 or more and finite, not {strength}")
    if soft_labels.ndim != 2 or graph.shape != (len(soft_labels), len(soft_labels)):
        raise ValueError(f"soft labels of shape {soft_labels.shape} do not fit a graph of shape {graph.shape}")
    probabilities = np.asarray(soft_labels, dtype=np.float64)
    valid = np.isfinite(probabilities).all(axis=1) & (probabilities >= 0).all(axis=1) & (probabilities > 0).any(axis=1)
    if not valid.all():
        raise ValueError(f"soft labels must be probabilities; row {int(np.argmin(valid))} is not")
    with np.errstate(divide="ignore"):
        unary = np.log(probabilities)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    for iteration in range(1, max_iterations + 1):
        scores = unary + strength * (graph @ probabilities)
        updated = np.exp(scores - scores.max(axis=1, keepdims=True))
        updated /= updated.sum(axis=1, keepdims=True)
        change = np.abs(updated - probabilities).max()
        probabilities = updated
        if change <= tolerance:
            return Refinement(probabilities, iteration, converged=True)
    return Refinement(probabilities, max_iterations, converged=False)
