"""What the stages that draw have in common: the record of what they drew, and rows of tables joined by sample."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.moves import find_rows
from stages.storage.contracts import FIGURES
from stages.storage.datasets import read_audit_labels
from stages.storage.files import digest_file, write_json
from stages.storage.provenance import Provenance
from stages.storage.tables import Table


def record_figures(
    path: str | Path,
    stage: str,
    drawn: Mapping[str, Any],
    figures: Sequence[str | Path],
    inputs: Sequence[str | Path],
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Write beside figures their digests and the numbers that they show.

    Args:
        path: of the record, `figures.json`.
        stage: that drew them.
        drawn: numbers, arrays and texts in any nesting; NaN becomes null.
        figures: their paths, in the folder of the record.
        inputs: what they were drawn from.
        parameters: the values the stage ran with.
    """
    content = {"drawn": plain(drawn), "files": {Path(figure).name: digest_file(figure) for figure in figures}}
    # Without doubles: a dataset may be looked at as both domains.
    provenance = Provenance(stage, parameters or {}, sorted(set(map(str, inputs))), packages=("matplotlib",))
    write_json(path, FIGURES, content, provenance)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def choose_epochs(epochs: Sequence[int], most: int = 12) -> list[int]:
    """So many of the epochs, evenly spread, the first and the last among them."""
    places = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int))
    return [epochs[place] for place in places]


def pair_epochs(paths: Sequence[str], epochs: Sequence[int]) -> dict[int, str]:
    """Paths by epoch, in order.

    Raises:
        ValueError: their numbers differ.
    """
    if len(paths) != len(epochs):
        raise UserError(f"--epochs names {len(epochs)} epochs for {len(paths)} tables; pair them")
    return dict(sorted(zip(epochs, paths, strict=True)))


def find_verdicts(weights: Table, path_audit: str | Path, task: str) -> np.ndarray:
    """Whether each pseudo label is right: 1, 0, or -1 where no label was held back; shape (n,).

    Args:
        weights: a table of weights, with its sample ids and pseudo classes.
        path_audit: labels held back.
        task: of the pseudo labels.

    Raises:
        ValueError: the labels are another dataset's.
    """
    dataset, sample_ids, names = read_audit_labels(path_audit, task)
    if dataset != weights.metadata["dataset"]:
        raise UserError(f"{path_audit}: is about '{dataset}', not '{weights.metadata['dataset']}'; name its own")
    rows = find_rows(sample_ids, weights["sample_id"])
    names = np.where(rows >= 0, names[rows], None)
    known = np.isin(names, weights.metadata["classes"])
    return np.where(known, names == weights["pseudo_class"], -1).astype(np.int64)
