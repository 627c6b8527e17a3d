import numpy as np
import pytest

from stages.core.mixture import fit_mixture

OPTIONS = {"n_components": 2, "covariance": "diag", "max_iterations": 100, "tolerance": 1e-4, "seed": 3}


def draw_two_clouds(n_samples=300, offset=0.0):
    rng = np.random.default_rng(0)
    centres = np.array([[-5.0, 0, 0], [5.0, 1, 2]]) + offset
    members = rng.permutation(np.arange(n_samples) % 3 == 0).astype(int)
    return (centres[members] + rng.normal(size=(n_samples, 3))).astype(np.float32), centres, members


@pytest.mark.parametrize("covariance", ["diag", "spherical", "tied", "full"])
def test_two_clouds_are_found(covariance):
    features, centres, members = draw_two_clouds()
    mixture = fit_mixture(features, **{**OPTIONS, "covariance": covariance})
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.means[order], centres, atol=0.3)
    np.testing.assert_allclose(mixture.mixing_weights[order], [2 / 3, 1 / 3], atol=0.02)
    np.testing.assert_array_equal(mixture.responsibilities.argmax(1) == order[1], members == 1)
    assert mixture.converged
    assert mixture.mixing_weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(mixture.responsibilities.sum(1), 1, atol=1e-9)
    widths = {"diag": 3, "spherical": 1, "tied": 9, "full": 9}
    assert mixture.covariances.shape == (2, widths[covariance])


def test_a_far_origin_changes_nothing():
    near, _, _ = draw_two_clouds()
    far, _, _ = draw_two_clouds(offset=1000.0)
    near_mixture, far_mixture = fit_mixture(near, **OPTIONS), fit_mixture(far, **OPTIONS)
    np.testing.assert_allclose(far_mixture.means - 1000, near_mixture.means, atol=1e-3)
    np.testing.assert_allclose(far_mixture.responsibilities, near_mixture.responsibilities, atol=1e-3)


def test_responsibilities_are_the_posterior_of_the_stored_parameters():
    features, _, _ = draw_two_clouds()
    mixture = fit_mixture(features, **OPTIONS)
    differences = features[:, None] - mixture.means
    log_density = -0.5 * (differences**2 / mixture.covariances + np.log(2 * np.pi * mixture.covariances)).sum(2)
    joint = np.log(mixture.mixing_weights) + log_density
    posterior = np.exp(joint - joint.max(1, keepdims=True))
    np.testing.assert_allclose(mixture.responsibilities, posterior / posterior.sum(1, keepdims=True), atol=1e-6)


def test_the_same_seed_gives_the_same_bits():
    features, _, _ = draw_two_clouds()
    first, second = fit_mixture(features, **OPTIONS), fit_mixture(features, **OPTIONS)
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.responsibilities, second.responsibilities)


@pytest.mark.parametrize("n_samples", [1, 5])
def test_identical_features_and_single_samples_are_fitted(n_samples):
    features = np.full((n_samples, 4), 0.3, dtype=np.float32)
    mixture = fit_mixture(features, **{**OPTIONS, "n_components": min(2, n_samples)})
    np.testing.assert_allclose(mixture.means, 0.3, atol=1e-6)
    np.testing.assert_allclose(mixture.responsibilities.sum(1), 1)


def test_too_few_iterations_are_reported():
    features = np.random.default_rng(0).normal(size=(400, 6))
    mixture = fit_mixture(features, **{**OPTIONS, "n_components": 6, "max_iterations": 2, "tolerance": 1e-9})
    assert not mixture.converged
    assert mixture.iterations == 2


def test_more_components_than_samples_are_refused():
    with pytest.raises(ValueError, match=r"set mixture\.components to 3 or less"):
        fit_mixture(np.zeros((3, 2)), **{**OPTIONS, "n_components": 4})


def test_features_that_are_not_finite_are_refused():
    features = np.zeros((5, 2))
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="features of row 3 are not finite"):
        fit_mixture(features, **OPTIONS)
