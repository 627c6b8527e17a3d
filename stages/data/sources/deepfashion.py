"""DeepFashion, the benchmark of category and attribute prediction: clothes of 50 categories.

Below `path`, as the publisher's archives unpack (the lists perhaps in Anno_coarse/):

    Anno/list_category_cloth.txt    category name, type; the first is category 1
    Anno/list_category_img.txt      image, category number
    Anno/list_bbox.txt              image, left, top, right and bottom edge of the clothes
    Img/img/…                       the images, listed as img/…

The first line of a list is the number of its entries, the second names its columns (publisher's
readme). The publisher's own partition is not used: the paper splits 4 : 1 : 1.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.data.sources.base import FileLoader, Manifest, Sample, Tolerance, build_manifest, select_samples
from stages.data.sources.cropping import CropLoader, CropSample, parse_box
from stages.data.sources.published import (
    BadEntryError,
    check_images,
    count_bad_entries,
    find_file,
    note_left_out,
    read_lines,
)
from stages.data.sources.reader import Publisher, Reader, known_by
from stages.settings.datasets import (
    SOURCE,
    FifthForValidation,
    Margin,
    PublishedPath,
    SixthForTesting,
    ThinnedDataset,
)
from stages.settings.section import OPTIONAL

FOLDERS = ("Anno", "Anno_coarse")


class DeepFashion(ThinnedDataset):
    """Clothes of DeepFashion's category and attribute prediction.

    `path` holds the lists in `Anno/` (or `Anno_coarse/`) and the images in `Img/img/`. `crop: false` takes whole
    images; `margin` as for `expw`. A sixth for testing and a fifth of the rest for validation (4 : 1 : 1) where
    `split` and `validation` are left out.
    """

    source: Literal["deepfashion"] = SOURCE
    path: PublishedPath
    crop: Annotated[bool, OPTIONAL] = Field(
        None, description="Whether the clothes are cut out of the image; true where it is left out."
    )
    margin: Margin = None
    split: SixthForTesting = None
    validation: FifthForValidation = None


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Images by category, cut out with `margin` unless `crop` is false.

    Classes are the categories that occur: some of the 50 have no image.

    Raises:
        ValueError: a file or the images are missing, a list is cut short, a line has an unknown
            category or a bad box, an image has two lines or no box, or the dataset breaks a rule
            of `build_manifest`.
    """
    folder = data_root / settings["path"]
    source = _find_list(folder, "list_category_img.txt")
    names = [fields[0] for _, fields in _read_list(_find_list(folder, "list_category_cloth.txt"), ("name", "type"))]
    load, boxes = FileLoader(folder), None
    if settings.get("crop", True):
        load = CropLoader(folder, settings.get("margin", 0.0))
        rows = _read_list(_find_list(folder, "list_bbox.txt"), ("image", "left", "top", "right", "bottom"))
        boxes = {image: (place, edges) for place, (image, *edges) in rows}
    samples, left_out = [], Counter()
    for place, (image, number) in _read_list(source, ("image", "category")):
        with count_bad_entries(left_out, tolerance):
            if number not in map(str, range(1, len(names) + 1)):
                message = f"{place}: the category is '{number}', not 1 to {len(names)}"
                raise BadEntryError("images of an unknown category", message)
            sample = Sample(f"Img/{image}", {settings["task"]: names[int(number) - 1]}, "train")
            samples.append(sample if boxes is None else _add_box(sample, boxes.get(image), place))
    paths = [sample.path for sample in samples]
    check_images(folder, paths, source, tolerance.list_roots(data_root))
    note_left_out(source, left_out)
    chosen = select_samples(samples, settings, source, test=1 / 6, validation=1 / 5)
    return build_manifest(chosen, load, settings, source)


def _find_list(folder: Path, name: str) -> Path:
    return find_file(folder, *(f"{parent}/{name}" for parent in FOLDERS))


def _read_list(path: Path, fields: Sequence[str]) -> list[tuple[str, list[str]]]:
    rows = list(read_lines(path, fields, n_header=2))
    with path.open("rb") as file:
        announced = file.readline().decode(errors="replace").strip()
    if announced != str(len(rows)):
        raise UserError(f"{path}: announces '{announced}' entries, but has {len(rows)}; unpack or download it again")
    return rows


def _add_box(sample: Sample, row: tuple[str, list[str]] | None, place: str) -> CropSample:
    if row is None:
        message = f"{place}: the image has no box in list_bbox.txt, which only `crop: false` can do without"
        raise BadEntryError("images without a box", message)
    place, edges = row
    box = parse_box(edges, place)
    return CropSample(sample.path, sample.labels, sample.split, file=sample.path, box=box, place=place)


def _list_label_files(settings: Mapping[str, Any]) -> list[tuple[str, ...]]:
    names = ["list_category_cloth.txt", "list_category_img.txt"]
    if settings.get("crop", True):
        names.append("list_bbox.txt")
    return [tuple(f"{folder}/{name}" for folder in FOLDERS) for name in names]


READER = Reader(
    read=read,
    settings=DeepFashion,
    publisher=Publisher("DeepFashion", "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html"),
    label_files=_list_label_files,
    cropped=lambda settings: settings.get("crop", True),
    recognize=known_by("category", "Anno/list_category_img.txt", "Anno_coarse/list_category_img.txt"),
)
