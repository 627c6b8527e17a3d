import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from stages.core.metrics import count_confusion, score_classes, score_confusion


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    predictions = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 5, 200))
    confusion = count_confusion(labels, predictions, 5)
    np.testing.assert_array_equal(confusion, confusion_matrix(labels, predictions))
    scores = score_confusion(confusion)
    assert scores["accuracy"] == accuracy_score(labels, predictions)
    np.testing.assert_allclose(scores["macro_f1"], f1_score(labels, predictions, average="macro"))
    expected = precision_recall_fscore_support(labels, predictions)
    for name, values in zip(("precision", "recall", "f1", "n_samples"), expected, strict=True):
        np.testing.assert_allclose([one[name] for one in score_classes(confusion)], values)


def test_a_class_that_never_occurs_counts_as_zero():
    confusion = count_confusion(np.array([0, 0]), np.array([0, 0]), 3)
    assert score_confusion(confusion) == {"accuracy": 1.0, "macro_f1": 1 / 3}


def test_absent_classes_count_as_for_scikit_learn_with_all_labels_named():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    macro_f1 = score_confusion(count_confusion(labels, predictions, 3))["macro_f1"]
    assert macro_f1 == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    named = f1_score(labels, predictions, labels=range(3), average="macro", zero_division=0)
    assert macro_f1 == pytest.approx(named)
    assert f1_score(labels, predictions, average="macro") == pytest.approx((4 / 5 + 2 / 3) / 2)
