"""A CSV or Parquet file with one image per row."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.suggestions import list_names, suggest
from stages.core.task_labels import list_audits, list_labels
from stages.data.sources.base import (
    SPLITS,
    FileLoader,
    Manifest,
    Sample,
    Tolerance,
    build_manifest,
    normalize_path,
    select_samples,
)
from stages.data.sources.reader import Reader
from stages.settings.datasets import SOURCE, RatioSplit, ThinnedDataset, Validation
from stages.settings.section import OPTIONAL, Name, Section, either

if TYPE_CHECKING:
    import pyarrow as pa

EXTENSIONS = (".csv", ".parquet")


class TableColumns(Section):
    """What the columns are called."""

    path: str = Field(description="Column of image paths.")
    label: Annotated[str, OPTIONAL] = Field(None, description="Column of the labels of `task`.")
    split: Annotated[str, OPTIONAL] = Field(None, description="Column that says train, validation or test.")
    audit: Annotated[dict[Name, str], OPTIONAL] = Field(None, description="The same as the dataset's `audit`.")


class Table(ThinnedDataset):
    """A CSV or Parquet file with a row for each image.

    `path`: the file. `labels: {age: age_group, gender: sex}` names the column of every task, in which an empty cell is
    an unknown label; `task: age` with `columns.label` is short for one task that every row has a label for.
    `audit: {gender: sex}` maps a task to a column that is carried along, never trained on. `columns: {path, split}`
    name the others. `images`: the folder that paths start from, the table's own where left out. `split: column` (train,
    test and, if you like, validation) or a ratio as above.
    """

    source: Literal["table"] = SOURCE
    path: str = Field(description="CSV or Parquet file below `data_root`.")
    images: Annotated[str, OPTIONAL] = Field(
        None, description="Folder of the images below `data_root`; the table's own where it is left out."
    )
    labels: Annotated[dict[Name, str], OPTIONAL] = Field(
        None, description="Column by task; an empty cell is an unknown label. In the place of `task`."
    )
    audit: Annotated[dict[Name, str], OPTIONAL] = Field(
        None, description="Column by task, for labels that are known but never trained on."
    )
    columns: TableColumns = Field(description=TableColumns.__doc__)
    duplicates: Annotated[Literal["stop", "first", "majority"], OPTIONAL] = Field(
        None,
        description="Of images in several rows: refuse them, as where it is left out, take the first row, or of each "
        "task the most frequent class.",
    )
    split: either(text=Literal["column"], section=RatioSplit) = Field(
        description="`column` to take `columns.split`, or a ratio."
    )
    validation: Validation = None


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Images named by the column `columns.path` of `path`, relative to the folder `images`.

    All columns are read as text, without the blanks around it. `split: column` takes
    `columns.split`, which says train, test or validation; a mapping such as `{test: 0.2, seed: 0}`
    splits the rows, class by class. A label may be empty where `labels` names its column, and an audit label always:
    it is then not known. See also `select_samples`.

    Raises:
        ValueError: the file or a column is missing, a path, label or split is empty or unknown,
            or the dataset breaks a rule of `build_manifest`. Row 1 is the first below the header.
    """
    path = data_root / settings["path"]
    folder = data_root / settings["images"] if settings.get("images") else path.parent
    split = settings.get("split", "column")
    columns = settings["columns"]
    if split == "column" and "split" not in columns:
        raise UserError(f"{path}: `columns` names no split; add it or set `split` to a ratio: {{test: 0.2, seed: 0}}")
    if split != "column" and "part" in settings:
        # Such a split follows the labels, so that another dataset of these images would have another.
        raise UserError(f"{path}: `part` needs the split of a column, not a ratio; name it in columns.split")
    if not path.is_file():
        raise UserError(f"{path}: does not exist; correct `path` or `data_root`")
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; correct `images` or `data_root`")
    labels, audit = list_labels(settings), list_audits(settings)
    filled = [] if "labels" in settings else list(labels.values())
    others = [*labels.values(), *audit.values(), *([columns["split"]] if split == "column" else [])]
    paths, text = read_rows(path, folder, columns["path"], filled, others, tolerance.list_roots(data_root))
    splits = ["train"] * len(paths)
    if split == "column":
        splits = text[columns["split"]]
        _check_splits(path, columns["split"], splits)
    samples = [
        Sample(
            paths[row],
            {task: text[name][row] or None for task, name in labels.items()},
            splits[row],
            {task: text[name][row] or None for task, name in audit.items()},
        )
        for row in range(len(paths))
    ]
    return build_manifest(select_samples(samples, settings, path), FileLoader(folder), settings, path)


def read_rows(
    path: Path,
    folder: Path,
    path_column: str,
    filled: Sequence[str],
    others: Sequence[str] = (),
    roots: Sequence[Path] | None = (),
) -> tuple[list[str], dict[str, list[str]]]:
    """Image paths from `folder`, and the text of `filled` and `others` by column, one entry per row.

    Images may lie below `folder`, below the table's own, and below `roots`; anywhere where that is None.

    Raises:
        ValueError: see `read_text`; or a path or an entry of `filled` is empty, or a path lies elsewhere.
    """
    text = read_text(path, [path_column, *filled, *others])
    for name in (path_column, *filled):
        _check_filled(path, name, text[name])
    roots = None if roots is None else (path.parent, *roots)
    paths = [_normalize(path, row, name, folder, roots) for row, name in enumerate(text[path_column], start=1)]
    return paths, text


def read_column_names(path: Path) -> list[str]:
    """The columns of a table, in its order.

    Raises:
        ValueError: the file is no table, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if path.suffix.lower() not in EXTENSIONS:
        raise UserError(f"{path}: must end in {' or '.join(EXTENSIONS)}")
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path).names
        with pyarrow.csv.open_csv(path) as reader:
            return reader.schema.names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _report_unreadable(path, error) from None


def read_text(path: Path, wanted: list[str]) -> dict[str, list[str]]:
    """Some columns of a table as text, without the blanks around it; what is missing is empty.

    Raises:
        ValueError: the file cannot be read, or a column is missing or there twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_columns(path, wanted, read_column_names(path))
    try:
        table = (pq.read_table if path.suffix.lower() == ".parquet" else _read_csv)(path, columns=sorted(set(wanted)))
        return {
            name: [value.strip() for value in table[name].cast(pa.string()).fill_null("").to_pylist()]
            for name in table.column_names
        }
    except pa.ArrowException as error:
        raise _report_unreadable(path, error) from None


def _read_csv(path: Path, columns: list[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.csv

    options = pyarrow.csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
    )
    return pyarrow.csv.read_csv(path, convert_options=options)


def _report_unreadable(path: Path, error: "pa.ArrowException") -> ValueError:
    reason = str(error).splitlines()[0]
    return ValueError(f"{path}: cannot be read ({reason}); save it as UTF-8 text or as Parquet")


def _check_columns(path: Path, wanted: list[str], names: list[str]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise UserError(f"{path}: has more than one column '{name}'; rename all but one")
        if name not in names:
            raise UserError(f"{path}: has no column '{name}'{suggest(name, names)}; name the right one")


def _check_filled(path: Path, name: str, values: list[str]) -> None:
    empty = [row for row, value in enumerate(values, start=1) if not value]
    if empty:
        raise UserError(f"{path}: column '{name}' is empty in {_list_rows(empty)}; fill it in or remove the row")


def _check_splits(path: Path, name: str, values: list[str]) -> None:
    wrong = [row for row, value in enumerate(values, start=1) if value not in SPLITS]
    if wrong:
        raise UserError(
            f"{path}: column '{name}' must say {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, but says "
            f"{list_names(sorted({values[row - 1] for row in wrong}))} in {_list_rows(wrong)}; remove or rename them"
        )


def _normalize(path_table: Path, row: int, path: str, folder: Path, roots: Sequence[Path] | None) -> str:
    try:
        return normalize_path(path, folder, roots)
    except ValueError as error:
        raise UserError(f"{path_table}: row {row}: {error}") from None


def _list_rows(rows: list[int]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"row {rows[0]}{more}"


READER = Reader(
    read=read,
    settings=Table,
    place_images=lambda settings: settings.get("images", PurePath(settings["path"]).parent.as_posix()),
)
