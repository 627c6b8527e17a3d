"""What a network says about images, one row each, as Parquet or CSV."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from stages.core.errors import UserError
from stages.storage.contracts import PREDICTIONS
from stages.storage.files import replace_when_complete
from stages.storage.provenance import Provenance
from stages.storage.seals import SealError, check_seal, find_footer
from stages.storage.tables import Table, close_sealed, read_metadata

SUFFIXES = (".parquet", ".csv")
ROWS_PER_GROUP = 8192
"""Of a Parquet file."""


class PredictionWriter:
    """Writes predictions batch by batch; see `open_predictions`.

    Attributes:
        n_rows: written so far.
        skipped: path and reason of the images that have no row.
    """

    def __init__(self, path: Path, suffix: str, classes: Mapping[str, Sequence[str]], metadata: dict[str, str]) -> None:
        self._path = path
        self._suffix = suffix
        self._classes = classes
        self._metadata = metadata
        self._writer: pq.ParquetWriter | pa.csv.CSVWriter | None = None
        self._paths: list[str] = []
        self._buffers: dict[tuple[str, str], np.ndarray] = {}
        self.n_rows = 0
        self.skipped: list[tuple[str, str]] = []

    def write(
        self, paths: Sequence[str], probabilities: Mapping[str, np.ndarray], features: Mapping[str, np.ndarray]
    ) -> None:
        """Add rows; no batch may be larger than the first.

        Args:
            paths: of the images, (B,).
            probabilities: by task, float32 (B, C^k).
            features: f by task, float32 (B, d), of the tasks for which they are wanted.
        """
        if len(self._paths) + len(paths) > ROWS_PER_GROUP:
            self._flush()
        rows = slice(len(self._paths), len(self._paths) + len(paths))
        for kind, values in (("probability", probabilities), ("features", features)):
            for task, array in values.items():
                if (kind, task) not in self._buffers:
                    shape = (max(ROWS_PER_GROUP, len(paths)), array.shape[1])
                    self._buffers[kind, task] = np.empty(shape, np.float32)
                # Copied into one place: many small arrays that wait between a network's large ones
                # would keep the allocator from giving those back.
                self._buffers[kind, task][rows] = array
        self._paths += paths
        self.n_rows += len(paths)

    def close(self) -> None:
        """Write what is pending, and of a Parquet file the footer and a seal."""
        self._flush()
        if self._suffix == ".csv":
            self._writer.close()
            return
        self._writer.add_key_value_metadata({"skipped": json.dumps([list(pair) for pair in self.skipped])})
        close_sealed(self._writer, self._path)

    def _flush(self) -> None:
        if not self._paths:
            return
        columns = [("path", pa.array(self._paths, pa.string()))]
        for (kind, task), buffer in self._buffers.items():
            values = buffer[: len(self._paths)]
            if kind == "features":
                columns.append((f"features_{task}", pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])))
                continue
            classes = self._classes[task]
            columns += [
                (f"class_{task}", pa.array(np.array(classes, dtype=object)[values.argmax(axis=1)])),
                (f"confidence_{task}", pa.array(values.max(axis=1))),
                *(
                    (f"probability_{task}:{name}", pa.array(np.ascontiguousarray(values[:, number])))
                    for number, name in enumerate(classes)
                ),
            ]
        names, arrays = zip(*columns, strict=True)
        table = pa.table(list(arrays), list(names)).replace_schema_metadata(self._metadata)
        if self._writer is None and self._suffix == ".csv":
            self._writer = pa.csv.CSVWriter(self._path, table.schema)
        elif self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd", write_page_checksum=True)
        self._writer.write_table(table)
        self._paths = []


@contextmanager
def open_predictions(
    path: str | Path, classes: Mapping[str, Sequence[str]], provenance: Provenance
) -> Iterator[PredictionWriter]:
    """Yield a `PredictionWriter`; the file appears when the block ends well.

    For every task there are the columns `class_<task>`, `confidence_<task>` (the largest
    probability) and `probability_<task>:<class>`; with features `features_<task>`. A Parquet file's
    schema has `classes` and the provenance as metadata, its footer also `skipped`, path and reason
    of the images without a row.

    Args:
        path: ends in one of `SUFFIXES`.
        classes: class names in index order, by task.
        provenance: of the predictions.

    """
    suffix = Path(path).suffix.lower()
    described = {"classes": {task: list(names) for task, names in classes.items()}}
    described |= provenance.describe(path, PREDICTIONS)
    with replace_when_complete(path) as path_temporary:
        metadata = {key: json.dumps(value, sort_keys=True) for key, value in described.items()}
        writer = PredictionWriter(path_temporary, suffix, classes, metadata)
        yield writer
        writer.close()


def read_predictions(path: str | Path) -> Table:
    """The columns of predictions in Parquet, those of features with shape (n, d).

    Raises:
        ValueError: the file is damaged.
    """
    try:
        check_seal(path, find_footer(path))
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table, footer = file.read(), file.metadata.metadata
    except (SealError, OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: {reason}; delete it and predict again") from None
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            flat = pa.compute.list_flatten(column).to_numpy()
            columns[name] = flat.reshape(len(column), column.type.list_size)
        else:
            columns[name] = np.array(column.to_pylist(), object) if column.type == pa.string() else column.to_numpy()
    return Table(columns, {**read_metadata(path), "skipped": json.loads(footer.get(b"skipped", b"[]"))})
