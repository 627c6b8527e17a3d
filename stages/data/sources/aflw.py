"""Annotated Facial Landmarks in the Wild (AFLW): faces of Flickr images with the pose of the head.

Below `path`, which is aflw/data where the publisher's archives are unpacked:

    aflw.sqlite         tables Faces (face_id, file_id), FaceImages (file_id, filepath), FacePose
                        (face_id, yaw in radians) and FaceRect (face_id, x, y, w, h, annot_type_id), and others
    flickr/0/, 2/, 3/   the images, by filepath; another folder than flickr if `images` says so

The tables and the tree are those that public evaluations of AFLW describe and query.
"""

import math
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.data.sources.base import Manifest, Tolerance, build_manifest, select_samples
from stages.data.sources.cropping import CropLoader, CropSample
from stages.data.sources.published import (
    BadEntryError,
    check_images,
    count_bad_entries,
    find_file,
    note_left_out,
)
from stages.data.sources.reader import Publisher, Reader, known_by
from stages.settings.datasets import SOURCE, FifthForTesting, Margin, PublishedPath, ThinnedDataset, Validation
from stages.settings.section import OPTIONAL, UNIQUE, number


class Aflw(ThinnedDataset):
    """Annotated Facial Landmarks in the Wild.

    `path` holds `aflw.sqlite` and `flickr/` (another folder if `images` says so). `margin` and `split` as for
    `expw`. Of several rectangles of a face the one drawn by hand counts, else that of the landmarks, else the
    detector's; of those the largest. `yaw_edges: [-60, -30, 30, 60]`: degrees between left profile, left, frontal,
    right and right profile. The paper does not give them; these are the default. Faces without a pose or a
    rectangle are left out.
    """

    source: Literal["aflw"] = SOURCE
    path: PublishedPath
    images: Annotated[str, OPTIONAL] = Field(
        None, description="Folder of the images below `path`; flickr where it is left out."
    )
    yaw_edges: Annotated[list[number(ge=-180, le=180)], Field(min_length=4, max_length=4), UNIQUE, OPTIONAL] = Field(
        None,
        description="Degrees between left profile, left, frontal, right and right profile, rising; "
        "-60, -30, 30, 60 where it is left out.",
    )
    margin: Margin = None
    split: FifthForTesting = None
    validation: Validation = None


POSES = ("left profile", "left", "frontal", "right", "right profile")
YAW_EDGES = (-60.0, -30.0, 30.0, 60.0)
"""Degrees between the poses, where the settings have none.

The paper names the five poses, but neither their limits nor whose left it means. 30 and 60 degrees
are where results on AFLW are usually parted (Zhu et al., Face Alignment Across Large Poses, CVPR
2016). Left is negative yaw; with edges that mirror each other the other choice would swap names only.
"""
FACES = """
    WITH ranked AS (
        SELECT
            face_id, x, y, w, h,
            row_number() OVER (PARTITION BY face_id ORDER BY {kind}, w * h DESC, x, y) AS place,
            count(*) OVER (PARTITION BY face_id) AS number
        FROM FaceRect
    )
    SELECT face.face_id, image.filepath, pose.yaw, rect.number, rect.x, rect.y, rect.w, rect.h
    FROM Faces AS face
    LEFT JOIN FaceImages AS image ON image.file_id = face.file_id
    LEFT JOIN FacePose AS pose ON pose.face_id = face.face_id
    LEFT JOIN ranked AS rect ON rect.face_id = face.face_id AND rect.place = 1
    ORDER BY face.face_id, pose.yaw, image.filepath
"""
KIND = "annot_type_id"
"""Column of FaceRect: 0 is drawn by hand, 1 follows from landmarks, 2 was found by a detector."""


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """One sample per face, cut out with `margin`; `split` defaults to the paper's 80 to 20.

    A sample's path is the image's with # and the face id. Faces of one image may come into
    different splits. Faces without a pose or a rectangle are left out; the paper counts them. Of several
    rectangles the most reliable kind counts (see `KIND`), and of those the largest.

    Raises:
        ValueError: a file or the images are missing, the database cannot be read or lacks a table
            or column, a face occurs twice or has no image or a bad rectangle, `yaw_edges` do not
            rise, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    edges = settings.get("yaw_edges", YAW_EDGES)
    if list(edges) != sorted(set(edges)):
        raise UserError(f"{folder}: `yaw_edges` must rise, not {list(edges)}; write for example {list(YAW_EDGES)}")
    source = find_file(folder, "aflw.sqlite")
    samples, left_out = {}, Counter()
    for face, filepath, yaw, n_rectangles, *rectangle in _query(source):
        place = f"{source}, face {face}"
        with count_bad_entries(left_out, tolerance):
            if face in samples:
                raise BadEntryError("repeated faces", f"{place}: occurs twice in Faces, FacePose or FaceImages")
            if not filepath:
                raise BadEntryError("faces without an image", f"{place}: its image is not in FaceImages")
            if yaw is None:
                left_out["faces without a pose"] += 1
            elif None in rectangle:
                left_out["faces without a rectangle"] += 1
            else:
                file = f"{settings.get('images', 'flickr')}/{filepath}"
                samples[face] = _make_sample(face, file, yaw, rectangle, edges, settings["task"], place)
                left_out["further rectangles of a face"] += n_rectangles - 1
    roots = tolerance.list_roots(data_root)
    check_images(folder, sorted({sample.file for sample in samples.values()}), source, roots)
    note_left_out(source, left_out)
    chosen = select_samples(list(samples.values()), settings, source, test=0.2, validation=0.1)
    return build_manifest(chosen, CropLoader(folder, settings.get("margin", 0.0)), settings, source)


def _query(source: Path) -> list[tuple]:
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as database:
            columns = [name for _, name, *_ in database.execute("PRAGMA table_info(FaceRect)")]
            kind = f"{KIND} IS NULL, {KIND}" if KIND in columns else "0"
            return database.execute(FACES.format(kind=kind)).fetchall()
    except sqlite3.Error as error:
        raise UserError(
            f"{source}: cannot be read ({error}); get the file from {READER.publisher.page} again"
        ) from None


def _make_sample(
    face: int, file: str, yaw: float, rectangle: Sequence[float], edges: Sequence[float], task: str, place: str
) -> CropSample:
    try:
        left, top, width, height = map(float, rectangle)
        pose = POSES[bisect_right(edges, math.degrees(yaw))]
    except (TypeError, ValueError):
        message = f"{place}: its yaw or its rectangle is not a number"
        raise BadEntryError("faces whose yaw or rectangle is not a number", message) from None
    box = (left, top, left + width, top + height)
    return CropSample(f"{file}#{face}", {task: pose}, "train", file=file, box=box, place=place)


READER = Reader(
    read=read,
    settings=Aflw,
    publisher=Publisher("AFLW", "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/"),
    label_files=lambda settings: [("aflw.sqlite",)],
    place_images=lambda settings: f"{settings['path']}/{settings.get('images', '')}",
    cropped=lambda settings: True,
    recognize=known_by("pose", "aflw.sqlite"),
)
