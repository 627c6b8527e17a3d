"""What a network says about images, one row each, as Parquet or CSV."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from stages.storage.files import replace_when_complete
from stages.storage.tables import Provenance

SUFFIXES = (".parquet", ".csv")
ROWS_PER_GROUP = 8192


class PredictionWriter:
    """Writes predictions batch by batch; see `open_predictions`.

    Attributes:
        skipped: path and reason of the images that have no row.
    """

    def __init__(self, path: Path, suffix: str, classes: Mapping[str, Sequence[str]], metadata: dict[str, str]) -> None:
        self._path = path
        self._suffix = suffix
        self._classes = classes
        self._metadata = metadata
        self._writer: pq.ParquetWriter | pa.csv.CSVWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self.n_rows = 0
        self.skipped: list[tuple[str, str]] = []

    def write(
        self, paths: Sequence[str], probabilities: Mapping[str, np.ndarray], features: Mapping[str, np.ndarray]
    ) -> None:
        """Add rows.

        Args:
            paths: of the images, (B,).
            probabilities: by task, float32 (B, C^k).
            features: f by task, float32 (B, d), of the tasks for which they are wanted.
        """
        columns = [("path", pa.array(paths, pa.string()))]
        for task, classes in self._classes.items():
            shares = probabilities[task]
            columns += [
                (f"class_{task}", pa.array(np.array(classes, dtype=object)[shares.argmax(axis=1)])),
                (f"confidence_{task}", pa.array(shares.max(axis=1))),
                *(
                    (f"probability_{task}_{name}", pa.array(np.ascontiguousarray(shares[:, number])))
                    for number, name in enumerate(classes)
                ),
            ]
        for task, values in features.items():
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns.append((f"features_{task}", pa.FixedSizeListArray.from_arrays(flat, values.shape[1])))
        names, arrays = zip(*columns, strict=True)
        self._pending.append(pa.RecordBatch.from_arrays(list(arrays), list(names)))
        self.n_rows += len(paths)
        if sum(map(len, self._pending)) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is pending, and of a Parquet file the metadata."""
        if not self.n_rows:
            raise ValueError("none of the images can be used")
        self._flush()
        if self._suffix == ".parquet":
            self._writer.add_key_value_metadata({"skipped": json.dumps([list(pair) for pair in self.skipped])})
        self._writer.close()

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending).replace_schema_metadata(self._metadata)
        if self._writer is None and self._suffix == ".csv":
            self._writer = pa.csv.CSVWriter(self._path, table.schema)
        elif self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd", write_page_checksum=True)
        self._writer.write_table(table)
        self._pending = []


@contextmanager
def open_predictions(
    path: str | Path, classes: Mapping[str, Sequence[str]], provenance: Provenance
) -> Iterator[PredictionWriter]:
    """Yield a `PredictionWriter`; the file appears when the block ends well.

    For every task there are the columns `class_<task>`, `confidence_<task>` (the largest
    probability) and `probability_<task>_<class>`; with features `features_<task>`. A Parquet file's
    schema has `classes` and the provenance as metadata, its footer also `skipped`, path and reason
    of the images without a row.

    Args:
        path: ends in one of `SUFFIXES`.
        classes: class names in index order, by task.
        provenance: of the predictions.

    Raises:
        ValueError: the name ends otherwise, or nothing was written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: must end in {' or '.join(SUFFIXES)}")
    described = {"classes": {task: list(names) for task, names in classes.items()}, **provenance.describe(path)}
    with replace_when_complete(path) as path_temporary:
        metadata = {key: json.dumps(value, sort_keys=True) for key, value in described.items()}
        writer = PredictionWriter(path_temporary, suffix, classes, metadata)
        yield writer
        writer.close()
