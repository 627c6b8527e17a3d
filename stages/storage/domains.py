"""The two domains of a task: the samples without a label for it, which are weighed, and those with one."""

from collections.abc import Sequence

import numpy as np

from stages.core.errors import UserError
from stages.storage.contracts import FEATURES, MANIFEST
from stages.storage.tables import Table, read_metadata, read_table


def read_domain(path: str, task: str, *columns: str) -> tuple[Table, Table]:
    """All samples of a dataset, and of these U, the ones that lack a label for a task.

    Args:
        path: features of the dataset that is trained on.
        task: whose labels count.
        columns: kinds of columns of the task that are wanted beside `sample_id` and `label`, such as `features`.

    Raises:
        ValueError: the table has no such task, or every sample has a label.
    """
    table = _read_features(path, task, columns)
    unlabeled = table.select(table[f"label_{task}"] < 0)
    if not len(unlabeled):
        raise UserError(f"{path}: every sample has a label for '{task}', so that none is to be weighed")
    return table, unlabeled


def read_labeled(paths: Sequence[str], task: str) -> np.ndarray:
    """L: the features of all samples that have a label for a task, float32 (n, d).

    Args:
        paths: features of all datasets that have labels for the task, in the order of the config.
        task: whose labels count.

    Raises:
        ValueError: a table has no such task, or no sample has a label.
    """
    tables = [_read_features(path, task, ["features"]) for path in paths]
    parts = [table.select(table[f"label_{task}"] >= 0)[f"features_{task}"] for table in tables]
    if not any(map(len, parts)):
        raise UserError(f"{', '.join(paths)}: no sample has a label for '{task}'; name the datasets that have")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def count_labels(paths: Sequence[str], task: str, classes: Sequence[str]) -> np.ndarray:
    """How many samples of L have each class, int64 (C,).

    Args:
        paths: manifests of all datasets that have labels for the task.
        task: whose labels count.
        classes: names in index order.

    Raises:
        ValueError: a label is none of the classes, or no sample has a label.
    """
    counts = dict.fromkeys(classes, 0)
    for path in paths:
        for name in read_table(path, MANIFEST, [f"label_{task}"])[f"label_{task}"]:
            if name not in counts and name is not None:
                raise UserError(f"{path}: the label '{name}' of '{task}' is not among the classes {list(classes)}")
            if name is not None:
                counts[name] += 1
    if not any(counts.values()):
        raise UserError(f"{', '.join(paths)}: no sample has a label for '{task}'; name the datasets that have")
    return np.array(list(counts.values()), dtype=np.int64)


def _read_features(path: str, task: str, columns: Sequence[str]) -> Table:
    classes = read_metadata(path).get("classes", {})
    if task not in classes:
        raise UserError(f"{path}: has no features of task '{task}'; its tasks are {', '.join(classes)}")
    return read_table(path, FEATURES, ["sample_id", f"label_{task}", *(f"{kind}_{task}" for kind in columns)])
