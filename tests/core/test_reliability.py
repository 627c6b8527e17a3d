from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

from stages.core import reliability
from stages.core.reliability import compare_sizes, estimate_accuracy, fit_temperature, rate_accuracy
from stages.core.selection import soften_labels


@given(st.integers(0, 10_000))
def test_the_transport_estimate_is_the_best_way_to_deal_samples_out_to_classes(seed):
    """Six samples, two for each of three classes: every assignment is tried."""
    soft = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), 6)
    best = max(soft[range(6), list(deal)].mean() for deal in set(permutations([0, 0, 1, 1, 2, 2])))
    assert estimate_accuracy(soft, np.full(3, 1 / 3), 0) == pytest.approx(best, rel=1e-9)


@given(st.integers(0, 10_000))
def test_the_transport_estimate_is_the_optimum_of_the_linear_programme(seed):
    rng = np.random.default_rng(seed)
    soft, frequencies = rng.dirichlet(np.full(3, 0.5), 5), rng.dirichlet(np.ones(3))
    # Distances of the paper: the largest difference between the soft label and the one-hot vector.
    costs = np.abs(soft[:, None, :] - np.eye(3)).max(2)
    rows = [np.kron(np.eye(5)[i], np.ones(3)) for i in range(5)] + [np.tile(np.eye(3)[k], 5) for k in range(3)]
    optimum = linprog(costs.ravel(), A_eq=np.array(rows), b_eq=np.r_[np.full(5, 0.2), frequencies], bounds=(0, None))
    assert estimate_accuracy(soft, frequencies, 0) == pytest.approx(1 - optimum.fun, abs=1e-7)


def test_certain_predictions_with_the_known_mix_are_right_and_with_another_are_not():
    certain = np.eye(3)[[0, 0, 1, 1, 1, 2]]
    assert estimate_accuracy(certain, np.array([2, 3, 1]) / 6, 0) == pytest.approx(1)
    # Two of six samples would have to be something else.
    assert estimate_accuracy(certain, np.array([0, 5, 1]) / 6, 0) == pytest.approx(4 / 6)
    assert estimate_accuracy(np.full((4, 3), 1 / 3), np.array([0.5, 0.3, 0.2]), 0) == pytest.approx(1 / 3)


def test_the_transport_estimate_is_no_more_than_the_mean_confidence():
    soft = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    own = np.bincount(soft.argmax(1), minlength=4) / 200
    assert estimate_accuracy(soft, own, 0) == pytest.approx(soft.max(1).mean(), rel=1e-9)
    assert estimate_accuracy(soft, own[::-1], 0) < soft.max(1).mean()


def test_of_many_samples_some_are_drawn_by_the_seed(monkeypatch):
    soft, frequencies = np.random.default_rng(0).dirichlet(np.ones(3), 500), np.full(3, 1 / 3)
    whole = estimate_accuracy(soft, frequencies, 0)
    monkeypatch.setattr(reliability, "N_SAMPLES", 200)
    drawn = [estimate_accuracy(soft, frequencies, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == pytest.approx(whole, abs=0.05)


@given(st.integers(0, 1000), st.sampled_from([0.3, 1.0, 2.5]))
def test_the_calibration_is_the_temperature_of_most_likely_predictions(seed, true_temperature):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(3), 400)
    labels = np.array([rng.choice(3, p=one) for one in chances])
    predicted = soften_labels(chances, 1 / true_temperature)

    def cost(temperature):
        return -np.log(soften_labels(predicted, temperature)[np.arange(400), labels]).mean()

    found = fit_temperature(predicted, labels)
    best = minimize_scalar(cost, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6})
    assert cost(found) <= best.fun + 1e-9
    assert found == pytest.approx(true_temperature, rel=0.4)


def test_calibrations_stay_within_their_bounds():
    certain, labels = np.eye(2, dtype=np.float32)[[0, 1, 0]], np.array([0, 1, 0])
    assert fit_temperature(certain, labels) == pytest.approx(0.05, rel=1e-5)
    assert fit_temperature(certain, 1 - labels) == pytest.approx(20, rel=1e-5)


def test_an_accuracy_is_worth_what_it_is_above_guessing():
    assert [rate_accuracy(accuracy, 0.4) for accuracy in (0.1, 0.4, 0.7, 1)] == pytest.approx([0, 0, 0.5, 1])
    assert rate_accuracy(1.0, 1.0) == 0


def test_more_samples_without_a_label_than_with_one_are_enough():
    assert [compare_sizes(n, 100) for n in (25, 100, 3000)] == [0.25, 1, 1]
