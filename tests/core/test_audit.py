import itertools

import numpy as np
import pytest

from stages.core.audit import audit_weights, contrast_density, measure_ranks, measure_reliability


def test_accuracy_is_counted_in_the_order_of_the_weight():
    weights = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 1.0, 0.4, 0.6, 0.8])
    correct = weights > 0.55
    rows = audit_weights(correct, {"w": weights})
    assert [row["fifth"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["pseudo_label_accuracy"] for row in rows] == [0, 0, 0.5, 1, 1]
    assert [row["n_samples"] for row in rows] == [2] * 5
    assert rows[0]["lowest"] == 0.1
    assert rows[-1]["highest"] == 1.0


def test_fewer_samples_than_fifths_leave_fifths_out():
    rows = audit_weights(np.array([True, False]), {"w": np.array([0.1, 0.2])})
    assert [row["n_samples"] for row in rows] == [1, 1]


def test_ranks_count_the_right_labels_of_each_part_from_the_lowest_weight_up():
    rng = np.random.default_rng(0)
    weights, correct = rng.random(103), rng.random(103) < 0.6
    order = sorted(range(103), key=lambda row: weights[row])
    # 103 = 3 parts of 11 and 7 of 10.
    starts = np.cumsum([0] + [11] * 3 + [10] * 7)
    expected = [np.mean([correct[row] for row in order[a:b]]) for a, b in itertools.pairwise(starts)]
    assert measure_ranks(correct, weights, 10) == pytest.approx(expected)
    fifths = [row["pseudo_label_accuracy"] for row in audit_weights(correct, {"w": weights})]
    assert measure_ranks(correct, weights, 5).tolist() == fifths


@pytest.mark.parametrize("weights", [np.full(6, np.nan), np.ones(6), np.zeros(0)])
def test_weights_that_rank_nothing_have_no_ranks(weights):
    assert np.isnan(measure_ranks(np.ones(len(weights), dtype=bool), weights, 5)).all()


def test_reliability_compares_confidence_and_accuracy_bin_by_bin():
    confidence = np.array([0.05, 0.92, 0.96, 1.0, 0.55])
    correct = np.array([False, True, True, False, True])
    found = measure_reliability(correct, confidence)
    assert found["n_samples"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert found["accuracy"][[0, 5, 9]] == pytest.approx([0, 1, 2 / 3])
    assert found["confidence"][[0, 5, 9]] == pytest.approx([0.05, 0.55, 0.96])
    assert np.isnan(found["accuracy"][1])
    assert found["error"] == pytest.approx((0.05 + 0.45 + 3 * (0.96 - 2 / 3)) / 5)


def test_the_contrast_of_section_l_leaves_out_what_lies_between_and_what_is_null():
    density = np.array([0.96, 0.95, 1.0, 0.15, 0.14, 0.0, np.nan])
    correct = np.array([True, False, False, False, True, False, True])
    assert contrast_density(correct, density) == {"dense": (0.5, 2), "sparse": (0.5, 2)}
    accuracy, number = contrast_density(correct[1:2], density[1:2])["dense"]
    assert np.isnan(accuracy)
    assert number == 0
