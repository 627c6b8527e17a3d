"""Gaussian mixtures that group each domain into clusters (section 4.1.2, supplementary H)."""

import warnings
from dataclasses import dataclass

import numpy as np

from stages.core.errors import UserError

COVARIANCES = ("diag", "spherical", "tied", "full")
REGULARISATION = 1e-6
"""Added to every variance: keeps a component on few or identical samples from collapsing."""


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture of C components on d-dimensional features.

    Attributes:
        mixing_weights: π, shape (C,), sums to 1.
        means: μ, shape (C, d), in the units of the features.
        covariances: shape (C, p), each component's covariance flattened (p = d for `diag`,
            1 for `spherical`, d * d for `tied` and `full`).
        responsibilities: γ, shape (n, C), posterior of every component; rows sum to 1.
        converged: whether EM met its tolerance.
        iterations: EM steps of the best start.
        log_likelihood: mean log likelihood per sample, on centred features.
    """

    mixing_weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    responsibilities: np.ndarray
    converged: bool
    iterations: int
    log_likelihood: float


def fit_mixture(
    features: np.ndarray,
    *,
    n_components: int,
    covariance: str,
    max_iterations: int,
    tolerance: float,
    seed: int,
) -> Mixture:
    """Fit a Gaussian mixture by expectation maximisation from a k-means start.

    The features are centred and taken to float64 first: scikit-learn's EM loses components in
    float32, and far from the origin its variances cancel.

    Args:
        features: f of one domain, shape (n, d), finite.
        n_components: C, at most n.
        covariance: one of `COVARIANCES`.
        max_iterations: EM steps at most; a fit that ends there has `converged` False.
        tolerance: gain in mean log likelihood below which EM stops.
        seed: of the start.

    Raises:
        ValueError: there are fewer samples than components, a feature is not finite, or EM breaks down.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    n_samples, dim = features.shape
    if n_samples < n_components:
        raise UserError(
            f"{n_components} mixture components need at least as many samples, but there are {n_samples}; "
            f"set mixture.components to {n_samples} or less"
        )
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(axis=1)))
        raise UserError(f"the features of row {row} are not finite; the network that made them has diverged")
    centre = features.mean(axis=0, dtype=np.float64)
    centred = features - centre
    model = GaussianMixture(
        n_components,
        covariance_type=covariance,
        max_iter=max_iterations,
        tol=tolerance,
        reg_covar=REGULARISATION,
        random_state=seed % 2**32,
    )
    # k-means adds up the sums of its OpenMP threads in the order in which they finish.
    with threadpool_limits(limits=1, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A single sample is doubled: scikit-learn wants two, and its mean stays the same.
        try:
            model.fit(np.repeat(centred, 2, axis=0) if n_samples == 1 else centred)
            responsibilities = model.predict_proba(centred)
        except RuntimeWarning as warning:
            raise UserError(f"the mixture cannot be fitted ({warning}); lower mixture.components") from None
    covariances = model.covariances_
    if covariance == "tied":
        covariances = np.broadcast_to(covariances, (n_components, dim, dim))
    return Mixture(
        mixing_weights=model.weights_ / model.weights_.sum(),
        means=model.means_ + centre,
        covariances=np.reshape(covariances, (n_components, -1)),
        responsibilities=responsibilities,
        converged=bool(model.converged_),
        iterations=int(model.n_iter_),
        log_likelihood=float(model.lower_bound_),
    )
