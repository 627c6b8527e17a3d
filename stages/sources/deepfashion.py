"""DeepFashion, the benchmark of category and attribute prediction: clothes of 50 categories.

Below `path`, as the publisher's archives unpack (the lists perhaps in Anno_coarse/):

    Anno/list_category_cloth.txt    category name, type; the first is category 1
    Anno/list_category_img.txt      image, category number
    Anno/list_bbox.txt              image, left, top, right and bottom edge of the clothes
    Img/img/…                       the images, listed as img/…

The first line of a list is the number of its entries, the second names its columns (publisher's
readme). The publisher's own partition is not used: the paper splits 4 : 1 : 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.sources.base import FileLoader, Manifest, Sample, build_manifest
from stages.sources.cropping import Box, CropLoader, CropSample, parse_box
from stages.sources.label_files import DEEPFASHION_FOLDERS
from stages.sources.published import Publisher, read_lines, split_samples

PUBLISHER = Publisher("DeepFashion", "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html")


def read(settings: Mapping[str, Any], data_root: Path) -> Manifest:
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
    samples = []
    for place, (image, number) in _read_list(source, ("image", "category")):
        if number not in map(str, range(1, len(names) + 1)):
            raise ValueError(f"{place}: the category is '{number}', not 1 to {len(names)}; correct or remove the line")
        samples.append((place, Sample(f"Img/{image}", names[int(number) - 1], "train")))
    load = FileLoader(folder)
    if settings.get("crop", True):
        load = CropLoader(folder, settings.get("margin", 0.0))
        boxes = _read_boxes(_find_list(folder, "list_bbox.txt"))
        samples = [(place, _add_box(sample, boxes, place)) for place, sample in samples]
    PUBLISHER.check_images(folder, [sample.path for _, sample in samples], source)
    chosen = split_samples([sample for _, sample in samples], settings, source, test=1 / 6, validation=1 / 5)
    return build_manifest(chosen, load, settings, source)


def _find_list(folder: Path, name: str) -> Path:
    return PUBLISHER.find_file(folder, *(f"{parent}/{name}" for parent in DEEPFASHION_FOLDERS))


def _read_list(path: Path, fields: Sequence[str]) -> list[tuple[str, list[str]]]:
    rows = list(read_lines(path, fields, n_header=2))
    with path.open("rb") as file:
        announced = file.readline().decode(errors="replace").strip()
    if announced != str(len(rows)):
        raise ValueError(f"{path}: announces '{announced}' entries, but has {len(rows)}; unpack or download it again")
    return rows


def _read_boxes(path: Path) -> dict[str, tuple[str, Box]]:
    rows = _read_list(path, ("image", "left", "top", "right", "bottom"))
    return {f"Img/{image}": (place, parse_box(edges, place)) for place, (image, *edges) in rows}


def _add_box(sample: Sample, boxes: Mapping[str, tuple[str, Box]], place: str) -> CropSample:
    if sample.path not in boxes:
        raise ValueError(f"{place}: the image has no box in list_bbox.txt; add one or set `crop` to false")
    place, box = boxes[sample.path]
    return CropSample(sample.path, sample.label, sample.split, file=sample.path, box=box, place=place)
