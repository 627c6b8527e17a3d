"""Feature vectors for the eye: as points of a plane, and each with those nearest to it."""

import numpy as np

N_PRINCIPAL = 30
"""Dimensions that t-SNE is given; the rest of a trained network's features is mostly noise."""
EXACT_NEIGHBORS = 50_000
"""Samples up to which every pair is measured; above it FAISS looks into the nearest cells only."""


def project_principal(features: np.ndarray, n_dimensions: int = 2) -> np.ndarray:
    """Coordinates along the directions of largest variance.

    The sign of each direction is that of its largest loading, so that equal features give equal maps.

    Args:
        features: shape (n, d).
        n_dimensions: of the result; those beyond d are 0.

    Returns:
        Shape (n, n_dimensions), float32.
    """
    n_samples, dim = features.shape
    projected = np.zeros((n_samples, n_dimensions), dtype=np.float32)
    if n_samples == 0:
        return projected
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    kept = directions[:, ::-1][:, : min(n_dimensions, dim)]
    largest = np.take_along_axis(kept, np.abs(kept).argmax(axis=0)[None], axis=0)
    projected[:, : kept.shape[1]] = centred @ (kept * np.sign(largest)).astype(np.float32)
    return projected


def embed_neighborhoods(features: np.ndarray, seed: int) -> np.ndarray:
    """A plane in which near samples stay near (t-SNE); distances between groups mean nothing.

    Args:
        features: shape (n, d), n of at least 4.
        seed: of the embedding.

    Returns:
        Shape (n, 2), float32.
    """
    from sklearn.manifold import TSNE

    reduced = project_principal(features, min(N_PRINCIPAL, features.shape[1]))
    if not reduced.any():
        return np.zeros((len(features), 2), dtype=np.float32)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, max_iter=500, random_state=seed).fit_transform(reduced)


def find_neighbors(features: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other samples of each sample, the nearest first.

    Args:
        features: shape (n, d), float32.
        n_neighbors: k.

    Returns:
        Rows of the neighbours, shape (n, k), int32, and their Euclidean distances, float32; -1 and NaN
        where there are fewer. Beyond `EXACT_NEIGHBORS` samples a few of them may be missed.
    """
    import faiss

    n_samples, dim = features.shape
    rows = np.full((n_samples, n_neighbors), -1, dtype=np.int32)
    distances = np.full((n_samples, n_neighbors), np.nan, dtype=np.float32)
    if n_samples < 2:
        return rows, distances
    features = np.ascontiguousarray(features, dtype=np.float32)
    index = faiss.IndexFlatL2(dim)
    if n_samples > EXACT_NEIGHBORS:
        index = faiss.IndexIVFFlat(index, dim, int(2 * np.sqrt(n_samples)))
        index.train(features[:: n_samples // EXACT_NEIGHBORS])
        index.nprobe = 8
    index.add(features)
    squared, found = index.search(features, min(n_neighbors + 1, n_samples))
    # A sample finds itself, or, among copies of it, one more of these in its place.
    own = found == np.arange(n_samples)[:, None]
    own[~own.any(axis=1), -1] = True
    n_found = found.shape[1] - 1
    rows[:, :n_found] = found[~own].reshape(n_samples, n_found)
    squared = squared[~own].reshape(n_samples, n_found)
    distances[:, :n_found] = np.where(rows[:, :n_found] < 0, np.nan, np.sqrt(squared.clip(0)))
    return rows, distances
