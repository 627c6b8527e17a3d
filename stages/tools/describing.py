"""What datasets hold, in words, and what may be wrong with them; pixels are not kept."""

import hashlib
import itertools
import os
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stages.data.sources.base import SPLITS, FileLoader, Manifest, Sample
from stages.storage.files import digest_file
from stages.tools.guessing import pick_evenly

N_MEASURED = 200
FEW_LABELS = 100
"""Fewer known labels than this are hardly enough for a task, and for the domain that its samples make up."""
FEW_IMAGES = 10
"""Fewer training images than this are hardly enough for a class."""
STRONG_IMBALANCE = 50
MAX_CLASSES_LISTED = 12
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B")
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Measured:
    """Some images of a dataset.

    Attributes:
        sizes: width and height in pixels of the readable ones.
        n_grey: how many of these are grey.
        unreadable: path and reason of the others.
    """

    sizes: list[tuple[int, int]]
    n_grey: int
    unreadable: list[tuple[str, str]]

    def find_median(self) -> tuple[int, int]:
        """Median width and median height."""
        return tuple(int(statistics.median(sides)) for sides in zip(*self.sizes, strict=True))


def measure_images(manifest: Manifest) -> Measured:
    """Sizes and kind of up to `N_MEASURED` images, from headers alone where an image is a whole file."""
    sizes, n_grey, unreadable = [], 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in pick_evenly(manifest.samples, N_MEASURED):
            try:
                with manifest.load(sample, 0) as image:
                    if image.mode == "F":
                        unreadable.append((sample.path, "holds floating-point pixels, whose range is not defined"))
                        continue
                    turned = "exif" in image.info and image.getexif().get(EXIF_ORIENTATION, 1) > 4
                    sizes.append(image.size[::-1] if turned else image.size)
                    n_grey += image.mode in GREY_MODES
            except FileNotFoundError:
                unreadable.append((sample.path, "does not exist"))
            except Exception:  # on damaged files Pillow's readers raise almost anything
                unreadable.append((sample.path, "is not an image or is damaged"))
    return Measured(sizes, n_grey, unreadable)


def describe_dataset(manifest: Manifest, measured: Measured) -> list[str]:
    """Images of every split, training images of every class and without a label, sizes, and how many are grey."""
    splits = Counter(sample.split for sample in manifest.samples)
    facts = [", ".join(f"{splits[split]} {split}" for split in SPLITS) + " images"]
    for task in manifest.classes:
        by_class = _count_classes(manifest, task)
        listed = _list_counts(by_class.items())
        if len(by_class) > MAX_CLASSES_LISTED:
            ordered = by_class.most_common()
            listed = f"most of {_list_counts(ordered[:3])}, fewest of {_list_counts(ordered[-3:])}"
        whose = f"{task}: " if len(manifest.classes) > 1 else ""
        facts.append(f"{whose}{len(by_class)} classes, training images of each: {listed}")
        if n_unknown := splits["train"] - by_class.total():
            facts.append(f"{task}: {n_unknown} of {splits['train']} training images have no label")
    sizes = sorted(measured.sizes, key=lambda size: (size[0] * size[1], size))
    size = "{} x {}".format(*sizes[0])
    if sizes[0] != sizes[-1]:
        size += " to {} x {}, median {} x {}".format(*sizes[-1], *measured.find_median())
    kind = {0: "all stored in colour", len(sizes): "all grey"}.get(
        measured.n_grey, f"{measured.n_grey / len(sizes):.0%} grey"
    )
    return [*facts, f"{size} pixels, {kind} ({len(sizes)} images looked at)"]


def list_warnings(manifest: Manifest, measured: Measured) -> list[str]:
    """Too few images of a task or class, classes of very different size, and files that are no images."""
    found = []
    for task in manifest.classes:
        by_class = _count_classes(manifest, task)
        if (n_known := by_class.total()) < FEW_LABELS and any(not one.labels[task] for one in manifest.samples):
            found.append(f"only {n_known} training images have a label for {task}; fewer than {FEW_LABELS} say little")
        if few := [(label, count) for label, count in by_class.items() if count < FEW_IMAGES]:
            listed = _list_counts(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
            found.append(
                f"classes with fewer than {FEW_IMAGES} training images: {len(few)} of {len(by_class)} ({listed}); "
                "add some, or merge or remove these classes"
            )
        (largest, most), *_, (smallest, least) = by_class.most_common()
        if most > STRONG_IMBALANCE * least:
            found.append(
                f"the class '{largest}' has {most} training images, more than {STRONG_IMBALANCE} times as many as "
                f"'{smallest}' with {least}; look at macro-F1 rather than accuracy"
            )
    if measured.unreadable:
        n_tried = len(measured.unreadable) + len(measured.sizes)
        path, reason = measured.unreadable[0]
        found.append(
            f"of {n_tried} files looked at {len(measured.unreadable)} cannot be read as images, such as '{path}', "
            f"which {reason}; mend or remove them, or set images.on_error to skip"
        )
    return found


def find_duplicates(manifests: Mapping[str, Manifest], track: Callable[[list], Iterable] = iter) -> list[str]:
    """Warnings about images that occur twice: in two datasets, in two splits, or in train with two labels.

    Files are compared byte for byte, images that are parts of files pixel for pixel.

    Args:
        manifests: by dataset.
        track: wraps the images that are looked at, for a progress bar.
    """
    # By content, one sample of every dataset, split and class.
    alike: dict[str, dict[tuple[str, str, str], Sample]] = defaultdict(dict)
    for name, sample in track(_list_candidates(manifests)):
        if digest := _digest(manifests[name], sample):
            alike[digest].setdefault((name, sample.split, _name_labels(sample)), sample)
    pairs = defaultdict(dict)
    for digest, group in alike.items():
        for (first, a), (second, b) in itertools.combinations(group.items(), 2):
            if kind := _describe_pair(first, second):
                pairs[kind].setdefault(digest, (a, b))
    found = []
    for (what, advice), by_content in pairs.items():
        (a, b), *_ = by_content.values()
        example = f"'{a.path}' ({_name_labels(a)}) and '{b.path}' ({_name_labels(b)})"
        found.append(f"{what}: {len(by_content)}, such as {example}; {advice}")
    return sorted(found)


def _describe_pair(first: tuple[str, str, str], second: tuple[str, str, str]) -> tuple[str, str] | None:
    """What is wrong with images alike in two places (dataset, split, class), and what to do."""
    (name, split, _), (other, other_split, _) = first, second
    if name != other:
        return f"{name} and {other}: images in both", "remove them from one, or give each dataset a `part` of them"
    if split != other_split:
        what = f"{name}: images in {split} as well as in {other_split}"
        return what, "keep one of each, or scores will be too good"
    if split == "train":
        return f"{name}: images in train with more than one label", "keep the right one"
    return None


def _list_candidates(manifests: Mapping[str, Manifest]) -> list[tuple[str, Sample]]:
    """Images that may occur twice: files of different size cannot be equal."""
    sized = []
    for name, manifest in manifests.items():
        for sample in manifest.samples:
            path = _find_file(manifest, sample)
            if path is None or os.path.isfile(path):
                sized.append((os.path.getsize(path) if path else None, name, sample))
    counts = Counter(size for size, *_ in sized)
    return [(name, sample) for size, name, sample in sized if counts[size] > 1]


def _find_file(manifest: Manifest, sample: Sample) -> str | None:
    """The file that is just this image."""
    return str(manifest.load.find_file(sample)) if isinstance(manifest.load, FileLoader) else None


def _digest(manifest: Manifest, sample: Sample) -> str | None:
    """What equal images have in common; None for what cannot be read."""
    try:
        if path := _find_file(manifest, sample):
            return digest_file(path)
        with manifest.load(sample, 0) as image:
            return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
    except Exception:  # on damaged files Pillow's readers raise almost anything
        return None


def _count_classes(manifest: Manifest, task: str) -> Counter:
    """Training images by class of a task, in the order of the classes."""
    counts = Counter(sample.labels[task] for sample in manifest.samples if sample.split == "train")
    return Counter({label: counts[label] for label in manifest.classes[task]})


def _name_labels(sample: Sample) -> str:
    """The classes of a sample, in one text."""
    return ", ".join(label or "unknown" for label in sample.labels.values()) or "no labels"


def _list_counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts)
