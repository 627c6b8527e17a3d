"""Static Facial Expressions in the Wild (SFEW 2.0): film stills, aligned faces of seven expressions.

Below `path`, with the publisher's archives of aligned faces unpacked into two folders:

    Train/…/<Expression>/*.png      for example Train/Train_Aligned_Faces/Angry/
    Val/…/<Expression>/*.png        for example Val/Val_Aligned_Faces/Angry/

The names of folders may be in upper or lower case, and the folders of the expressions may lie at any
depth. The labels of the publisher's own test images are not public: Val is the test split.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from stages.core.errors import UserError
from stages.core.suggestions import list_names, suggest
from stages.data.sources.base import EXTENSIONS, FileLoader, Manifest, Sample, Tolerance, build_manifest, select_samples
from stages.data.sources.published import IncompleteError
from stages.data.sources.reader import Publisher, Reader, Recognized
from stages.settings.datasets import SOURCE, PublishedPath, ThinnedDataset, Validation


class Sfew(ThinnedDataset):
    """Static Facial Expressions in the Wild.

    `path` holds `Train/…/<Expression>/` and `Val/…/<Expression>/`, aligned faces. Val is the test split.
    """

    source: Literal["sfew"] = SOURCE
    path: PublishedPath
    validation: Validation = None


EXPRESSIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SPLIT_OF = {"Train": "train", "Val": "test"}


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Faces of Train, of which some are kept for validation, and of Val.

    Raises:
        ValueError: a folder is missing, a folder of images is not named after an expression or
            an expression has two of them, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    samples = []
    for name, split in SPLIT_OF.items():
        top = _find_folder(folder, name)
        faces = list(_find_faces(top))
        if absent := [label for label in EXPRESSIONS if label not in {label for label, _ in faces}]:
            raise IncompleteError(top, f"images in folders called {list_names(absent)}")
        paths = [(label, path.relative_to(folder).as_posix()) for label, path in faces]
        samples += [Sample(path, {settings["task"]: label}, split) for label, path in paths]
    return build_manifest(select_samples(samples, settings, folder), FileLoader(folder), settings, folder)


def _find_folder(folder: Path, name: str) -> Path:
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_dir() and entry.name.lower() == name.lower():
            return entry
    raise IncompleteError(folder, f"a folder {name}")


def _find_faces(top: Path) -> Iterator[tuple[str, Path]]:
    folder_of: dict[str, Path] = {}
    for inner, _, names in sorted(os.walk(top, followlinks=True)):
        images = [name for name in names if not name.startswith(".") and name.lower().endswith(EXTENSIONS)]
        if not images:
            continue
        folder, label = Path(inner), Path(inner).name.lower()
        if label not in EXPRESSIONS:
            raise UserError(
                f"{folder}: holds images, but is not named after an expression{suggest(label, EXPRESSIONS)}; "
                "rename it, or keep only the aligned faces there"
            )
        if (other := folder_of.setdefault(label, folder)) != folder:
            raise UserError(f"{folder}: '{label}' also has images in {other}; keep only the aligned faces")
        yield from ((label, folder / name) for name in images)


def recognize(folder: Path) -> Recognized | None:
    """By the folders of all expressions in Train and Val; just so written, train/ and val/ are somebody's own."""
    from stages.data.sources.folders import SEARCH_DEPTH, list_folders, walk_folders

    for name in SPLIT_OF:
        named = {one.name.lower() for one in walk_folders(folder / name, SEARCH_DEPTH)}
        if not set(EXPRESSIONS) <= named or all(inner.name != name for inner in list_folders(folder)):
            return None
    return Recognized("expression")


READER = Reader(
    read=read,
    settings=Sfew,
    publisher=Publisher("SFEW 2.0", "https://cs.anu.edu.au/few/"),
    recognize=recognize,
)
