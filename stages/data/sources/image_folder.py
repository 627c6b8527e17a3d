"""Folders named after classes, as torchvision's ImageFolder has them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.core.task_labels import list_labels
from stages.data.sources.base import (
    EXTENSIONS,
    SPLITS,
    FileLoader,
    Manifest,
    Sample,
    Tolerance,
    build_manifest,
    select_samples,
    walk_images,
)
from stages.data.sources.reader import Reader
from stages.settings.datasets import SOURCE, RatioSplit, ThinnedDataset, Validation
from stages.settings.section import OPTIONAL, Name, either


class ImageFolder(ThinnedDataset):
    """A folder for each class.

    `path`: folder below `data_root`. `split: folders` where it holds `train/<class>/` and `test/<class>/` (and, if
    you like, `validation/<class>/`); `split: {test: 0.2, seed: 0}` where it holds `<class>/` and a stratified fifth
    is to be kept for testing. `labels: {TASK: folder}` is the long form of `task: TASK`; with `labels: {}` the folders
    are no classes: all images below `path` are training images without any label.
    """

    source: Literal["image_folder"] = SOURCE
    labels: Annotated[dict[Name, Literal["folder"]], Field(max_length=1), OPTIONAL] = Field(
        None, description="`{TASK: folder}`, where the class folders are a task's labels, or `{}`."
    )
    path: str = Field(description="Folder below `data_root`.")
    split: Annotated[either(text=Literal["folders"], section=RatioSplit), OPTIONAL] = Field(
        None, description="`folders` where train/ and test/ hold the class folders, or a ratio; none without labels."
    )
    validation: Validation = None


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Images of `path`, whose class is the folder they lie in.

    `split: folders`, the default, takes `train/<class>/…`, `test/<class>/…` and, where there is
    one, `validation/<class>/…`; a mapping such as `{test: 0.2, seed: 0}` takes `<class>/…` and
    splits it, class by class. Subfolders of a class belong to it; hidden files and files without
    an image's extension are ignored. Without labels all images train. See also `select_samples`.

    Raises:
        ValueError: a folder is missing or empty, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; correct `path` or `data_root`")
    tasks = list_labels(settings)
    split = settings.get("split", "folders")
    if not tasks:
        samples = [Sample(path, {}, "train") for path in walk_images(folder)]
    elif split == "folders":
        present = [name for name in SPLITS if (folder / name).is_dir()]
        missing = [name for name in SPLITS if name not in (*present, "validation")]
        if missing:
            found = f"has no folder {list_names(missing)} (it has {_list_folders(folder)})"
            # With a train/ the folders are no classes.
            ratio = "" if present else ", or set `split` to a ratio such as {test: 0.2, seed: 0}"
            raise UserError(f"{folder}: {found}; add or rename it{ratio}")
        samples = [
            Sample(f"{name}/{path}", dict.fromkeys(tasks, label), name)
            for name in present
            for path, label in find_labeled_images(folder / name)
        ]
    else:
        samples = [Sample(path, dict.fromkeys(tasks, label), "train") for path, label in find_labeled_images(folder)]
    return build_manifest(select_samples(samples, settings, folder), FileLoader(folder), settings, folder)


def find_labeled_images(folder: Path) -> Iterator[tuple[str, str]]:
    """Path and class of every image of `<class>/…`, class by class.

    Raises:
        ValueError: a class has no images.
    """
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for label in classes:
        n_found = 0
        for path in walk_images(folder / label):
            n_found += 1
            yield f"{label}/{path}", label
        if not n_found:
            raise UserError(f"{folder / label}: holds no images ({', '.join(EXTENSIONS)}); add some or remove it")


def _list_folders(folder: Path) -> str:
    return list_names(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())) or "no folders"


READER = Reader(read=read, settings=ImageFolder)
