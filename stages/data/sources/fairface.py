"""FairFace: faces of Flickr images with the age, gender and race that people gave them.

Below `path`, as the publisher's archives of either margin and the lists beside them unpack:

    fairface_label_train.csv    columns file (such as train/1.jpg), age, gender, race and service_test
    fairface_label_val.csv      the same for val/
    train/, val/                the images

The publisher's own test images are not given out: val is the test split.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.core.task_labels import list_audits, list_labels
from stages.data.sources.base import FileLoader, Manifest, Sample, Tolerance, build_manifest, select_samples
from stages.data.sources.pixel_rows import read_rows
from stages.data.sources.published import BadEntryError, check_images, count_bad_entries, find_file, note_left_out
from stages.data.sources.reader import Publisher, Reader, Recognized
from stages.settings.datasets import SOURCE, PublishedPath, ThinnedDataset, Validation
from stages.settings.section import OPTIONAL, Name, Section

SPLIT_OF = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "test"}
LABELS = {
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
    "gender": ("Female", "Male"),
    "race": ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White"),
}


Kind = Literal["age", "gender", "race"]


class FairFaceColumns(Section):
    """Which labels count."""

    label: Kind = Field(description="Labels of `task`.")
    audit: Annotated[dict[Name, Kind], OPTIONAL] = Field(None, description="The same as the dataset's `audit`.")


class FairFace(ThinnedDataset):
    """Faces with age, gender and race.

    `path` holds `fairface_label_train.csv`, `fairface_label_val.csv`, `train/` and `val/`. `labels` and `audit` say
    which of `age`, `gender` and `race` are the labels of a task, and which are carried along, as in a table. Val is the
    test split.
    """

    source: Literal["fairface"] = SOURCE
    path: PublishedPath
    labels: Annotated[dict[Name, Kind], OPTIONAL] = Field(
        None, description="Which labels are whose, by task. In the place of `task`."
    )
    audit: Annotated[dict[Name, Kind], OPTIONAL] = Field(
        None, description="By task, labels that are known but never trained on."
    )
    columns: Annotated[FairFaceColumns, OPTIONAL] = Field(None, description=FairFaceColumns.__doc__)
    validation: Validation = None


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Faces of train, of which some are kept for validation, and of val.

    Raises:
        ValueError: a file or the images are missing, a list lacks a column, a row has no image or an unknown label,
            an image has two rows, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    labels, audit = list_labels(settings), list_audits(settings)
    samples: dict[str, Sample] = {}
    for name, split in SPLIT_OF.items():
        source, left_out = find_file(folder, name), Counter()
        for _, place, fields in read_rows(source, ("file", *labels.values(), *audit.values())):
            with count_bad_entries(left_out, tolerance):
                _check_row(fields, place)
                path = fields["file"]
                if path in samples:
                    raise BadEntryError("repeated images", f"{place}: '{path}' has another row above")
                known, held_back = ({task: fields[key] for task, key in one.items()} for one in (labels, audit))
                samples[path] = Sample(path, known, split, held_back)
        paths = [path for path, sample in samples.items() if sample.split == split]
        check_images(folder, paths, source, tolerance.list_roots(data_root))
        note_left_out(source, left_out)
    chosen = select_samples(list(samples.values()), settings, folder)
    return build_manifest(chosen, FileLoader(folder), settings, folder)


def _check_row(fields: Mapping[str, str], place: str) -> None:
    if not fields["file"]:
        raise BadEntryError("rows without an image", f"{place}: names no file")
    for name, known in LABELS.items():
        if name in fields and fields[name] not in known:
            message = f"{place}: the {name} is '{fields[name]}', not {', '.join(known)}"
            raise BadEntryError(f"faces of an unknown {name}", message)


def recognize(folder: Path) -> Recognized | None:
    """By both lists."""
    if all((folder / name).is_file() for name in SPLIT_OF):
        return Recognized("age", {"columns": {"label": "age"}}, {name: set(known) for name, known in LABELS.items()})
    return None


READER = Reader(
    read=read,
    settings=FairFace,
    publisher=Publisher("FairFace", "https://github.com/joojs/fairface"),
    label_files=lambda settings: [("fairface_label_train.csv",), ("fairface_label_val.csv",)],
    recognize=recognize,
)
