import numpy as np
import pytest

from stages.core.embedding import embed_samples


def test_groups_that_are_far_apart_stay_apart_and_a_seed_gives_the_same_bits():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 30)
    features = (rng.normal(size=(60, 8)) + 20 * groups[:, None]).astype(np.float32)
    points = embed_samples(features, seed=3)
    centres = np.array([points[groups == k].mean(axis=0) for k in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == groups).all()
    assert embed_samples(features, seed=3).tobytes() == points.tobytes()


@pytest.mark.parametrize("n_samples", [0, 1, 3, 4, 7])
def test_few_or_identical_samples_have_places_too(n_samples):
    points = embed_samples(np.ones((n_samples, 5), dtype=np.float32), seed=0)
    assert points.shape == (n_samples, 2)
    assert np.isfinite(points).all()
