"""Label vectors that `materialize_labels` wrote, as the epoch that trains on them reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.errors import UserError
from stages.storage.contracts import LABELS
from stages.storage.datasets import PreparedSplit
from stages.storage.tables import read_table


@dataclass(frozen=True)
class MadeLabels:
    """What was made for the samples of a dataset that lack a label for a task.

    Attributes:
        vectors: label vectors of all its samples, float32 (n, C).
        strength: α, weight of the loss of samples that train on them.
        student_temperature: by which the scores of these samples are divided.
        normalization: what the task's loss is a mean over, one of `core.selection.NORMALIZATIONS`.
    """

    vectors: np.ndarray
    strength: float = 1
    student_temperature: float = 1
    normalization: str = "joint"


def read_labels(
    entries: Sequence[tuple[str, str]], splits: Sequence[PreparedSplit], classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, MadeLabels]]:
    """Materialized labels by dataset and task.

    Args:
        entries: task and path of every table; the table says which dataset it is for.
        splits: the datasets of the epoch.
        classes: of the network, by task.

    Raises:
        ValueError: a table is for other samples or for other classes, or other labels of theirs are given.
    """
    by_name = {split.name: split for split in splits}
    labels: dict[str, dict[str, MadeLabels]] = {name: {} for name in by_name}
    for task, path in entries:
        table = read_table(path, LABELS, ["sample_id", "given", "training_label"])
        split = by_name.get(table.metadata["dataset"])
        if split is None or not np.array_equal(table["sample_id"], split.sample_ids):
            tables = ", ".join(one.path_table for one in splits)
            raise UserError(f"{path}: its samples are not those of {tables}; delete it and run snakemake again")
        if table.metadata["classes"] != list(classes.get(task, [])):
            known = list(classes.get(task, []))
            raise UserError(f"{path}: has the classes {table.metadata['classes']}, the network's task {known}")
        if not np.array_equal(table["given"], split.index_labels(task, classes[task]) >= 0):
            raise UserError(f"{path}: {split.path_table} has other labels by now; delete it and run snakemake again")
        how = {name: table.metadata[name] for name in ("strength", "student_temperature", "normalization")}
        labels[split.name][task] = MadeLabels(table["training_label"], **how)
    return labels
