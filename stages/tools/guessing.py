"""What a folder or table that nobody has described yet most likely is, and the settings that read it."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
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
        tasks: what its labels are probably about, and the column of each; empty where the source has but one label.
        settings: further keys of the dataset; `images` is absolute.
        labels: where columns hold labels, how often each value stands in every column that could be one; empty cells
            count as well.
        warnings: what of it will not be used.
    """

    path: Path
    source: str
    layout: str
    tasks: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Counter] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def set_tasks(self, tasks: Sequence[str]) -> None:
        """Call the tasks so; columns of these names become the labels."""
        first = next(iter(self.tasks.values()))
        found = {task: next((name for name in self.labels if task in (name, make_name(name))), None) for task in tasks}
        if len(tasks) > 1 and None in found.values():
            missing = next(task for task, column in found.items() if column is None)
            raise UserError(f"{self.path}: has no labels called '{missing}'; they are {list_names(self.labels)}")
        self.tasks = {task: column or first for task, column in found.items()}

    def add_audit(self, classes_of_task: Mapping[str, Sequence[str]]) -> None:
        """Carry along the columns that hold just the classes of another dataset's task, but never the last label.

        Where several do, or the classes are mere numbers, the column must also be called after the task.
        """
        for task, classes in classes_of_task.items():
            free = self.list_other_labels() + list(self.tasks.values())[1:]
            names = [name for name in free if set(self.labels.get(name, ())) - {""} == set(classes)]
            if len(names) > 1 or all(label.isdecimal() for label in classes):
                names = [name for name in names if make_name(name) == task]
            if names and task not in self.tasks:
                self.settings.setdefault("audit", {})[task] = names[0]
                self.tasks = {one: column for one, column in self.tasks.items() if column != names[0]}

    def list_other_labels(self) -> list[str]:
        """Columns that could be a label, but are neither that of a task nor carried along."""
        used = {*self.tasks.values(), *self.settings.get("audit", {}).values()}
        return [name for name in self.labels if name not in used]

    def merge_classes(self) -> dict[str, dict[str, list[str]]]:
        """By task whose values look like other spellings of each other: by class the values that mean it."""
        merged = {}
        for task, column in self.tasks.items():
            classes = merge_spellings(self.labels.get(column, Counter()))
            if any(len(names) > 1 for names in classes.values()):
                merged[task] = classes
        return merged

    def make_settings(self, data_root: Path) -> dict[str, Any]:
        """The dataset's settings, with paths below `data_root`."""
        paths = {"path": self.path} | {key: self.settings[key] for key in self.settings if key == "images"}
        paths = {key: Path(os.path.relpath(path, data_root)).as_posix() for key, path in paths.items()}
        (task, column), *others = self.tasks.items()
        settings, labels = dict(self.settings), {"task": task}
        if others or self.labels.get(column, Counter())[""]:
            labels = {"labels": dict(self.tasks)}
        elif column:
            settings["columns"] = self.settings.get("columns", {}) | {"label": column}
        if (merged := self.merge_classes()) and not others:
            settings["classes"] = merged[task]
        return {**labels, "source": self.source, "path": None, **settings, **paths}


WORD_ENDINGS = [
    *({"", "s"}, {"", "ness"}, {"", "ed"}, {"", "d"}, {"", "ful"}, {"", "ing"}, {"", "ly"}, {"", "ment"}),
    *({"y", "iness"}, {"y", "ied"}, {"y", "ies"}, {"er", "ry"}, {"e", "ing"}, {"ed", "ing"}, {"d", "ful"}),
]
"""What two forms of one word end in, behind what they share: happy and happiness, anger and angry."""


def merge_spellings(counts: Counter) -> dict[str, list[str]]:
    """Values that differ in case, blanks, punctuation or the form of a word, by the most frequent of them.

    Args:
        counts: how often each value stands in a column; empty ones are left out.
    """
    classes: dict[str, list[str]] = {}
    for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if value:
            alike = next((name for name in classes if _are_alike(name, value)), value)
            classes.setdefault(alike, []).append(value)
    return dict(sorted(classes.items()))


def _are_alike(first: str, second: str) -> bool:
    first, second = (re.sub(r"[\W_]+", " ", one).strip().casefold() for one in (first, second))
    if first == second or not (first.isalpha() and second.isalpha()):
        return first == second != ""
    n_shared = sum(takewhile(bool, map(str.__eq__, first, second)))
    return n_shared >= 3 and {first[n_shared:], second[n_shared:]} in WORD_ENDINGS


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
        names = [
            name,
            f"{name}_{next(iter(guess.tasks))}",
            *(f"{name}_{number}" for number in range(2, len(guesses) + 2)),
        ]
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
            labels = {name: Counter(values) for name, values in found.labels.items()}
            column = found.settings.get("columns", {}).get("label", "")
            layout = f"{source} as its publisher gives it out"
            return Guess(folder, source, layout, {found.task: column}, dict(found.settings), labels)
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
    return Guess(folder, "image_folder", layout, {f"{make_name(folder.name)}_class": ""}, settings)


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
    images, column, paths = None, None, []
    labels, splits, failures = {}, {}, []
    for name in names:
        try:
            values = table.read_text(path, [name])[name]
        except ValueError as error:  # such as a nested column of Parquet
            failures.append(str(error))
            continue
        filled = set(values) - {""}
        if column is None and (images := _find_images(values, path.parent)):
            column, paths = name, values
        elif len(filled) > 1 and {value.lower() for value in filled} <= set(SPLIT_OF):
            splits[name] = set(values)
        elif len(filled) > 1 and (
            name.lower() in LABEL_NAMES
            or (len(filled) <= MAX_CLASSES and 2 * len(filled) < sum(value != "" for value in values))
        ):
            labels[name] = Counter(values)
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
    if not labels:
        if failures:
            raise UserError(failures[0])
        raise UserError(
            f"{path}: the column '{column}' holds paths of images, but no other one holds labels (2 to {MAX_CLASSES} "
            "values, fewer than half of the rows that have one); call the right one label"
        )
    settings = {} if images == path.parent else {"images": images}
    settings["columns"] = {"path": column} | ({"split": split} if split else {})
    if len(set(paths)) < len(paths):
        settings["duplicates"] = "majority"
    settings["split"] = "column" if split else dict(RATIO)
    if not split or "validation" not in splits[split]:
        settings["validation"] = VALIDATION_SHARE
    named = next((name for wanted in LABEL_NAMES for name in labels if name.lower() == wanted), None)
    tasks = {make_name(name): name for name in ([named] if named else labels)}
    layout = f"a table of {len(paths)} rows and {len(names)} columns"
    unused = [f"a column is not used: {failure}" for failure in failures]
    return Guess(path, "table", layout, tasks, settings, labels, unused)


def _find_images(paths: list[str], folder: Path) -> Path | None:
    """The folder, at or below a table's or beside it, below which most of these paths are images; None without one."""
    tried = pick_evenly(paths, N_TRIED)
    if 2 * sum(path.lower().endswith(EXTENSIONS) for path in tried) <= len(tried):
        return None
    below = islice(walk_folders(folder, SEARCH_DEPTH), MAX_FOLDERS)
    beside = islice(walk_folders(folder.parent, SEARCH_DEPTH), MAX_FOLDERS)
    folders = list(dict.fromkeys([*below, *beside]))
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
            f"{flat.name}/<class>/, add a CSV table with the columns path, label and perhaps split, or give the config "
            "a dataset with `labels: {}`"
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
