"""Parquet tables that are checked when written and when read.

Every file carries page checksums and a seal, appears whole or not at all, and says in its metadata what
it is and where it comes from.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from stages.core.errors import UserError
from stages.storage.contracts import Contract, ContractError, arrow_type, find_contract
from stages.storage.files import replace_when_complete
from stages.storage.provenance import Provenance
from stages.storage.seals import KEY, SealError, check_seal, draw_placeholder, find_footer, seal_file

BYTES_PER_ROW_GROUP = 32 * 2**20


@dataclass(frozen=True)
class Table:
    """Columns as arrays, list and vector columns with shape (n, width), and the file's metadata."""

    columns: dict[str, np.ndarray]
    metadata: dict[str, Any]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select(self, rows: np.ndarray) -> "Table":
        """Some of the rows, chosen by bool (n,); the table itself where it is all of them."""
        return (
            self if rows.all() else Table({name: values[rows] for name, values in self.columns.items()}, self.metadata)
        )


def write_table(
    path: str | Path,
    contract: Contract,
    columns: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, Any],
    provenance: Provenance,
) -> None:
    """Write one table that fits in memory.

    Raises:
        ContractError: the columns or the metadata break the contract.
    """
    with open_writer(path, contract, metadata=metadata, provenance=provenance) as writer:
        writer.write(columns)


class RowGroupWriter:
    """Collects rows and writes them in row groups of about 32 MB."""

    def __init__(self, path: Path, contract: Contract, metadata: Mapping[str, Any]) -> None:
        contract.check_metadata(metadata)
        self._path = path
        self._contract = contract
        self._metadata = {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._last_key: int | None = None

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Add rows; they must follow the rows already written."""
        self._contract.check(columns)
        key = self._contract.key
        if key is not None and len(columns[key]):
            if self._last_key is not None and columns[key][0] <= self._last_key:
                raise ContractError(f"{key} must increase from one batch of rows to the next")
            self._last_key = int(columns[key][-1])
        batch = self._to_arrow(columns)
        self._pending.append(batch)
        self._pending_bytes += batch.nbytes
        if self._pending_bytes >= BYTES_PER_ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the file's footer, and seal it."""
        if self._writer is None and not self._pending:
            raise ContractError(f"a {self._contract.name} table must have rows")
        self._flush()
        close_sealed(self._writer, self._path)

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending)
        if self._writer is None:
            vectors = {name for name in table.column_names if self._contract.find_column(name).kind == "vector"}
            others = [name for name in table.column_names if name not in vectors]
            lists = {name for name in others if self._contract.find_column(name).kind.endswith("_list")}
            self._writer = pq.ParquetWriter(
                self._path,
                table.schema,
                write_page_checksum=True,
                write_statistics=others,
                use_dictionary=[name for name in others if self._contract.find_column(name).kind == "string"],
                compression={
                    (f"{name}.list.element" if name in lists else name): "zstd" if name in others else "none"
                    for name in table.column_names
                },
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._pending, self._pending_bytes = [], 0

    def _to_arrow(self, columns: Mapping[str, np.ndarray]) -> pa.RecordBatch:
        arrays, fields = [], []
        for name, values in columns.items():
            column = self._contract.find_column(name)
            array = _array_to_arrow(column.kind, values)
            arrays.append(array)
            fields.append(pa.field(name, array.type, nullable=column.nullable))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=self._metadata))


@contextmanager
def open_writer(path: str | Path, contract: Contract, *, metadata: Mapping[str, Any], provenance: Provenance):
    """Yield a `RowGroupWriter`; the file appears when the block ends well."""
    described = {**metadata, **provenance.describe(path, contract)}
    with replace_when_complete(path) as path_temporary:
        writer = RowGroupWriter(path_temporary, contract, described)
        yield writer
        writer.close()


def close_sealed(writer: pq.ParquetWriter, path: Path) -> None:
    """Write a file's footer and seal it."""
    # In the schema's metadata it would stand twice: that is also kept as base64.
    writer.add_key_value_metadata({KEY: (placeholder := draw_placeholder())})
    writer.close()
    seal_file(path, placeholder, find_footer(path))


def read_table(path: str | Path, contract: Contract, columns: Iterable[str] | None = None) -> Table:
    """Read a table, or some of its columns, and check its seal, checksums, types and ranges.

    Raises:
        ValueError: the file is missing, damaged or breaks its contract; the message says how to
            make it anew.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: does not exist; run snakemake for it first")
    names = None if columns is None else list(columns)
    try:
        check_seal(path, find_footer(path))
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = _decode_metadata(file.schema_arrow.metadata)
            contract.check_metadata(metadata)
            missing = [name for name in names or () if name not in file.schema_arrow.names]
            if missing:
                raise ContractError(f"lacks the columns {missing}")
            table = file.read(columns=names)
        arrays = {
            name: _arrow_to_array(contract.find_column(name).kind, column)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        contract.check(arrays, complete=names is None)
    except (SealError, ContractError) as error:
        raise type(error)(f"{path}: {error}; delete it and run snakemake again") from None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: is damaged ({reason}); delete it and run snakemake again") from None
    return Table(arrays, metadata)


def read_aligned(path: str | Path, contract: Contract, features: Table) -> Table:
    """A per-sample table with the rows of `features`.

    Raises:
        ValueError: the table is about other samples.
    """
    table = read_table(path, contract)
    same = table.metadata["dataset"] == features.metadata["dataset"]
    if not (same and np.array_equal(table["sample_id"], features["sample_id"])):
        raise UserError(f"{path}: its samples are not those of the features; delete it and run snakemake again")
    return table


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of any table of the pipeline.

    Raises:
        ValueError: the file is missing or is not a Parquet file.
    """
    try:
        return _decode_metadata(pq.read_schema(path).metadata)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run snakemake again") from None


def read_any(path: str | Path) -> dict[str, Any]:
    """What any artifact, table or JSON file, says of itself, and the rest of its metadata.

    Its seal is not checked: `read_table` and `read_json` do that.

    Raises:
        ValueError: the file is missing or cannot be read, or is of no kind that this version knows.
    """
    try:
        is_json = Path(path).suffix == ".json"
        found = json.loads(Path(path).read_text(encoding="utf-8")) if is_json else read_metadata(path)
        find_contract(found)
    except ContractError as error:
        raise ContractError(f"{path}: {error}; delete it and run snakemake again") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run snakemake again") from None
    return found


def _decode_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    return {key.decode(): json.loads(value) for key, value in (metadata or {}).items() if not key.startswith(b"ARROW:")}


def _array_to_arrow(kind: str, values: np.ndarray) -> pa.Array:
    if kind == "vector":
        values = np.ascontiguousarray(values, dtype="<f4")
        n_rows, width = values.shape
        return pa.FixedSizeBinaryArray.from_buffers(arrow_type(kind, width), n_rows, [None, pa.py_buffer(values)])
    if kind.endswith("_list"):
        values = np.ascontiguousarray(values, dtype=kind.removesuffix("_list"))
        n_rows, width = values.shape
        offsets = pa.array(np.arange(n_rows + 1, dtype=np.int32) * np.int32(width))
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
    if kind == "float64":
        return pa.array(np.asarray(values, dtype=np.float64), from_pandas=True)
    return pa.array(values, type=arrow_type(kind))


def _arrow_to_array(kind: str, column: pa.ChunkedArray) -> np.ndarray:
    if kind == "vector":
        width = column.type.byte_width // 4
        parts = [
            np.frombuffer(chunk.buffers()[1], dtype="<f4", offset=chunk.offset * width * 4, count=len(chunk) * width)
            for chunk in column.chunks
        ]
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return flat.reshape(len(column), width)
    if kind.endswith("_list"):
        lengths = pa.compute.list_value_length(column).unique().to_pylist() if len(column) else [0]
        if len(lengths) > 1:
            raise ContractError(f"holds lists of several lengths: {sorted(lengths)}")
        flat = pa.compute.list_flatten(column).to_numpy()
        return flat.reshape(len(column), lengths[0])
    if kind == "string":
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()
