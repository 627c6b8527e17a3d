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
    """Accuracy and macro-F1 of a confusion matrix of shape (C, C).

    Macro-F1 is the plain mean of the per-class F1 scores; a class that neither occurs nor is
    predicted counts as 0, as in scikit-learn.
    """
    hits = np.diag(confusion)
    occurrences = confusion.sum(axis=1) + confusion.sum(axis=0)
    f1 = np.divide(2 * hits, occurrences, out=np.zeros(len(hits)), where=occurrences > 0)
    return {"accuracy": float(hits.sum() / confusion.sum()), "macro_f1": float(f1.mean())}
