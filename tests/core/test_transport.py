import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from stages.core.selection import normalise_weights, weigh_samples
from stages.core.transport import measure_component_distances, measure_mean_distances, solve_transport


def draw_problem(seed, n_unlabeled=4, n_labeled=3, dim=5):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n_unlabeled, dim)),
        rng.normal(size=(n_labeled, dim)),
        rng.dirichlet(np.ones(n_labeled)),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["sqeuclidean", "euclidean"]))
def test_the_flow_is_the_optimum_of_the_linear_programme(seed, ground_distance):
    unlabeled, labeled, masses = draw_problem(seed)
    distances = measure_component_distances(unlabeled, labeled, ground_distance)
    flows, transported = solve_transport(distances, masses)
    for k in range(len(unlabeled)):
        # min Σ h d subject to Σ_j h_j = 1 (the source's mass) and h_j = π_j (the sinks').
        n = len(masses)
        optimum = linprog(
            distances[k], A_eq=np.vstack([np.ones(n), np.eye(n)]), b_eq=np.r_[1, masses], bounds=(0, None)
        )
        assert transported[k] == pytest.approx(optimum.fun, rel=1e-9)
        np.testing.assert_allclose(flows[k], optimum.x, atol=1e-9)


def test_component_distances_are_those_of_the_definition():
    distances = measure_component_distances(np.array([[0.0, 0], [1, 1]]), np.array([[3.0, 4], [1, 1]]))
    np.testing.assert_allclose(distances, [[25, 2], [13, 0]])
    np.testing.assert_allclose(
        measure_component_distances(np.array([[0.0, 0]]), np.array([[3.0, 4]]), "euclidean"), [[5]]
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_with_squared_distances_emd_gives_the_weights_of_the_distance_to_the_mean(seed):
    unlabeled, labeled, masses = draw_problem(seed)
    responsibilities = np.random.default_rng(seed + 1).dirichlet(np.ones(4), 30)
    _, transported = solve_transport(measure_component_distances(unlabeled, labeled), masses)
    to_mean = ((unlabeled - masses @ labeled) ** 2).sum(1)
    assert np.ptp(transported - to_mean) < 1e-9
    np.testing.assert_allclose(
        normalise_weights(-0.1 * responsibilities @ transported),
        normalise_weights(-0.1 * responsibilities @ to_mean),
        rtol=1e-9,
    )


def test_with_euclidean_distances_they_differ():
    unlabeled, labeled, masses = draw_problem(3)
    _, transported = solve_transport(measure_component_distances(unlabeled, labeled, "euclidean"), masses)
    assert np.ptp(transported - np.linalg.norm(unlabeled - masses @ labeled, axis=1)) > 1e-3


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 30.0]))
def test_with_squared_distances_emd_is_the_mean_distance_and_one_constant(seed, scale):
    unlabeled, labeled, masses = draw_problem(seed)
    unlabeled, labeled = scale * unlabeled, scale * labeled
    _, transported = solve_transport(measure_component_distances(unlabeled, labeled), masses)
    to_mean = measure_mean_distances(unlabeled, labeled, masses, "sqeuclidean")
    spread = masses @ ((labeled - masses @ labeled) ** 2).sum(1)
    np.testing.assert_allclose(transported - to_mean, spread, rtol=0, atol=1e-12 * transported.max())
    soft_labels, responsibilities = (
        np.random.default_rng(seed + place).dirichlet(np.ones(4), 30) for place in range(2)
    )
    weights = [
        weigh_samples(
            soft_labels,
            criteria=["confidence", "distribution"],
            responsibilities=responsibilities,
            transport_distances=distances,
            decay=0.1 / scale**2,
        ).selection_weights
        for distances in (transported, to_mean)
    ]
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-12, atol=0)


def test_with_euclidean_distances_the_weights_of_emd_and_mean_differ():
    unlabeled, labeled, masses = draw_problem(3)
    _, transported = solve_transport(measure_component_distances(unlabeled, labeled, "euclidean"), masses)
    to_mean = measure_mean_distances(unlabeled, labeled, masses, "euclidean")
    np.testing.assert_allclose(to_mean, np.linalg.norm(unlabeled - masses @ labeled, axis=1), rtol=1e-12)
    assert (transported >= to_mean).all()
    assert np.abs(normalise_weights(-transported) - normalise_weights(-to_mean)).max() > 1e-3


def test_mean_distances_do_not_depend_on_the_sum_of_the_masses():
    unlabeled, labeled, masses = draw_problem(1)
    np.testing.assert_allclose(
        measure_mean_distances(unlabeled, labeled, masses * (1 + 1e-7), "sqeuclidean"),
        measure_mean_distances(unlabeled, labeled, masses, "sqeuclidean"),
        rtol=1e-12,
    )


def test_a_domain_of_one_component_is_at_that_components_distance():
    _, transported = solve_transport(np.array([[4.0], [0.0]]), np.ones(1))
    assert transported.tolist() == [4.0, 0.0]


@pytest.mark.parametrize(
    ("masses", "message"),
    [
        ([np.nan, 1.0], "finite"),
        ([-0.5, 1.5], "not negative"),
        ([0.5, 0.4], "sum to 1"),
    ],
)
def test_broken_masses_are_refused_before_the_solver_sees_them(masses, message):
    with pytest.raises(ValueError, match=message):
        solve_transport(np.ones((1, 2)), np.array(masses))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_broken_distances_are_refused(value):
    with pytest.raises(ValueError, match="component distances must be finite"):
        solve_transport(np.array([[1.0, value]]), np.array([0.5, 0.5]))
