import numpy as np

from stages.core.audit import audit_weights


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
