"""Pedestrian Attribute (PETA): people seen by ten surveillance datasets, with their age stage.

Below `path`, as the publisher's archive unpacks, for each of the ten:

    <NAME>/archive/Label.txt    one line per person or image: its key, then its attributes
    <NAME>/archive/             the images

In most of the ten a key is a person's number, with which the names of that person's images begin, as
in 12 and 12_3_FRAME_5_RGB.bmp; in CUHK it is the name of an image. Both are taken everywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from stages.core.suggestions import list_names, suggest
from stages.data.sources.base import EXTENSIONS, FileLoader, Manifest, Sample, Tolerance, build_manifest, select_samples
from stages.data.sources.published import (
    LARGEST_SHARE_MISSING,
    BadEntryError,
    IncompleteError,
    count_bad_entries,
    note_left_out,
    read_lines,
)
from stages.data.sources.reader import Publisher, Reader, known_by
from stages.settings.datasets import SOURCE, FifthForValidation, PublishedPath, SixthForTesting, ThinnedDataset


class Peta(ThinnedDataset):
    """Pedestrians of PETA's ten parts.

    `path` holds `<NAME>/archive/` for each of them. `split` and `validation` as for `deepfashion`. People without
    one of the four age stages are left out.
    """

    source: Literal["peta"] = SOURCE
    path: PublishedPath
    split: SixthForTesting = None
    validation: FifthForValidation = None


PARTS = (
    *("3DPeS", "CAVIAR4REID", "CUHK", "GRID", "MIT"),
    *("PRID", "SARC3D", "TownCentre", "VIPeR", "i-LID"),
)
STAGES = {
    "personalLess15": None,
    "personalLess30": "16-30",
    "personalLess45": "31-45",
    "personalLess60": "46-60",
    "personalLarger60": "61+",
}
"""Age stage by attribute; the paper has none for the youngest."""


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Images by age stage, split 4 : 1 : 1 like the paper: images of one person may be parted.

    Whoever has no age stage, or more than one, is left out.

    Raises:
        ValueError: one of the ten is missing, a line has an unknown age, many lines have no image,
            an image has two lines, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    if absent := [name for name in PARTS if not (folder / name / "archive/Label.txt").is_file()]:
        raise IncompleteError(folder, f"archive/Label.txt in {list_names(absent)}")
    samples, left_out = [], Counter()
    for name in PARTS:
        found, counts = _read_part(folder / name / "archive", tolerance)
        samples += [Sample(f"{name}/archive/{image}", {settings["task"]: label}, "train") for image, label in found]
        left_out += counts
    note_left_out(folder, left_out)
    chosen = select_samples(samples, settings, folder, test=1 / 6, validation=1 / 5)
    return build_manifest(chosen, FileLoader(folder), settings, folder)


def _read_part(archive: Path, tolerance: Tolerance) -> tuple[list[tuple[str, str]], Counter]:
    """Images and age stages of one of the ten, and how much of it is left out."""
    names = sorted(entry.name for entry in archive.iterdir())
    images = [name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    by_key = _index_images(images)
    found, labelled, left_out, without = [], set(), Counter(), []
    lines = list(read_lines(archive / "Label.txt", ("key and attributes",)))
    for place, (line,) in lines:
        key, *attributes = line.split()
        of_key = by_key.get(key) or by_key.get(Path(key).stem, [])
        labelled.update(of_key)
        with count_bad_entries(left_out, tolerance):
            stage = _find_stage(attributes, place)
            if not of_key:
                without.append(f"{place}: no image is called '{key}' or begins with '{key}_'")
            elif stage is None:
                left_out["images without one of the four age stages"] += len(of_key)
            else:
                found += [(image, stage) for image in of_key]
    if len(without) > LARGEST_SHARE_MISSING * len(lines):
        raise IncompleteError(archive, f"the images of {len(without)} labels ({without[0]})")
    left_out["labels without an image"] = len(without)
    left_out["images without a label"] = len(set(images) - labelled)
    return found, left_out


def _index_images(images: Iterable[str]) -> dict[str, list[str]]:
    """Images by every key that a line may give them: their name and what it begins with up to a _."""
    by_key = defaultdict(list)
    for image in images:
        parts = Path(image).stem.split("_")
        for key in {image, *("_".join(parts[:end]) for end in range(1, len(parts) + 1))}:
            by_key[key].append(image)
    return by_key


def _find_stage(attributes: Iterable[str], place: str) -> str | None:
    ages = {one for one in attributes if one.startswith(("personalLess", "personalLarger"))}
    if unknown := sorted(ages - set(STAGES)):
        message = f"{place}: the age '{unknown[0]}' is unknown{suggest(unknown[0], STAGES)}"
        raise BadEntryError("labels of an unknown age", message)
    return STAGES[ages.pop()] if len(ages) == 1 else None


READER = Reader(
    read=read,
    settings=Peta,
    publisher=Publisher("PETA", "http://mmlab.ie.cuhk.edu.hk/projects/PETA.html"),
    label_files=lambda settings: [("*/archive/Label.txt",)],
    recognize=known_by("age_stage", "*/archive/Label.txt"),
)
