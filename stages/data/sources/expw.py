"""Expression in-the-Wild (ExpW): faces of web images, labelled for seven expressions.

Below `path`, as the publisher's archives unpack:

    label/label.lst     one face per line: image name, face id in the image, top, left, right and
                        bottom edge of its box, confidence of the box, expression (0 to 6)
    image/origin/       the images

The order of the fields and of the expressions is that of the publisher's readme, as public pages
and readers of the file quote it (rhkb.cn/news/38351.html is one).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stages.data.sources.base import Manifest, Tolerance, build_manifest, select_samples
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
from stages.settings.datasets import SOURCE, FifthForTesting, Margin, PublishedPath, ThinnedDataset, Validation


class Expw(ThinnedDataset):
    """Expression in the Wild.

    `path` holds `label/label.lst` and `image/origin/`. One sample per face, cut out with `margin: 0.1` (share of the
    box added on each side; 0 where left out). `split: {test: 0.2, seed: 0}`, a fifth for testing where left out.
    """

    source: Literal["expw"] = SOURCE
    path: PublishedPath
    margin: Margin = None
    split: FifthForTesting = None
    validation: Validation = None


EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FIELDS = ("name", "face id", "top", "left", "right", "bottom", "confidence", "expression")


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """One sample per face, cut out with `margin`; `split` defaults to the paper's 80 to 20.

    A sample's path is the image's with # and the face id. Faces of one image may come into
    different splits. A line that is repeated word for word counts once.

    Raises:
        ValueError: a file or the images are missing, a line is incomplete, repeats a face with
            other values, or has an unknown expression or a bad box, or the dataset breaks a rule
            of `build_manifest`.
    """
    folder = data_root / settings["path"]
    source = find_file(folder, "label/label.lst")
    samples: dict[str, CropSample] = {}
    lines: dict[str, list[str]] = {}
    left_out = Counter()
    for place, fields in read_lines(source, FIELDS):
        with count_bad_entries(left_out, tolerance):
            sample = _parse_face(fields, settings["task"], place)
            if sample.path not in samples:
                samples[sample.path], lines[sample.path] = sample, fields
            elif lines[sample.path] == fields:
                left_out["repeated lines"] += 1
            else:
                first = samples[sample.path].place
                message = f"{place}: face {fields[1]} of '{fields[0]}' differs from that of {first}"
                raise BadEntryError("other versions of a face", message)
    files = sorted({sample.file for sample in samples.values()})
    check_images(folder, files, source, tolerance.list_roots(data_root))
    note_left_out(source, left_out)
    chosen = select_samples(list(samples.values()), settings, source, test=0.2, validation=0.1)
    return build_manifest(chosen, CropLoader(folder, settings.get("margin", 0.0)), settings, source)


def _parse_face(fields: list[str], task: str, place: str) -> CropSample:
    name, face, top, left, right, bottom, _, expression = fields
    if expression not in map(str, range(len(EXPRESSIONS))):
        message = f"{place}: the expression is '{expression}', not 0 to {len(EXPRESSIONS) - 1}"
        raise BadEntryError("faces of an unknown expression", message)
    file = f"image/origin/{name}"
    box = parse_box([left, top, right, bottom], place)
    return CropSample(f"{file}#{face}", {task: EXPRESSIONS[int(expression)]}, "train", file=file, box=box, place=place)


READER = Reader(
    read=read,
    settings=Expw,
    publisher=Publisher("ExpW", "http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html"),
    label_files=lambda settings: [("label/label.lst",)],
    cropped=lambda settings: True,
    recognize=known_by("expression", "label/label.lst"),
)
