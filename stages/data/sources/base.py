"""What every reader of a dataset gives: one manifest of labelled samples, and their images.

Planning imports all readers and with them this: NumPy and Pillow are imported only where they are needed.
"""

import errno
import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.core.task_labels import list_labels
from stages.data.sources.labels import hold_back, merge_duplicates, order_classes, rename_labels
from stages.data.sources.sample import SPLITS, Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

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
class Manifest:
    """A whole dataset.

    Attributes:
        samples: split by split in the order of `SPLITS`, each sorted by path.
        classes: class names in index order, by task that it has labels for.
        load: opens the image of a sample; the second argument is the size in pixels at which it
            will be used, for readers that can make use of it. It must survive pickling, because
            other processes call it.
    """

    samples: tuple[Sample, ...]
    classes: Mapping[str, tuple[str, ...]]
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
        samples: of `select_samples`, in any order.
        load: see `Manifest`.
        settings: of the dataset.
        source: folder or file to name in messages.

    Raises:
        ValueError: there are no images, a name is not text, a path occurs twice, a split that the dataset needs is
            empty, or its classes are not in order, see `order_classes`.
    """
    samples = tuple(sorted(samples, key=lambda sample: (SPLITS.index(sample.split), sample.path)))
    if not samples:
        raise UserError(f"{source}: holds no images; check the path and the extensions ({', '.join(EXTENSIONS)})")
    names = (name for one in samples for name in (one.path, *one.labels.values()) if name is not None)
    if broken := [name for name in names if not _is_text(name)]:
        raise UserError(f"{source}: has names that are not UTF-8 text: {list_names(broken)}; rename them")
    check_unique(samples, source)
    # Without labels there is nothing to score.
    needed = SPLITS if list_labels(settings) else SPLITS[:1]
    for split in needed:
        if all(sample.split != split for sample in samples):
            raise UserError(f"{source}: the split '{split}' is empty; the dataset needs {list_names(needed)}")
    return Manifest(samples, order_classes(samples, settings, source), load)


def select_samples(
    samples: Sequence[Sample],
    settings: Mapping[str, Any],
    source: str | Path,
    *,
    test: float | None = None,
    validation: float = VALIDATION_SHARE,
) -> list[Sample]:
    """Name the classes as the settings do, divide the samples, and take of them what the settings want.

    In this order: labels are renamed or dropped, and of images that are listed several times one sample is made
    where `duplicates` allows it; where `split` is a ratio, it divides all samples;
    `part: [start, end]` takes a share of the training images whatever their labels, so that
    datasets made from the same images need not share any;
    `validation`, a share, is kept for validation where the source names no such split itself;
    `samples` of what is left are drawn; `known` keeps the labels of a share of them. All follow `seed`, and but for
    `part` and `known` the classes of the dataset's first task. The test split and a validation split of the
    source's own stay as they are.

    Args:
        samples: as the source has them.
        settings: of the dataset.
        source: to name in messages.
        test: share of the test split where the settings have no `split`; None where the source has its own.
        validation: share kept for validation where the settings have none.

    Raises:
        ValueError: an image is listed twice, there are not as many samples as asked for, or
            `validation` is set where the source has such a split.
    """
    from stages.core.splits import draw_part, draw_stratified, split_stratified

    samples = rename_labels(samples, settings, source)
    if settings.get("duplicates", "stop") != "stop":
        samples = merge_duplicates(samples, settings["duplicates"])
    check_unique(samples, source)
    seed = settings.get("seed", 0)
    ordered = sorted(samples, key=lambda sample: sample.path)
    ratio = settings.get("split", {"test": test})
    if isinstance(ratio, Mapping) and ratio["test"] is not None:
        ratios = {"train": 1 - ratio["test"], "test": ratio["test"]}
        splits = split_stratified(_list_strata(ordered), ratios, ratio.get("seed", 0)).tolist()
        ordered = [replace(sample, split=split) for sample, split in zip(ordered, splits, strict=True)]
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
    elif list_labels(settings):
        share = settings.get("validation", validation)
        ratios = {"train": 1 - share, "validation": share}
        splits = split_stratified(_list_strata(train), ratios, seed).tolist()
        divided = [replace(sample, split=split) for sample, split in zip(train, splits, strict=True)]
        train = [sample for sample in divided if sample.split == "train"]
        others += [sample for sample in divided if sample.split == "validation"]
    if "samples" in settings and train:
        try:
            chosen = draw_stratified(_list_strata(train), settings["samples"], seed)
        except ValueError as error:
            raise UserError(f"{source}: `samples`: {error} (training samples)") from None
        train = [sample for sample, taken in zip(train, chosen, strict=True) if taken]
    return hold_back(train + others, settings.get("known", {}), seed, source)


def _list_strata(samples: Sequence[Sample]) -> list[str]:
    """By which samples are drawn: the class of the first task, empty where it is not known."""
    return [next(iter(sample.labels.values()), None) or "" for sample in samples]


def list_columns(numbered: Sequence[tuple[int, Sample]], tasks: Iterable[str]) -> "dict[str, np.ndarray]":
    """The columns of a manifest table, for samples with their sample ids."""
    import numpy as np

    return {
        "sample_id": np.array([number for number, _ in numbered], dtype=np.int64),
        "path": np.array([sample.path for _, sample in numbered], dtype=object),
        **{f"label_{task}": np.array([one.labels[task] for _, one in numbered], dtype=object) for task in tasks},
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
