import numpy as np
import pytest
import torch

from stages.core.regularization import Regularization, measure_l21, measure_nuclear_norm, measure_roughness


@pytest.fixture(autouse=True)
def deterministic():
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode("default")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def differentiate(function, values):
    values = values.clone().requires_grad_()
    function(values).backward()
    return values.grad


def measure_roughness_directly(features, predictions, k):
    """½ Σ_ij S_ij ||p_i - p_j||² / B, which equals tr(Pᵀ L P) / B."""
    features, predictions = features.double().numpy(), predictions.double().numpy()
    squared = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    nearest = np.argsort(squared, axis=1)[:, : min(k, len(features) - 1)]
    scale = np.take_along_axis(squared, nearest, axis=1).mean()
    pairs = {frozenset((i, int(j))) for i, row in enumerate(nearest) for j in row}
    total = 0.0
    for i, j in pairs:
        total += np.exp(-squared[i, j] / scale) * ((predictions[i] - predictions[j]) ** 2).sum()
    return total / len(features)


def test_l21_sums_the_features_norms_over_classes():
    weights = draw(3, 5)
    expected = sum(np.sqrt((column**2).sum()) for column in weights.numpy().T)
    assert measure_l21(weights).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(measure_l21, weights.requires_grad_())


def test_a_feature_that_no_class_uses_has_no_gradient():
    weights = draw(3, 5)
    weights[:, 2] = 0
    gradient = differentiate(measure_l21, weights)
    assert gradient[:, 2].tolist() == [0, 0, 0]
    torch.testing.assert_close(torch.linalg.vector_norm(gradient, dim=0)[[0, 1, 3, 4]], torch.ones(4).double())
    assert differentiate(measure_l21, torch.zeros(3, 5)).tolist() == [[0] * 5] * 3


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (1, 5)])
def test_the_nuclear_norm_sums_the_singular_values(shape):
    weights = draw(*shape)
    expected = np.linalg.svd(weights.numpy(), compute_uv=False).sum()
    assert measure_nuclear_norm(weights).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(measure_nuclear_norm, weights.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("matrix", "rank"),
    [
        (torch.eye(4), 4),
        (torch.diag(torch.tensor([3.0, 3.0, 0.0, 0.0])), 2),
        (torch.outer(torch.arange(1.0, 4), torch.arange(2.0, 8)), 1),
        (1e-6 * draw(5, 2) @ draw(2, 6, seed=1), 2),
        (torch.zeros(3, 4), 0),
    ],
    ids=["identity", "repeated and zero", "rank one", "small rank two", "zero"],
)
def test_the_nuclear_norm_has_its_smallest_subgradient_everywhere(matrix, rank, dtype):
    matrix = matrix.to(dtype)
    gradient = differentiate(measure_nuclear_norm, matrix).double()
    # G is a subgradient where ||G||_2 <= 1 and <G, W> = ||W||_*; the smallest one has the rank of W.
    values = torch.linalg.svdvals(gradient)
    torch.testing.assert_close(
        values, torch.where(torch.arange(len(values)) < rank, 1.0, 0.0).double(), atol=1e-5, rtol=0
    )
    norm = np.linalg.svd(matrix.double().numpy(), compute_uv=False).sum()
    assert (gradient * matrix).sum().item() == pytest.approx(norm, rel=1e-5)


def test_the_nuclear_norm_of_the_identity_scales_its_gradient():
    gradient = differentiate(lambda values: 2.5 * measure_nuclear_norm(values), torch.eye(3))
    torch.testing.assert_close(gradient, 2.5 * torch.eye(3))


@pytest.mark.parametrize("k", [1, 3, 11, 50])
def test_roughness_is_that_of_the_definition(k):
    features, predictions = draw(12, 4), torch.softmax(draw(12, 3, seed=1), dim=1)
    measured = measure_roughness(features, predictions, k)
    assert measured.item() == pytest.approx(measure_roughness_directly(features, predictions, k), rel=1e-10)
    assert torch.autograd.gradcheck(lambda values: measure_roughness(features, values, k), predictions.requires_grad_())


def test_roughness_moves_predictions_and_leaves_features():
    features, predictions = draw(8, 4, dtype=torch.float32).requires_grad_(), draw(8, 3, dtype=torch.float32)
    predictions.requires_grad_()
    roughness = measure_roughness(features, predictions, 3)
    roughness.backward()
    assert roughness.dtype == torch.float32
    assert features.grad is None
    # A constant shift of all predictions costs nothing.
    torch.testing.assert_close(predictions.grad.sum(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    assert predictions.grad.abs().max() > 1e-3


def test_equal_predictions_are_smooth_and_disagreeing_neighbours_are_not():
    features = torch.cat([draw(5, 2), draw(5, 2, seed=1) + 100])
    clusters = torch.eye(2, dtype=torch.float64).repeat_interleave(5, dim=0)
    assert measure_roughness(features, clusters, 3).item() == pytest.approx(0, abs=1e-12)
    wrong = clusters.clone()
    wrong[0] = clusters[9]
    assert measure_roughness(features, wrong, 3).item() > 0.1


def test_roughness_does_not_depend_on_place_or_scale_of_the_features():
    features, predictions = draw(10, 4, dtype=torch.float32), draw(10, 3, seed=1, dtype=torch.float32)
    expected = measure_roughness(features, predictions, 3)
    torch.testing.assert_close(measure_roughness(1024 * features + 4096, predictions, 3), expected, rtol=1e-3, atol=0)


def test_identical_features_are_all_alike():
    predictions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    # Two of the three pairs differ, by 2 each, and every similarity is 1.
    assert measure_roughness(torch.ones(3, 4), predictions, 2).item() == pytest.approx(4 / 3)


def test_a_batch_of_one_sample_is_smooth():
    predictions = torch.tensor([[0.2, 0.8]], requires_grad=True)
    roughness = measure_roughness(torch.ones(1, 4), predictions, 5)
    roughness.backward()
    assert roughness.item() == 0
    assert predictions.grad.tolist() == [[0, 0]]


def test_autocast_does_not_coarsen_the_penalties():
    features, predictions = draw(12, 4).bfloat16(), torch.softmax(draw(12, 3, seed=1), dim=1).bfloat16()
    weights = draw(3, 4, seed=2, dtype=torch.float32)
    regularization = Regularization(laplacian=1, l21=1, joint_nuclear=1, n_neighbors=3)
    expected = regularization.measure({"pose": features.float()}, {"pose": predictions.float()}, {"pose": weights})
    gradient = differentiate(measure_nuclear_norm, weights)
    with torch.autocast("cpu", torch.bfloat16):
        measured = regularization.measure({"pose": features}, {"pose": predictions}, {"pose": weights})
        assert measured.dtype == torch.float32
        torch.testing.assert_close(measured, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(differentiate(measure_nuclear_norm, weights), gradient, rtol=1e-6, atol=0)


@pytest.fixture
def network():
    features = {"pose": draw(9, 4), "age": draw(9, 4, seed=1)}
    predictions = {"pose": torch.softmax(draw(9, 3, seed=2), 1), "age": torch.softmax(draw(9, 2, seed=3), 1)}
    classifiers = {"pose": draw(3, 4, seed=4), "age": draw(2, 4, seed=5)}
    return features, predictions, classifiers


def test_the_penalty_is_the_weighted_sum_over_tasks(network):
    features, predictions, classifiers = network
    matrices = [values.numpy() for values in classifiers.values()]
    parts = {
        "laplacian": sum(measure_roughness_directly(features[task], predictions[task], 3) for task in features),
        "l21": sum(np.linalg.norm(matrix, axis=0).sum() for matrix in matrices),
        "joint_nuclear": np.linalg.norm(np.concatenate(matrices), "nuc"),
        "task_nuclear": sum(np.linalg.norm(matrix, "nuc") for matrix in matrices),
    }
    for name, value in parts.items():
        alone = Regularization(**{name: 0.7}, n_neighbors=3)
        assert alone.active
        assert alone.measure(*network).item() == pytest.approx(0.7 * value, rel=1e-10)
    together = Regularization(laplacian=0.5, l21=2, joint_nuclear=3, task_nuclear=0.1, n_neighbors=3)
    expected = np.dot([0.5, 2, 3, 0.1], list(parts.values()))
    assert together.measure(*network).item() == pytest.approx(expected, rel=1e-10)


def test_without_coefficients_nothing_is_computed(network, monkeypatch):
    for name in ("measure_roughness", "measure_l21", "measure_nuclear_norm"):
        monkeypatch.setattr(f"stages.core.regularization.{name}", None)
    regularization = Regularization(n_neighbors=3)
    assert not regularization.active
    assert regularization.measure(*network).item() == 0


@pytest.mark.parametrize("name", ["laplacian", "l21", "joint_nuclear", "task_nuclear"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_coefficients_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be 0 or more and finite"):
        Regularization(**{name: value})


def test_a_graph_without_neighbours_is_refused():
    with pytest.raises(ValueError, match="n_neighbors must be 1 or more, not 0"):
        Regularization(n_neighbors=0)
