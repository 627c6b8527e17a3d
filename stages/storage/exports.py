"""Columns of tables as files that other programs read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from stages.core.errors import UserError
from stages.core.suggestions import suggest
from stages.storage.files import replace_when_complete


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns as CSV; those of shape (n, width) as `width` columns `<name>:<number>`, nulls as empty cells."""
    flat = {}
    for name, values in columns.items():
        if values.ndim == 1:
            flat[name] = pa.array(values, from_pandas=True)
            continue
        for number in range(values.shape[1]):
            flat[f"{name}:{number}"] = pa.array(np.ascontiguousarray(values[:, number]))
    with replace_when_complete(path) as path_temporary:
        pa.csv.write_csv(pa.table(flat), path_temporary)


def write_array(path: Path, columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Write one column of numbers as `.npy`; returns it.

    Raises:
        ValueError: there is no such column, or it holds texts.
    """
    if name not in columns:
        raise UserError(f"--npy: there is no column '{name}'{suggest(name, columns)}")
    values = np.ascontiguousarray(columns[name])
    if values.dtype == object:
        raise UserError(f"--npy: the column '{name}' holds texts; write it with --csv")
    with replace_when_complete(path) as path_temporary, path_temporary.open("wb") as file:
        np.save(file, values)
    return values
