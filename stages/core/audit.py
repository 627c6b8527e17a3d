"""Whether the weights can be trusted: pseudo-label accuracy along each of them."""

from collections.abc import Mapping

import numpy as np

N_FIFTHS = 5


def audit_weights(correct: np.ndarray, weights: Mapping[str, np.ndarray]) -> list[dict]:
    """Accuracy of the pseudo labels in each fifth of the samples, ranked by each weight.

    Ties are ranked by row, so a weight that hardly varies shows fifths that hardly differ.

    Args:
        correct: whether each pseudo label is right, shape (n,), bool.
        weights: weight of every sample by name, shape (n,) each.

    Returns:
        One row per weight and fifth that has samples: `weight`, `fifth` (1 is the lowest),
        `n_samples`, `lowest`, `highest` and `pseudo_label_accuracy`.
    """
    rows = []
    for name, values in weights.items():
        order = np.argsort(values, kind="stable")
        for fifth, members in enumerate(np.array_split(order, N_FIFTHS), start=1):
            if not len(members):
                continue
            rows.append(
                {
                    "weight": name,
                    "fifth": fifth,
                    "n_samples": len(members),
                    "lowest": values[members].min(),
                    "highest": values[members].max(),
                    "pseudo_label_accuracy": correct[members].mean(),
                }
            )
    return rows
