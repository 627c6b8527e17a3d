"""What a folder or table that nobody has described yet most likely is, and the settings that read it."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.data.sources import table
from stages.data.sources.base import EXTENSIONS, SPLITS, VALIDATION_SHARE
from stages.data.sources.folders import SEARCH_DEPTH, list_folders, scan_folder, walk_folders
from stages.data.sources.registry import list_readers
from stages.settings.checks import RESERVED_TASKS

LABEL_NAMES = ("label", "class", "target", "category", "labels", "classes", "class_name", "label_name")
SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders and columns call the splits, in lower case."""
MAX_CLASSES = 100
RATIO = {"test": 0.2, "seed": 0}
N_TRIED, MAX_FOLDERS = 20, 200
"""So many paths of a table are looked for, in so many folders."""


@dataclass
class Guess:
    """What was found at a path.

    Attributes:
        path: of the table or folder, absolute.
        source: name of the reader.
        layout: what it looks like, in words.
        task: what its labels are probably about.
        settings: further keys of the dataset; `images` is absolute.
        labels: where `columns.label` chooses, the values of every column that it could be.
        warnings: what of it will not be used.
    """

    path: Path
    source: str
    layout: str
    task: str
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def set_task(self, task: str) -> None:
        """Call the task so; a column of that name becomes the label."""
        self.task = task
        for name in self.labels:
            if task in (name, make_name(name)):
                self.settings["columns"]["label"] = name

    def add_audit(self, classes_of_task: Mapping[str, Sequence[str]]) -> None:
        """Carry along the columns that hold just the classes of another task.

        Where several do, or the classes are mere numbers, the column must also be called after the task.
        """
        for task, classes in classes_of_task.items():
            names = [name for name in self.list_other_labels() if self.labels[name] == set(classes)]
            if len(names) > 1 or all(label.isdecimal() for label in classes):
                names = [name for name in names if make_name(name) == task]
            if names and task != self.task:
                self.settings["columns"].setdefault("audit", {})[task] = names[0]

    def list_other_labels(self) -> list[str]:
        """Columns that could be a label, but are neither that of the task nor carried along."""
        columns = self.settings.get("columns", {})
        used = {columns.get("label"), *columns.get("audit", {}).values()}
        return [name for name in self.labels if name not in used]

    def make_settings(self, data_root: Path) -> dict[str, Any]:
        """The dataset's settings, with paths below `data_root`."""
        paths = {"path": self.path} | {key: self.settings[key] for key in self.settings if key == "images"}
        paths = {key: Path(os.path.relpath(path, data_root)).as_posix() for key, path in paths.items()}
        return {"task": self.task, "source": self.source, "path": None, **self.settings, **paths}


def find_datasets(path: str | Path) -> tuple[list[Guess], list[str]]:
    """The dataset at `path`, or those in its subfolders, and why further subfolders are none.

    Raises:
        ValueError: there is none; the message says what was looked for and how it should look.
    """
    path = Path(os.path.abspath(path))
    if path.is_file():
        return [_guess_table(path)], []
    if not path.is_dir():
        raise UserError(f"{path}: does not exist; name a folder of images or a table of labels")
    guesses, missed = _search(path, SEARCH_DEPTH)
    if not guesses:
        raise UserError(missed[0] if missed else _explain(path))
    return guesses, missed


def name_datasets(guesses: Sequence[Guess]) -> dict[str, Guess]:
    """Datasets by the names of their folders; to a name that is taken the task is added."""
    named: dict[str, Guess] = {}
    for guess in guesses:
        name = make_name((guess.path.parent if guess.source == "table" else guess.path).name)
        names = [name, f"{name}_{guess.task}", *(f"{name}_{number}" for number in range(2, len(guesses) + 2))]
        named[next(name for name in names if name not in named)] = guess
    return named


def make_name(text: str) -> str:
    """`text` as a name that the settings allow: lower case, digits and underscores, a letter first."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", ascii_only).strip("_")
    return name if name[:1].isalpha() and name not in RESERVED_TASKS else f"data_{name}".rstrip("_")


def pick_evenly(items: Sequence, n_items: int) -> list:
    """At most so many items, from all over a sequence."""
    n_items = min(n_items, len(items))
    return [items[number * len(items) // n_items] for number in range(n_items)]


def _search(folder: Path, depth: int) -> tuple[list[Guess], list[str]]:
    try:
        if guess := _recognize(folder):
            return [guess], []
    except ValueError as error:
        return [], [str(error)]
    inner = list_folders(folder)
    guesses, missed, unlabeled = [], [], []
    for one in inner if depth else []:
        found, reasons = _search(one, depth - 1)
        guesses += found
        missed += reasons
        if _has_images(one) and not found and not reasons:
            unlabeled.append(one)
    # Folders of images are classes, not datasets, even where one of them has subfolders again.
    only_classes = all(guess.source == "image_folder" and guess.settings["split"] == RATIO for guess in guesses)
    if sum(map(_has_images, inner)) > 1 and only_classes and not missed:
        return [_guess_folders(folder, "a folder for each class", dict(RATIO))], []
    return guesses, missed + [_explain(one) for one in unlabeled if guesses]


def _recognize(folder: Path) -> Guess | None:
    """The dataset that lies right here.

    Raises:
        ValueError: it almost is one.
    """
    if all(_has_classes(folder / name) for name in ("train", "test")):
        splits = [f"{name}/" for name in SPLITS if (folder / name).is_dir()]
        guess = _guess_folders(folder, f"{', '.join(splits)} with a folder for each class", "folders")
        for inner in list_folders(folder):
            if inner.name not in SPLITS and inner.name.lower() in SPLIT_OF:
                guess.warnings.append(f"its folder {inner.name} is not used; rename or merge it if it should be")
        return guess
    for source, reader in list_readers().items():
        if found := reader.recognize(folder):
            return Guess(folder, source, f"{source} as its publisher gives it out", **vars(found))
    tables, reasons = [], []
    for path in _list_tables(folder):
        try:
            tables.append(_guess_table(path))
        except _NoImagesError:
            continue
        except ValueError as error:
            reasons.append(str(error))
    if len(tables) > 1:
        raise UserError(
            f"{folder}: has several tables of images, {list_names(guess.path.name for guess in tables)}; name one of "
            "them, or put them into one table with a column that says train, validation or test"
        )
    if tables:
        tables[0].warnings += [f"another table is not used: {reason}" for reason in reasons]
        return tables[0]
    if reasons:
        raise UserError(reasons[0])
    _check_split_folders(folder)
    return None


def _guess_folders(folder: Path, layout: str, split: str | dict) -> Guess:
    settings = {"split": split}
    if split != "folders" or not (folder / "validation").is_dir():
        settings["validation"] = VALIDATION_SHARE
    return Guess(folder, "image_folder", layout, f"{make_name(folder.name)}_class", settings)


def _check_split_folders(folder: Path) -> None:
    """Raise a ValueError about folders that look like splits, but cannot be read."""
    found = {inner: SPLIT_OF[inner.name.lower()] for inner in list_folders(folder) if inner.name.lower() in SPLIT_OF}
    if len(found) < 2 and not any(map(_has_classes, found)):
        return
    by_split = {split: inner for inner, split in found.items()}
    alone = f", or name {by_split.get('train')} alone, of which a fifth is then kept for testing"
    if flat := [inner for inner in found if _has_images(inner) and not _has_classes(inner)]:
        raise UserError(_explain(flat[0]) + (alone if found[flat[0]] == "test" and "train" in by_split else ""))
    for split in ("train", "test"):
        if split not in by_split:
            spare = by_split.get("validation")
            mend = f"rename {spare.name} to {split}" if spare else f"add {split}/<class>/"
            mend += alone if split == "test" else ""
            raise UserError(f"{folder}: has {list_names(inner.name for inner in found)}, but no {split}; {mend}")
    if misnamed := [f"{inner.name} to {split}" for inner, split in found.items() if inner.name != split]:
        raise UserError(f"{folder}: the folders of its splits have other names; rename {', '.join(misnamed)}")


class _NoImagesError(UserError):
    """A table names no images, and so may be about anything."""


def _guess_table(path: Path) -> Guess:
    """The columns of a table.

    Raises:
        _NoImagesError: none holds the paths of images.
        ValueError: it lacks labels, or its splits have other names.
    """
    try:
        names = table.read_column_names(path)
    except ValueError as error:
        raise _NoImagesError(str(error)) from None
    images, column, n_rows = None, None, 0
    labels, splits, failures = {}, {}, []
    for name in names:
        try:
            values = table.read_text(path, [name])[name]
        except ValueError as error:  # such as a nested column of Parquet
            failures.append(str(error))
            continue
        n_rows, filled = len(values), set(values) - {""}
        if column is None and (images := _find_images(values, path.parent)):
            column = name
        elif len(filled) > 1 and {value.lower() for value in filled} <= set(SPLIT_OF):
            splits[name] = set(values)
        elif len(filled) > 1 and (
            name.lower() in LABEL_NAMES or (len(filled) <= MAX_CLASSES and 2 * len(filled) < n_rows)
        ):
            labels[name] = set(values)
    if column is None:
        if failures:
            raise _NoImagesError(failures[0])
        mark = next((mark for mark in ";\t|" if names and mark in names[0]), None)
        hint = f"separate its columns by commas, not by {mark!r}" if mark else "write them as in images/0001.jpg"
        raise _NoImagesError(f"{path}: no column holds the paths of images below its folder; {hint}")
    split = next((name for name, values in splits.items() if {"train", "test"} <= values <= set(SPLITS)), None)
    if splits and not split:
        name, values = next(iter(splits.items()))
        raise UserError(
            f"{path}: the column '{name}' says {list_names(sorted(values))}, but must say train, test and, if you "
            "like, validation, in every row; rename them"
        )
    label = next((name for wanted in LABEL_NAMES for name in labels if name.lower() == wanted), None)
    label = label or next((name for name, values in labels.items() if "" not in values), None)
    if not label:
        if failures:
            raise UserError(failures[0])
        raise UserError(
            f"{path}: the column '{column}' holds paths of images, but no other one holds labels (2 to {MAX_CLASSES} "
            f"values, fewer than half of the {n_rows} rows, none of them empty); call the right one label"
        )
    settings = {} if images == path.parent else {"images": images}
    settings["columns"] = {"path": column, "label": label} | ({"split": split} if split else {})
    settings["split"] = "column" if split else dict(RATIO)
    if not split or "validation" not in splits[split]:
        settings["validation"] = VALIDATION_SHARE
    labels = {name: values - {""} for name, values in labels.items()}
    layout = f"a table of {n_rows} rows and {len(names)} columns"
    unused = [f"a column is not used: {failure}" for failure in failures]
    return Guess(path, "table", layout, make_name(label), settings, labels, unused)


def _find_images(paths: list[str], folder: Path) -> Path | None:
    """The folder below which most of these paths are images; None if there is no such folder."""
    tried = pick_evenly(paths, N_TRIED)
    if 2 * sum(path.lower().endswith(EXTENSIONS) for path in tried) <= len(tried):
        return None
    folders = list(islice(walk_folders(folder, SEARCH_DEPTH), MAX_FOLDERS))
    counts = [sum(os.path.isfile(one / path) for path in tried) for one in folders]
    return folders[counts.index(max(counts))] if 2 * max(counts) > len(tried) else None


def _explain(folder: Path) -> str:
    """Why a folder is no dataset."""
    for path in _list_tables(folder):
        try:
            _guess_table(path)
        except ValueError as error:
            return str(error)
    if flat := next((one for one in walk_folders(folder, 1) if _has_images(one)), None):
        return (
            f"{flat}: holds images, but no folder for each class, and no table says their labels; sort them into "
            f"{flat.name}/<class>/, or add a CSV table with the columns path, label and perhaps split"
        )
    return (
        f"{folder}: is no dataset: looked for train/ and test/ with a folder of images for each class, for such "
        "folders alone, for a CSV or Parquet table with paths and labels of images, and for the published datasets of "
        f"docs/configuration.md; arrange it as {folder.name}/train/<class>/ and {folder.name}/test/<class>/"
    )


def _has_classes(folder: Path) -> bool:
    """Whether the folder holds folders that hold images."""
    return any(_has_images(one) for inner in list_folders(folder) for one in walk_folders(inner, 1))


def _has_images(folder: Path) -> bool:
    return any(entry.name.lower().endswith(EXTENSIONS) for entry in scan_folder(folder))


def _list_tables(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in scan_folder(folder) if entry.name.lower().endswith(table.EXTENSIONS))
