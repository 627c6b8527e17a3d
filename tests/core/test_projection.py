import numpy as np
import pytest

from stages.core import projection
from stages.core.projection import embed_neighborhoods, find_neighbors, project_principal


@pytest.fixture
def groups():
    """Three groups of 40 in eight dimensions, far apart."""
    rng = np.random.default_rng(3)
    centres = 20 * np.eye(8)[:3]
    return (centres.repeat(40, axis=0) + rng.normal(size=(120, 8))).astype(np.float32)


def test_the_plane_is_that_of_the_largest_variance(groups):
    plane = project_principal(groups)
    centred = groups - groups.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(plane, axis=0), singular[:2], rtol=1e-4)
    np.testing.assert_allclose(plane.mean(axis=0), 0, atol=1e-4)
    assert (plane == project_principal(groups)).all()


def test_mirrored_features_have_a_mirrored_map_whatever_signs_the_solver_gives(groups):
    np.testing.assert_allclose(project_principal(-groups), -project_principal(groups), atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (5, 1)])
def test_few_samples_or_dimensions_have_a_place_too(shape):
    plane = project_principal(np.ones(shape, dtype=np.float32))
    assert plane.shape == (shape[0], 2)
    assert not plane.any()


def test_neighbours_stay_near_in_the_embedding_and_a_seed_repeats_it(groups):
    plane = embed_neighborhoods(groups, seed=1)
    rows, _ = find_neighbors(plane, 5)
    assert (rows // 40 == np.arange(120)[:, None] // 40).all()
    assert (plane == embed_neighborhoods(groups, seed=1)).all()
    assert not embed_neighborhoods(np.ones((9, 3), dtype=np.float32), seed=1).any()


def test_a_sample_is_no_neighbour_of_itself_though_others_are_the_same():
    features = np.zeros((12, 3), dtype=np.float32)
    rows, distances = find_neighbors(features, 4)
    assert (rows != np.arange(12)[:, None]).all()
    assert (distances == 0).all()
    assert all(len(set(row)) == 4 for row in rows)


def test_where_there_are_fewer_the_rest_is_marked():
    rows, distances = find_neighbors(np.array([[0.0], [1.0], [3.0]], dtype=np.float32), 4)
    assert rows.tolist() == [[1, 2, -1, -1], [0, 2, -1, -1], [1, 0, -1, -1]]
    np.testing.assert_allclose(distances[:, :2], [[1, 3], [1, 2], [2, 3]])
    assert np.isnan(distances[:, 2:]).all()


def test_many_samples_are_searched_by_cells_and_few_neighbours_missed(monkeypatch):
    features = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    exact, _ = find_neighbors(features, 8)
    monkeypatch.setattr(projection, "EXACT_NEIGHBORS", 2500)
    found, distances = find_neighbors(features, 8)
    assert np.mean([len(set(a) & set(b)) / 8 for a, b in zip(exact, found, strict=True)]) > 0.8
    assert (found != np.arange(3000)[:, None]).all()
    assert (np.diff(distances, axis=1) >= 0).all()
