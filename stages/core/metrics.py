"""Scores of a classifier from its confusion matrix."""

import numpy as np


def count_confusion(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrix, shape (C, C): rows are true classes, columns predictions.

    Args:
        labels: true class indices, shape (n,).
        predictions: predicted class indices, shape (n,).
        n_classes: C.
    """
    flat = np.bincount(labels.astype(np.int64) * n_classes + predictions, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def score_confusion(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1, from 0 to 1, of a confusion matrix of shape (C, C) that counts something.

    Macro-F1 is the plain mean of the F1 scores of all C classes; one that neither occurs nor is
    predicted counts as 0. So does scikit-learn where `labels` names all classes; without, it leaves
    such a class out of the mean and gives a larger number.
    """
    f1 = np.array([one["f1"] for one in score_classes(confusion)])
    return {"accuracy": float(np.trace(confusion) / confusion.sum()), "macro_f1": float(f1.mean())}


def score_classes(confusion: np.ndarray) -> list[dict[str, float]]:
    """Precision, recall and F1, from 0 to 1, and the number of samples of every class of a confusion matrix (C, C).

    A share of nothing is 0: the precision of a class that is never predicted, the recall of one
    that never occurs.
    """
    hits, occurring, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    shares = {"precision": (hits, predicted), "recall": (hits, occurring), "f1": (2 * hits, occurring + predicted)}
    values = {
        name: np.divide(part, whole, out=np.zeros(len(hits)), where=whole > 0) for name, (part, whole) in shares.items()
    }
    return [
        {"n_samples": int(n), **{name: float(column[row]) for name, column in values.items()}}
        for row, n in enumerate(occurring)
    ]
