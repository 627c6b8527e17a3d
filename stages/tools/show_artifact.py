"""Print an artifact so that people can read it: what it is, where it comes from, and what it holds.

Tables, JSON files, reports, networks, optimizers and images, all checked before they are shown. Tables also become
CSV, or one of their columns an array of NumPy.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.suggestions import escape_name
from stages.storage.contracts import IDENTITY, Contract, find_contract
from stages.storage.exports import write_array, write_columns
from stages.storage.files import read_json
from stages.storage.predictions import read_predictions
from stages.storage.reports import START, read_identity
from stages.storage.seals import KEY
from stages.storage.tables import Table, read_any, read_table
from stages.storage.unsealed import read_images, read_tensors

KINDS = (".parquet", ".json", ".md", ".safetensors", ".npy")
VALUES_SHOWN = 4
"""Of a vector."""
LONGEST = 40
"""Characters of a text in a row."""


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa show weights.parquet --rows 20 --csv weights.csv")
    parser.add_argument("path", type=Path, metavar="PATH", help="an artifact, such as a table or a network")
    parser.add_argument("--rows", type=int, default=5, help="of a table, or lines of a report, to print")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all columns of a table; one per vector's entry")
    parser.add_argument("--npy", nargs=2, metavar=("FILE", "COLUMN"), help="write one column, such as features_<task>")
    options = parser.parse_args(argv)
    path = options.path
    if not path.is_file():
        reason = "is a folder; name a file in it" if path.is_dir() else "does not exist; correct the path"
        raise UserError(f"{path}: {reason}")
    if path.suffix not in KINDS:
        raise UserError(f"{path}: is no artifact that can be shown; those end in {', '.join(KINDS)}")
    if (options.csv or options.npy) and path.suffix != ".parquet":
        raise UserError(f"{path}: is no table; --csv and --npy are for .parquet")
    for output, suffix in ((options.csv, ".csv"), (options.npy and Path(options.npy[0]), ".npy")):
        if output and output.suffix != suffix:
            raise UserError(f"{output}: must end in {suffix}; choose another name")
        if output and output.exists():
            raise UserError(f"{output}: exists; remove it first, or choose another name")
    # What a class is called decides how it is shown, not what a terminal does.
    sys.stdout.reconfigure(errors="backslashreplace")
    show = {
        ".parquet": show_table,
        ".json": show_document,
        ".md": show_report,
        ".safetensors": show_tensors,
        ".npy": show_images,
    }[path.suffix]
    table = show(path, max(0, options.rows))
    if options.csv:
        write_columns(options.csv, table.columns)
        print(f"{options.csv}: {len(table)} rows")
    if options.npy:
        written = write_array(Path(options.npy[0]), table.columns, options.npy[1])
        print(f"{options.npy[0]}: {written.dtype} {written.shape}")


def show_table(path: Path, n_rows: int) -> Table:
    """Print what a table is, its columns and first rows; returns it."""
    contract = find_contract(read_any(path))
    if isinstance(contract, Contract):
        table = read_table(path, contract)
        definitions = {name: contract.find_column(name) for name in table.columns}
        columns = [
            [name, one.kind + _width(table[name]), _limits(one), one.description] for name, one in definitions.items()
        ]
    else:
        table = read_predictions(path)
        kinds = {name: "string" if one.dtype == object else str(one.dtype) for name, one in table.columns.items()}
        columns = [[name, kind + _width(table[name]), "", ""] for name, kind in kinds.items()]
    _print_identity(path, table.metadata, f"{len(table)} rows, {len(table.columns)} columns")
    print("\ncolumns")
    _print_rows(["name", "type", "range", "what it is"], columns)
    if n_rows:
        print(f"\nfirst {min(n_rows, len(table))} of {len(table)} rows")
        rows = [[_value(values[row]) for values in table.columns.values()] for row in range(min(n_rows, len(table)))]
        _print_rows(list(table.columns), rows)
    return table


def show_document(path: Path, n_rows: int) -> None:
    """Print what a JSON file is and holds."""
    _print_identity(path, read_json(path, find_contract(read_any(path))))


def show_report(path: Path, n_rows: int) -> None:
    """Print what a report is and its first lines."""
    identity = read_identity(path)
    find_contract(identity)
    _print_identity(path, identity)
    lines = path.read_text(encoding="utf-8").rpartition(START)[0].rstrip().splitlines()
    print(f"\nfirst {min(n_rows, len(lines))} of {len(lines)} lines")
    for line in lines[:n_rows]:
        print(f"  {escape_name(line)}")


def show_tensors(path: Path, n_rows: int) -> None:
    """Print the specification of a network, and the tensors of a network or optimizer."""
    found = read_tensors(path)
    n_values = sum(int(np.prod(shape)) for _, shape in found.tensors.values())
    kind = "network" if found.specification else "optimizer or other tensors"
    print(f"{path}\n{kind}: {len(found.tensors)} tensors, {n_values:,} values")
    print(f"  {found.record}")
    if found.specification:
        print("\nspecification")
        _print_mapping(found.specification)
    print("\ntensors")
    rows = [[name, kind, " x ".join(map(str, shape)) or "one value"] for name, (kind, shape) in found.tensors.items()]
    _print_rows(["name", "type", "shape"], rows)


def show_images(path: Path, n_rows: int) -> None:
    """Print shape, type and range of a memory map."""
    found = read_images(path)
    print(f"{path}\narray: {found.dtype}, shape {' x '.join(map(str, found.shape))}")
    print(f"  {found.record}")
    if found.minimum is not None:
        print(f"  values from {found.minimum:g} to {found.maximum:g}")


def _print_identity(path: Path, found: Mapping[str, Any], size: str = "") -> None:
    """What an artifact says of itself, and the rest of its metadata or content."""
    contract = found["contract"]
    print(f"{path}\n{contract['name']}, version {contract['version']}" + (f": {size}" if size else ""))
    print(f"  made by     {found['stage']}, as {escape_name(found['path'])}")
    for name, value in found["parameters"].items():
        print(f"  parameter   {escape_name(name)}: {_text(value)}")
    for name, digest in found["inputs"].items():
        print(f"  input       {escape_name(name)}  {digest}")
    print(f"  versions    {', '.join(f'{name} {version}' for name, version in found['versions'].items())}")
    if found["device"]:
        print(f"  device      {found['device']}, {found['precision']}")
    rest = {key: value for key, value in found.items() if key not in (*IDENTITY, KEY)}
    if rest:
        print("\nsays")
        _print_mapping(rest)


def _print_mapping(content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        if text.startswith("{"):
            # What is plain enough for one line needs no braces of its own.
            text = yaml.safe_dump({key: value}, allow_unicode=True, default_flow_style=False)
        for line in text.splitlines():
            print(f"  {line}")


def _print_rows(header: list[str], rows: list[list[str]]) -> None:
    from tabulate import tabulate

    used = [number for number in range(len(header)) if any(row[number] for row in rows)] or range(len(header))
    kept = [[row[number] for number in used] for row in rows]
    text = tabulate(kept, [escape_name(header[number]) for number in used], "plain", disable_numparse=True)
    for line in text.splitlines():
        print(f"  {line}")


def _width(values: np.ndarray) -> str:
    return f" ({values.shape[1]})" if values.ndim > 1 else ""


def _limits(column: Any) -> str:
    limits = {(False, False): "", (True, False): f"from {column.minimum} up", (False, True): f"up to {column.maximum}"}
    both = f"{column.minimum} to {column.maximum}"
    parts = [limits.get((column.minimum is not None, column.maximum is not None), both)]
    parts += ["sums to 1"] * column.sums_to_one + ["may be null"] * column.nullable
    return ", ".join(filter(None, parts))


def _value(value: Any) -> str:
    """A cell of a row."""
    if isinstance(value, np.ndarray):
        more = ", …" if len(value) > VALUES_SHOWN else ""
        return f"[{', '.join(_value(one) for one in value[:VALUES_SHOWN])}{more}]"
    if value is None or value != value:  # NaN stands for null
        return "null"
    if isinstance(value, np.floating | float):
        return f"{value:.5g}"
    text = escape_name(str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _text(value: Any) -> str:
    return escape_name(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    run_stage(main)
