"""Samples of high dimension as points of a plane."""

import numpy as np

PERPLEXITY = 30.0


def embed_samples(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of features, started from their first two principal components.

    Args:
        features: f, shape (n, d), finite.
        seed: of the optimisation.

    Returns:
        Points of shape (n, 2), float32; all at the origin where there are fewer than four.
    """
    if len(features) < 4:
        return np.zeros((len(features), 2), dtype=np.float32)
    from sklearn.manifold import TSNE

    # Identical features have no principal components to start from.
    start = "pca" if min(features.shape) >= 2 and np.ptp(features, axis=0).any() else "random"
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    model = TSNE(perplexity=perplexity, init=start, random_state=seed % 2**32)
    return model.fit_transform(np.ascontiguousarray(features, dtype=np.float32))
