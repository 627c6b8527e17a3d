"""What is known of a source before anything is read; planning imports it with all readers, so it must stay light."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.task_labels import list_held_back
from stages.data.sources.base import Manifest, Tolerance
from stages.settings.datasets import Dataset

Settings = Mapping[str, Any]
"""Of one dataset, checked."""
TERMS = "The terms of the images decide what the network may be used for."


@dataclass(frozen=True)
class Publisher:
    """Who gives a dataset out: its name and the public page that says how to get it."""

    dataset: str
    page: str


@dataclass(frozen=True)
class Recognized:
    """What a folder holds that is laid out as a publisher does.

    Attributes:
        task: what its labels are probably about.
        settings: further keys of the dataset, beside `source` and `path`.
        labels: where `columns.label` chooses, the values of every column that it could be.
    """

    task: str
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A source: how it is read, and what others must know of it.

    Its module calls it `READER` and has a function called `read`. The code that `read` uses identifies a
    dataset's images, so it uses nothing else of its reader.

    Attributes:
        read: lists the dataset whose settings are given, below `data_root`; no image is opened.
        settings: model of its keys, which are documented by the docstring.
        publisher: None where the images are the user's own.
        origin: where the images come from and what that means for a network, if there is no publisher.
        label_files: of a dataset, where it has its labels below `path`: patterns of which the first that is
            there is read. Where `path` is itself a file, they are in it.
        place_images: of a dataset, the folder below `data_root` in which its images lie.
        audited_tasks: of a dataset, the tasks for which it holds back labels that are known.
        cropped: whether a dataset's samples are boxes cut out of its images.
        recognize: what a folder holds; None where it is not laid out as a publisher does.
    """

    read: Callable[[Settings, Path, Tolerance], Manifest]
    settings: type[Dataset]
    publisher: Publisher | None = None
    origin: str = f"from a folder or table; whose, is not said. {TERMS}"
    label_files: Callable[[Settings], Sequence[Sequence[str]]] = lambda settings: ()
    place_images: Callable[[Settings], str] = lambda settings: settings.get("path", "")
    audited_tasks: Callable[[Settings], list[str]] = list_held_back
    cropped: Callable[[Settings], bool] = lambda settings: False
    recognize: Callable[[Path], Recognized | None] = lambda folder: None


def known_by(task: str, *patterns: str) -> Callable[[Path], Recognized | None]:
    """Recognizes, as labelled for a task, the folders that hold a file of one of these patterns."""

    def recognize(folder: Path) -> Recognized | None:
        found = any(path.is_file() for pattern in patterns for path in folder.glob(pattern))
        return Recognized(task) if found else None

    return recognize
