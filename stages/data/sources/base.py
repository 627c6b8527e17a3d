"""What every reader of a dataset gives: one manifest of labelled samples, and their images.

Planning imports all readers and with them this: NumPy and Pillow are imported only where they are needed.
"""

import errno
import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.core.suggestions import list_names

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SPLITS = ("train", "validation", "test")
VALIDATION_SHARE = 0.1
"""Of the training samples, where neither the source nor its settings say otherwise."""
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What the extensions stand for, by Pillow's names; its JPEG is also the MPO that cameras write."""


@dataclass(frozen=True)
class Tolerance:
    """What a reader puts up with.

    Attributes:
        outside: whether lists may name images anywhere, not just below `data_root` and the dataset's folders.
        bad_entries: whether entries of a published list that no sample can be made of are counted, not refused.
    """

    outside: bool = False
    bad_entries: bool = False

    def list_roots(self, *folders: Path) -> tuple[Path, ...] | None:
        """Folders that images may lie in; None stands for anywhere."""
        return None if self.outside else folders


STRICT = Tolerance()


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    Attributes:
        path: POSIX path below the dataset's image folder, unique in the dataset.
        label: class name for the dataset's own task.
        split: one of `SPLITS`.
        audit: class name for other tasks, by task; None where it is not known.
    """

    path: str
    label: str
    split: str
    audit: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A whole dataset.

    Attributes:
        samples: split by split in the order of `SPLITS`, each sorted by path.
        classes: class names in index order.
        load: opens the image of a sample; the second argument is the size in pixels at which it
            will be used, for readers that can make use of it. It must survive pickling, because
            other processes call it.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    load: Callable[[Sample, int], "Image.Image"]


@dataclass(frozen=True)
class FileLoader:
    """Opens images below a folder."""

    folder: Path

    def __call__(self, sample: Sample, size: int) -> "Image.Image":
        """Open one image; see `open_image`."""
        return open_image(self.find_file(sample))

    def find_file(self, sample: Sample) -> Path:
        """The file that an image is read from."""
        return locate_image(self.folder, sample.path)


def locate_image(folder: Path, path: str) -> Path:
    """The file that `path` means; like in `normalize_path` its `..` go up by name, whatever links `folder` goes by."""
    return Path(os.path.normpath(folder.absolute() / path)) if path.startswith("..") else folder / path


def open_image(path: Path) -> "Image.Image":
    """Open an image of one of `FORMATS`; its pixels are read later.

    Pillow goes by content, not by name: left to itself it would hand PostScript called face.png to Ghostscript.

    Raises:
        OSError: there is no such file, it is no regular one, from which reading might never end, or no such image.
    """
    from PIL import Image

    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file")
    return Image.open(path, formats=FORMATS)


def walk_images(folder: Path) -> Iterator[str]:
    """POSIX paths below `folder` of all files with an image's extension.

    Hidden files and folders are ignored, and links that lead back to a folder on the way to them.

    Raises:
        OSError: a folder may not be looked into.
    """

    def refuse(error: OSError) -> None:
        raise error

    above = {str(folder): {os.path.realpath(folder)}}
    for inner, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        on_the_way = above.pop(inner)
        places = {name: os.path.realpath(f"{inner}/{name}") for name in folders if not name.startswith(".")}
        folders[:] = [name for name, place in places.items() if place not in on_the_way]
        above |= {os.path.join(inner, name): on_the_way | {places[name]} for name in folders}
        for name in files:
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS):
                yield (Path(inner) / name).relative_to(folder).as_posix()


def build_manifest(
    samples: Iterable[Sample],
    load: Callable[[Sample, int], "Image.Image"],
    settings: Mapping[str, Any],
    source: str | Path,
) -> Manifest:
    """Sort the samples, fix the order of the classes and check what all datasets must fulfil.

    Args:
        samples: in any order.
        load: see `Manifest`.
        settings: of the dataset; only `classes` is used.
        source: folder or file to name in messages.

    Raises:
        ValueError: there are no images, a name is not text, a path occurs twice, a split is empty, there is only one
            class, a class is not in train, or the classes are not those configured.
    """
    samples = tuple(sorted(samples, key=lambda sample: (SPLITS.index(sample.split), sample.path)))
    if not samples:
        raise UserError(f"{source}: holds no images; check the path and the extensions ({', '.join(EXTENSIONS)})")
    if broken := [name for one in samples for name in (one.path, one.label) if not _is_text(name)]:
        raise UserError(f"{source}: has names that are not UTF-8 text: {list_names(broken)}; rename them")
    check_unique(samples, source)
    found = {split: {sample.label for sample in samples if sample.split == split} for split in SPLITS}
    for split in SPLITS:
        if not found[split]:
            raise UserError(f"{source}: the split '{split}' is empty; every dataset needs {list_names(SPLITS)}")
        if unknown := sorted(found[split] - found["train"]):
            raise UserError(
                f"{source}: classes in {split} that train lacks: {list_names(unknown)}; "
                "add them to train or remove them"
            )
    classes = tuple(settings.get("classes") or sorted(found["train"]))
    if set(classes) != found["train"] or len(set(classes)) != len(classes):
        raise UserError(f"{source}: {_describe_difference(classes, found['train'])}; correct `classes` or leave it out")
    if len(classes) < 2:
        raise UserError(f"{source}: has only one class, '{classes[0]}'; a task needs two or more")
    return Manifest(samples, classes, load)


def select_samples(samples: Sequence[Sample], settings: Mapping[str, Any], source: str | Path) -> list[Sample]:
    """Take a part of the training samples, keep some of it for validation, and thin out the rest.

    In this order: `part: [start, end]` takes a share of the images whatever their labels, so that
    datasets made from the same images need not share any;
    `validation`, a share, is kept for validation where the source names no such split itself;
    `samples` of what is left are drawn class by class. All three follow `seed`. The test split
    and a validation split of the source's own stay as they are.

    Raises:
        ValueError: an image is listed twice, there are not as many samples as asked for, or
            `validation` is set where the source has such a split.
    """
    from stages.core.splits import draw_part, draw_stratified, split_stratified

    check_unique(samples, source)
    seed = settings.get("seed", 0)
    ordered = sorted(samples, key=lambda sample: sample.path)
    train = [sample for sample in ordered if sample.split == "train"]
    others = [sample for sample in ordered if sample.split != "train"]
    if "part" in settings:
        try:
            chosen = draw_part([sample.path for sample in train], *settings["part"], seed)
        except ValueError as error:
            raise UserError(f"{source}: `part`: {error}") from None
        train = [sample for sample, taken in zip(train, chosen, strict=True) if taken]
    if any(sample.split == "validation" for sample in others):
        if "validation" in settings:
            raise UserError(f"{source}: has a validation split of its own; remove `validation`")
    else:
        share = settings.get("validation", VALIDATION_SHARE)
        ratios = {"train": 1 - share, "validation": share}
        splits = split_stratified([sample.label for sample in train], ratios, seed).tolist()
        divided = [replace(sample, split=split) for sample, split in zip(train, splits, strict=True)]
        train = [sample for sample in divided if sample.split == "train"]
        others += [sample for sample in divided if sample.split == "validation"]
    if "samples" in settings and train:
        try:
            chosen = draw_stratified([sample.label for sample in train], settings["samples"], seed)
        except ValueError as error:
            raise UserError(f"{source}: `samples`: {error} (training samples)") from None
        train = [sample for sample, taken in zip(train, chosen, strict=True) if taken]
    return train + others


def list_columns(numbered: Sequence[tuple[int, Sample]], task: str) -> "dict[str, np.ndarray]":
    """The columns of a manifest table, for samples with their sample ids."""
    import numpy as np

    return {
        "sample_id": np.array([number for number, _ in numbered], dtype=np.int64),
        "path": np.array([sample.path for _, sample in numbered], dtype=object),
        f"label_{task}": np.array([sample.label for _, sample in numbered], dtype=object),
    }


def digest_samples(samples: Iterable[Sample], load: Callable[[Sample, int], "Image.Image"], identity: str) -> str:
    """What tells sets of images apart, without reading them: 64 hexadecimal digits.

    Args:
        samples: in their order; their audit labels do not matter.
        load: of the manifest. Of a file its number on the disk, its size and the time of its last change count.
        identity: what else decides the images.
    """
    digest = hashlib.sha256(identity.encode())
    for sample in samples:
        known = {key: value for key, value in vars(sample).items() if key != "audit"}
        try:
            status = os.stat(path) if (path := load.find_file(sample)) else None
        except (OSError, ValueError):
            status = None
        file = status and (status.st_ino, status.st_size, status.st_mtime_ns)
        digest.update(f"{sorted(known.items())} {file}\n".encode())
    return digest.hexdigest()


def assign_splits(labels: list[str], ratio: Mapping[str, Any]) -> list[str]:
    """Train or test for samples in a fixed order, by a setting such as `{test: 0.2, seed: 0}`."""
    from stages.core.splits import split_stratified

    ratios = {"train": 1 - ratio["test"], "test": ratio["test"]}
    return split_stratified(labels, ratios, ratio.get("seed", 0)).tolist()


def normalize_path(path: str, folder: Path, roots: Sequence[Path] | None = ()) -> str:
    """A path from `folder`, in POSIX style and without detours.

    `..` goes up by name. Links, of the folder or of images in it, are the user's own arrangement: they are
    followed wherever they lead, and not resolved here.

    Args:
        path: relative to `folder`, or absolute.
        folder: of the images.
        roots: further folders that the image may lie in; None: it may lie anywhere.

    Raises:
        ValueError: it lies elsewhere.
    """
    normal = posixpath.normpath(path)
    if not normal.startswith(("/", "..")):
        return normal
    place = os.path.normpath(folder.absolute() / path)
    allowed = dict.fromkeys(os.path.normpath(root.absolute()) for root in (folder, *(roots or ())))
    if roots is not None and not any(Path(place).is_relative_to(root) for root in allowed):
        raise UserError(
            f"'{path}' lies outside {' and '.join(allowed)}; correct it, or permit it by "
            "images.outside_data_root: allow (--outside-data-root allow)"
        )
    return os.path.relpath(place, folder.absolute()) if os.path.isabs(path) else normal


def check_unique(samples: Iterable[Sample], source: str | Path) -> None:
    """Raise a ValueError about a path that several samples have."""
    twice = [path for path, count in Counter(sample.path for sample in samples).items() if count > 1]
    if twice:
        raise UserError(f"{source}: lists the same image twice: {list_names(twice)}; keep one line for each image")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe_difference(classes: tuple[str, ...], found: set[str]) -> str:
    parts = []
    if missing := sorted(found - set(classes)):
        parts.append(f"`classes` lacks {list_names(missing)}")
    if extra := [name for name in classes if name not in found]:
        parts.append(f"`classes` names {list_names(extra)}, of which there are no images")
    return " and ".join(parts) or "`classes` names a class twice"
