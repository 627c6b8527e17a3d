import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.special import softmax

from stages.core.refinement import build_graph, refine_soft_labels


def draw_features(kind, seed, n=40, dim=5):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(n, dim))
    features = {
        "normal": lambda: normal,
        "duplicates": lambda: normal[rng.integers(0, n // 8, n)],
        "identical": lambda: np.repeat(normal[:1], n, axis=0),
        "far from the origin": lambda: 1e3 + normal,
        "huge": lambda: 1e30 * normal,
        "outlier": lambda: np.where(np.arange(n)[:, None], normal, 1e4),
        "extreme outlier": lambda: np.where(np.arange(n)[:, None], normal, 1e6),
    }[kind]()
    return features.astype(np.float32)


KINDS = ["normal", "duplicates", "identical", "far from the origin", "huge", "outlier", "extreme outlier"]


def link_by_brute_force(features, k):
    """Normalised similarities of the definition; neighbours at equal distances are not allowed."""
    features = features.astype(np.float64)
    squared = cdist(features, features, "sqeuclidean")
    np.fill_diagonal(squared, np.inf)
    nearest = np.argsort(squared, axis=1)[:, :k]
    scale = np.take_along_axis(squared, nearest, axis=1).mean()
    similarities = np.zeros_like(squared)
    for i, row in enumerate(nearest):
        for j in row:
            similarities[i, j] = similarities[j, i] = np.exp(-squared[i, j] / scale)
    # A sample too far from all others for float64 has no edge at all.
    degrees = np.where(similarities.any(axis=1), similarities.sum(axis=1), 1)
    return similarities / np.sqrt(np.outer(degrees, degrees))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 1000), st.sampled_from([1, 3, 10, 39, 500]))
def test_the_graph_is_symmetric_and_contracts(kind, seed, k):
    graph = build_graph(draw_features(kind, seed), k, n_threads=1)
    dense = graph.toarray()
    assert graph.format == "csr"
    assert dense.dtype == np.float64
    np.testing.assert_array_equal(dense, dense.T)
    assert (np.diag(dense) == 0).all()
    assert (dense >= 0).all()
    assert np.linalg.norm(dense, 2) <= 1 + 1e-9
    # Every sample votes for at least its own k neighbours, itself not among them.
    stored = np.zeros(graph.shape, dtype=bool)
    stored[graph.nonzero()] = True
    assert (stored.sum(axis=1) >= min(k, 39)).all()


@pytest.mark.parametrize("k", [1, 4, 39])
@pytest.mark.parametrize("kind", ["normal", "far from the origin", "outlier"])
def test_neighbours_and_similarities_are_those_of_the_definition(kind, k):
    features = draw_features(kind, 3)
    np.testing.assert_allclose(
        build_graph(features, k, n_threads=1).toarray(), link_by_brute_force(features, k), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["normal", "far from the origin", "extreme outlier"])
def test_neighbours_are_those_of_the_definition_where_faiss_multiplies_matrices(kind):
    # From some size on, FAISS takes distances apart into squared lengths and dot products.
    features = draw_features(kind, 5, n=1500, dim=100)
    np.testing.assert_allclose(
        build_graph(features, 5, n_threads=1).toarray(), link_by_brute_force(features, 5), rtol=1e-9, atol=1e-12
    )


def test_place_and_scale_of_the_features_do_not_matter():
    features = draw_features("normal", 4)
    np.testing.assert_allclose(
        build_graph(features * np.float32(2.0**80), 5, n_threads=1).toarray(),
        build_graph(features, 5, n_threads=1).toarray(),
        rtol=1e-12,
    )


def test_duplicates_are_neighbours_of_each_other_and_never_of_themselves():
    features = np.repeat(np.array([[0, 0], [1, 0], [0, 7]], dtype=np.float32), 12, axis=0)
    graph = build_graph(features, 4, n_threads=1)
    groups = np.repeat(np.arange(3), 12)
    rows, columns = graph.nonzero()
    assert (groups[rows] == groups[columns]).all()
    assert (rows != columns).all()
    # All distances are 0, so every similarity was 1 before it was divided by the degrees.
    degrees = np.bincount(rows)
    np.testing.assert_allclose(graph.data, 1 / np.sqrt(degrees[rows] * degrees[columns]))


def test_few_samples_have_few_neighbours():
    assert build_graph(np.ones((1, 3), dtype=np.float32), 5, n_threads=1).toarray().tolist() == [[0]]
    two = build_graph(np.array([[0], [2]], dtype=np.float32), 5, n_threads=1)
    np.testing.assert_allclose(two.toarray(), [[0, 1], [1, 0]])


def test_features_that_are_not_finite_name_their_row():
    features = draw_features("normal", 0)
    features[7, 2] = np.nan
    with pytest.raises(ValueError, match="features must be finite; row 7 is not"):
        build_graph(features, 3, n_threads=1)
    with pytest.raises(ValueError, match="n_neighbors must be 1 or more, not 0"):
        build_graph(features, 0, n_threads=1)


def draw_field(seed, n=40, n_classes=4, k=5):
    soft_labels = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.4), n).astype(np.float32)
    return soft_labels, build_graph(draw_features("normal", seed, n), k, n_threads=1)


def update(soft_labels, graph, strength, probabilities):
    return softmax(np.log(soft_labels.astype(np.float64)) + strength * (graph @ probabilities), axis=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.7, 1.5]))
def test_the_field_is_its_own_update_whatever_the_start(seed, strength):
    soft_labels, graph = draw_field(seed)
    refinement = refine_soft_labels(soft_labels, graph, strength, tolerance=1e-12)
    assert refinement.converged
    np.testing.assert_allclose(refinement.probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        update(soft_labels, graph, strength, refinement.probabilities), refinement.probabilities, atol=1e-11
    )
    probabilities = np.random.default_rng(seed + 1).dirichlet(np.ones(4), 40)
    for _ in range(200):
        probabilities = update(soft_labels, graph, strength, probabilities)
    np.testing.assert_allclose(probabilities, refinement.probabilities, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_strength_of_zero_changes_no_label(seed):
    soft_labels, graph = draw_field(seed)
    soft_labels[:3] = 0.25
    refinement = refine_soft_labels(soft_labels, graph, 0.0)
    assert (refinement.iterations, refinement.converged) == (1, True)
    assert refinement.probabilities.argmax(axis=1).tolist() == soft_labels.argmax(axis=1).tolist()
    expected = soft_labels / soft_labels.sum(axis=1, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(refinement.probabilities, expected, rtol=1e-12)


def test_a_lone_doubtful_sample_takes_the_label_of_its_confident_neighbours():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(10, 2)), rng.normal(size=(10, 2)) + 50]).astype(np.float32)
    soft_labels = np.repeat([[0.95, 0.05], [0.05, 0.95]], 10, axis=0)
    soft_labels[4] = [0.45, 0.55]
    graph = build_graph(features, 5, n_threads=1)
    refined = refine_soft_labels(soft_labels, graph, 1.5).probabilities.argmax(axis=1)
    assert refined.tolist() == [0] * 10 + [1] * 10
    weak = refine_soft_labels(soft_labels, graph, 0.01).probabilities.argmax(axis=1)
    assert weak.tolist() == soft_labels.argmax(axis=1).tolist()


def test_a_sample_without_neighbours_keeps_its_probabilities():
    soft_labels = np.array([[0.3, 0.7], [0.6, 0.4]])
    refinement = refine_soft_labels(soft_labels, sparse.csr_matrix((2, 2)), 1.9)
    np.testing.assert_allclose(refinement.probabilities, soft_labels, rtol=1e-15)


@pytest.mark.parametrize("strength", [1.0, 1e4])
def test_classes_of_probability_zero_keep_it(strength):
    soft_labels, graph = draw_field(5)
    soft_labels[::2, 0] = 0
    soft_labels[0] = [0, 0, 1, 0]
    probabilities = refine_soft_labels(soft_labels, graph, strength).probabilities
    assert (probabilities[::2, 0] == 0).all()
    assert probabilities[0].tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_a_field_that_is_stopped_early_says_so():
    soft_labels, graph = draw_field(6)
    refinement = refine_soft_labels(soft_labels, graph, 1.5, max_iterations=2, tolerance=1e-12)
    assert (refinement.iterations, refinement.converged) == (2, False)


@pytest.mark.parametrize("strength", [-0.1, np.nan, np.inf])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="strength must be 0 or more and finite"):
        refine_soft_labels(*draw_field(0), strength)


def test_soft_labels_that_are_no_probabilities_are_refused():
    soft_labels, graph = draw_field(0)
    with pytest.raises(ValueError, match=r"soft labels of shape \(39, 4\) do not fit a graph of shape \(40, 40\)"):
        refine_soft_labels(soft_labels[1:], graph, 1.0)
    for row in ([np.nan, 0, 0, 1], [-0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]):
        broken = soft_labels.copy()
        broken[8] = row
        with pytest.raises(ValueError, match="soft labels must be probabilities; row 8 is not"):
            refine_soft_labels(broken, graph, 1.0)
