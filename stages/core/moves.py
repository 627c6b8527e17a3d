"""How pseudo labels move from one epoch to another."""

import numpy as np

from stages.core.metrics import count_confusion


def find_rows(sample_ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Row of every wanted sample in a table, shape (m,); -1 where it has none.

    Args:
        sample_ids: of the table, increasing, shape (n,).
        wanted: of other samples, shape (m,).
    """
    if not len(sample_ids):
        return np.full(len(wanted), -1)
    rows = np.searchsorted(sample_ids, wanted).clip(max=len(sample_ids) - 1)
    return np.where(sample_ids[rows] == wanted, rows, -1)


def count_moves(
    ids_before: np.ndarray, before: np.ndarray, ids_after: np.ndarray, after: np.ndarray, n_classes: int
) -> np.ndarray:
    """Samples by pseudo label in an earlier and in a later epoch, of those that both have.

    Args:
        ids_before: sample ids of the earlier epoch, increasing, shape (n,).
        before: their class indices, shape (n,).
        ids_after: sample ids of the later epoch, shape (m,).
        after: their class indices, shape (m,).
        n_classes: C.

    Returns:
        Counts of shape (C, C): rows are earlier classes, columns later ones.
    """
    rows = find_rows(ids_before, ids_after)
    both = rows >= 0
    return count_confusion(before[rows[both]], after[both], n_classes)


def share_moved(moves: np.ndarray) -> float:
    """Share of the samples of `count_moves` whose class is another; NaN without samples."""
    total = moves.sum()
    return float(1 - np.trace(moves) / total) if total else np.nan
