"""FER+: the faces of FER2013 with ten people's votes for eight expressions each.

Below `path`, as the publisher's repository and its script that writes the images leave them:

    fer2013new.csv      columns Usage, Image name and one per vote: the eight classes, unknown, NF (no face)
    FER2013Train/       the images of Usage Training, by image name; perhaps all three below data/
    FER2013Valid/       of PublicTest
    FER2013Test/        of PrivateTest

or, instead of the images, the file that they come from, of which row i belongs to row i above:

    fer2013.csv         columns emotion, pixels (48 x 48 grey values) and Usage
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from stages.core.errors import UserError
from stages.data.sources.base import FileLoader, Manifest, Sample, Tolerance, build_manifest, select_samples
from stages.data.sources.pixel_rows import PixelLoader, PixelSample, find_column, read_rows
from stages.data.sources.published import (
    BadEntryError,
    IncompleteError,
    check_images,
    count_bad_entries,
    find_file,
    note_left_out,
)
from stages.data.sources.reader import Publisher, Reader, known_by
from stages.settings.datasets import SOURCE, PublishedPath, ThinnedDataset


class FerPlus(ThinnedDataset):
    """FER2013 with the labels of FER+.

    `path` holds `fer2013new.csv` and either `FER2013Train/`, `FER2013Valid/` and `FER2013Test/` or `fer2013.csv`.
    Published splits; the class is the majority vote, images without one are left out.
    """

    source: Literal["ferplus"] = SOURCE
    path: PublishedPath


CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = (*CLASSES, "unknown", "NF")
USAGES = {
    "Training": ("train", "FER2013Train"),
    "PublicTest": ("validation", "FER2013Valid"),
    "PrivateTest": ("test", "FER2013Test"),
}
SIDE = 48


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Images by majority vote (see `find_majority`) and published split; the rest is left out.

    Rows without an image name, which are no faces, are left out too.

    Raises:
        ValueError: files or images are missing, a column is missing, a row has an unknown Usage or
            no votes, the two CSV files differ, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    source = find_file(folder, "fer2013new.csv")
    n_rows, found = _read_votes(source, settings["task"], tolerance)
    images = folder / "data" if (folder / "data").is_dir() else folder
    load = FileLoader(images)
    if any((images / sample.path).is_file() for sample in found.values()):
        paths = [sample.path for sample in found.values()]
        check_images(images, paths, source, tolerance.list_roots(data_root))
        samples = list(found.values())
    else:
        pixels = folder / "fer2013.csv"
        if not pixels.is_file():
            raise IncompleteError(folder, "fer2013.csv and, to do without it, the images in FER2013Train")
        load = PixelLoader(pixels, find_column(pixels, "pixels"), SIDE)
        samples = _find_pixels(pixels, source, n_rows, found)
    return build_manifest(select_samples(samples, settings, source), load, settings, source)


def find_majority(votes: Sequence[int]) -> str | None:
    """The class that has the majority of the votes, in the order of `VOTES`, or None.

    "Majority voting" of Barsoum et al., ICMI 2016, as the authors' ferplus.py has it: single votes
    are dropped as outliers; the winner must then have more than half of the votes that are left;
    and images whose winner is unknown or NF are not used.
    """
    kept = [count if count > 1 else 0 for count in votes]
    most = max(kept)
    winner = VOTES[kept.index(most)]
    return winner if 2 * most > sum(kept) and winner in CLASSES else None


def _read_votes(source: Path, task: str, tolerance: Tolerance) -> tuple[int, dict[int, Sample]]:
    """How many rows there are, and the samples, by row, of those that have a majority."""
    found, left_out, n_rows = {}, Counter(), 0
    for row, (_, place, fields) in enumerate(read_rows(source, ("Usage", "Image name", *VOTES))):
        n_rows += 1
        usage, name = fields["Usage"], fields["Image name"]
        with count_bad_entries(left_out, tolerance):
            if usage not in USAGES:
                message = f"{place}: Usage is '{usage}', not {', '.join(USAGES)}"
                raise BadEntryError("rows of an unknown Usage", message)
            if not name:
                left_out["rows without an image"] += 1
            elif label := find_majority(_parse_votes(fields, place)):
                split, subfolder = USAGES[usage]
                found[row] = Sample(f"{subfolder}/{name}", {task: label}, split)
            else:
                left_out["images without a majority for an expression"] += 1
    note_left_out(source, left_out)
    return n_rows, found


def _parse_votes(fields: Mapping[str, str], place: str) -> list[int]:
    for name in VOTES:
        if not fields[name].isdecimal():
            message = f"{place}: column '{name}' holds '{fields[name]}', not a count of votes"
            raise BadEntryError("rows without counts of votes", message)
    votes = [int(fields[name]) for name in VOTES]
    if not any(votes):
        raise BadEntryError("images without votes", f"{place}: '{fields['Image name']}' has no votes")
    return votes


def _find_pixels(pixels: Path, source: Path, n_rows: int, found: Mapping[int, Sample]) -> list[Sample]:
    rows = [(offset, place, fields["Usage"]) for offset, place, fields in read_rows(pixels, ("Usage",))]
    if len(rows) != n_rows:
        raise UserError(f"{pixels}: has {len(rows)} rows, but {source} has {n_rows}; get both files again")
    samples = []
    for row, sample in found.items():
        offset, place, usage = rows[row]
        if usage not in USAGES or USAGES[usage][0] != sample.split:
            raise UserError(f"{place}: Usage is '{usage}', but another in {source}; get both files again")
        samples.append(PixelSample(sample.path, sample.labels, sample.split, offset=offset, place=place))
    return samples


READER = Reader(
    read=read,
    settings=FerPlus,
    publisher=Publisher(
        "FER+",
        "https://github.com/microsoft/FERPlus; FER2013 itself: "
        "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    ),
    label_files=lambda settings: [("fer2013new.csv",)],
    recognize=known_by("expression", "fer2013new.csv"),
)
