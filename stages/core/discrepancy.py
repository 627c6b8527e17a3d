"""Maximum mean discrepancy between each unlabeled cluster and the labeled domain.

For the ablation "only w^g (MMD)" (the paper's table of special cases), after Gretton et al., "A kernel
two-sample test" (2012): the biased V-statistic with a Gaussian kernel of median-heuristic bandwidth.
"""

import numpy as np

SAMPLES_PER_DOMAIN = 1000
"""Samples of each domain that the median heuristic looks at."""
BLOCK = 512
"""Rows and columns of a tile of the kernel matrix; decides speed and memory, not the result."""


def estimate_bandwidth(unlabeled: np.ndarray, labeled: np.ndarray, seed: int) -> float:
    """σ² of the kernel exp(-||x - y||² / (2σ²)): the median squared distance between pooled samples.

    Args:
        unlabeled: f of the unlabeled domain, shape (n, d), finite.
        labeled: f of the labeled domain, shape (m, d), finite.
        seed: of the samples drawn from a domain with more than `SAMPLES_PER_DOMAIN`.

    Returns:
        The median over the pairs of different samples, in squared feature units; 1 where it is 0
        because most samples are identical.

    Raises:
        ValueError: a domain is empty, not finite or of another dimension than the other.
    """
    from scipy.spatial.distance import pdist

    _check_features(unlabeled, labeled)
    rng = np.random.default_rng(seed)
    drawn = [
        domain[rng.permutation(len(domain))[:SAMPLES_PER_DOMAIN]].astype(np.float64) for domain in (unlabeled, labeled)
    ]
    return float(np.median(pdist(np.concatenate(drawn), "sqeuclidean"))) or 1.0


def measure_discrepancies(
    unlabeled: np.ndarray, responsibilities: np.ndarray, labeled: np.ndarray, bandwidth: float
) -> np.ndarray:
    """MMD² between each unlabeled cluster, its samples weighted by γ_ik / Σ_i γ_ik, and the labeled domain.

    Args:
        unlabeled: f of the unlabeled domain, shape (n, d), finite.
        responsibilities: γ, shape (n, C), finite and not negative. A component with no
            responsibility at all counts as the whole unlabeled domain; no sample's distance uses it.
        labeled: f of the labeled domain, shape (m, d), finite.
        bandwidth: σ², in squared feature units, above 0.

    Returns:
        float64 of shape (C,), from 0 (same distribution) to 2, no unit.

    Raises:
        ValueError: the features are empty, not finite or of different dimensions, the
            responsibilities do not fit them, or the bandwidth is not above 0.
    """
    _check_features(unlabeled, labeled)
    if responsibilities.ndim != 2 or len(responsibilities) != len(unlabeled):
        raise ValueError(
            f"{len(unlabeled)} unlabeled samples need responsibilities of shape ({len(unlabeled)}, C), "
            f"not {responsibilities.shape}"
        )
    if not (np.isfinite(responsibilities).all() and (responsibilities >= 0).all()):
        raise ValueError("responsibilities must be finite and not negative; fit the mixture anew")
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"the bandwidth must be above 0 and finite, not {bandwidth}")
    clusters = np.where(responsibilities.sum(axis=0) > 0, responsibilities, 1.0)
    clusters /= clusters.sum(axis=0)
    # MMD² is vᵀ K v over all samples, with v positive on the cluster and negative on the labeled domain.
    signed = np.concatenate([clusters, np.full((len(labeled), clusters.shape[1]), -1 / len(labeled))])
    samples = np.concatenate([unlabeled, labeled]).astype(np.float64)
    # Centred, so that the differences of squared lengths below do not cancel far from the origin.
    samples -= samples.mean(axis=0)
    samples /= np.sqrt(bandwidth)
    half_squares = np.einsum("id,id->i", samples, samples) / 2
    blocks = [slice(start, start + BLOCK) for start in range(0, len(samples), BLOCK)]
    total = np.zeros(signed.shape[1])
    for number, rows in enumerate(blocks):
        for columns in blocks[number:]:
            kernel = samples[rows] @ samples[columns].T
            kernel -= half_squares[rows, None]
            kernel -= half_squares[columns]
            np.exp(np.minimum(kernel, 0, out=kernel), out=kernel)
            times = 1 if rows == columns else 2
            total += times * np.einsum("ik,ik->k", signed[rows], kernel @ signed[columns])
    return total.clip(min=0)


def _check_features(unlabeled: np.ndarray, labeled: np.ndarray) -> None:
    for domain, features in (("unlabeled", unlabeled), ("labeled", labeled)):
        if features.ndim != 2 or not len(features):
            raise ValueError(f"{domain} features must be samples of shape (n, d), not {features.shape}")
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise ValueError(f"{domain} features must be finite; row {int(np.argmin(finite))} is not")
    if unlabeled.shape[1] != labeled.shape[1]:
        raise ValueError(
            f"unlabeled features have {unlabeled.shape[1]} dimensions, labeled ones {labeled.shape[1]}; "
            "extract both with one network"
        )


def compare_domains(unlabeled: np.ndarray, labeled: np.ndarray, seed: int) -> dict[str, float]:
    """MMD² between two domains, and between two halves of each: what section L of the paper measures.

    Halves by k-means are as different as parts of one domain can well be, random ones differ by chance alone.

    Args:
        unlabeled: f of the unlabeled domain, shape (n, d), finite.
        labeled: f of the labeled domain, shape (m, d), finite.
        seed: of k-means and of the random halves.

    Returns:
        By name; all with the kernel whose bandwidth fits both domains. NaN where a domain has one sample.
    """
    bandwidth = estimate_bandwidth(unlabeled, labeled, seed)

    def measure(one: np.ndarray, other: np.ndarray) -> float:
        if not (len(one) and len(other)):
            return np.nan
        return float(measure_discrepancies(one, np.ones((len(one), 1)), other, bandwidth)[0])

    found = {"between the domains": measure(unlabeled, labeled)}
    for name, domain in (("unlabeled", unlabeled), ("labeled", labeled)):
        half = _split_by_means(domain, seed)
        found[f"k-means halves of the {name}"] = measure(domain[half], domain[~half])
        drawn = np.random.default_rng(seed).permutation(len(domain)) < len(domain) // 2
        found[f"random halves of the {name}"] = measure(domain[drawn], domain[~drawn])
    return found


def _split_by_means(domain: np.ndarray, seed: int) -> np.ndarray:
    """Which of two k-means clusters every sample is in, bool of shape (n,)."""
    if len(domain) < 2 or not np.ptp(domain, axis=0).any():
        return np.zeros(len(domain), dtype=bool)
    from sklearn.cluster import KMeans

    return KMeans(2, n_init=3, random_state=seed % 2**32).fit_predict(domain.astype(np.float64)) == 0
