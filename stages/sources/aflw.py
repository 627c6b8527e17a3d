"""Annotated Facial Landmarks in the Wild (AFLW): faces of Flickr images with the pose of the head.

Below `path`, which is aflw/data where the publisher's archives are unpacked:

    aflw.sqlite         tables Faces (face_id, file_id), FaceImages (file_id, filepath), FacePose
                        (face_id, yaw in radians) and FaceRect (face_id, x, y, w, h), and others
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
from typing import Any

from stages.sources.base import Manifest, build_manifest
from stages.sources.cropping import CropLoader, CropSample
from stages.sources.published import Publisher, note_left_out, split_samples

PUBLISHER = Publisher("AFLW", "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/")
POSES = ("left profile", "left", "frontal", "right", "right profile")
YAW_EDGES = (-60.0, -30.0, 30.0, 60.0)
"""Degrees between the poses, where the settings have none.

The paper names the five poses, but neither their limits nor whose left it means. 30 and 60 degrees
are where results on AFLW are usually parted (Zhu et al., Face Alignment Across Large Poses, CVPR
2016). Left is negative yaw; with edges that mirror each other the other choice would swap names only.
"""
FACES = """
    SELECT face.face_id, image.filepath, pose.yaw, rect.x, rect.y, rect.w, rect.h
    FROM Faces AS face
    LEFT JOIN FaceImages AS image ON image.file_id = face.file_id
    LEFT JOIN FacePose AS pose ON pose.face_id = face.face_id
    LEFT JOIN FaceRect AS rect ON rect.face_id = face.face_id
    ORDER BY face.face_id
"""


def read(settings: Mapping[str, Any], data_root: Path) -> Manifest:
    """One sample per face, cut out with `margin`; `split` defaults to the paper's 80 to 20.

    A sample's path is the image's with # and the face id. Faces of one image may come into
    different splits. Faces without a pose or a rectangle are left out; the paper counts them.

    Raises:
        ValueError: a file or the images are missing, the database cannot be read or lacks a table
            or column, a face occurs twice or has no image or a bad rectangle, `yaw_edges` do not
            rise, or the dataset breaks a rule of `build_manifest`.
    """
    folder = data_root / settings["path"]
    edges = settings.get("yaw_edges", YAW_EDGES)
    if list(edges) != sorted(set(edges)):
        raise ValueError(f"{folder}: `yaw_edges` must rise, not {list(edges)}; write for example {list(YAW_EDGES)}")
    source = PUBLISHER.find_file(folder, "aflw.sqlite")
    samples, left_out = {}, Counter()
    for face, filepath, yaw, *rectangle in _query(source):
        place = f"{source}, face {face}"
        if face in samples:
            raise ValueError(f"{place}: occurs twice in Faces, FacePose, FaceRect or FaceImages; remove one of them")
        if filepath is None:
            raise ValueError(f"{place}: its image is not in FaceImages; get the database again")
        if yaw is None:
            left_out["faces without a pose"] += 1
        elif None in rectangle:
            left_out["faces without a rectangle"] += 1
        else:
            file = f"{settings.get('images', 'flickr')}/{filepath}"
            samples[face] = _make_sample(face, file, yaw, rectangle, edges, place)
    PUBLISHER.check_images(folder, sorted({sample.file for sample in samples.values()}), source)
    note_left_out(source, left_out)
    chosen = split_samples(list(samples.values()), settings, source, test=0.2, validation=0.1)
    return build_manifest(chosen, CropLoader(folder, settings.get("margin", 0.0)), settings, source)


def _query(source: Path) -> list[tuple]:
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(FACES).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{source}: cannot be read ({error}); get the file from {PUBLISHER.page} again") from None


def _make_sample(
    face: int, file: str, yaw: float, rectangle: Sequence[float], edges: Sequence[float], place: str
) -> CropSample:
    try:
        left, top, width, height = map(float, rectangle)
        pose = POSES[bisect_right(edges, math.degrees(yaw))]
    except (TypeError, ValueError):
        raise ValueError(f"{place}: its yaw or its rectangle is not a number; get the database again") from None
    box = (left, top, left + width, top + height)
    return CropSample(f"{file}#{face}", pose, "train", file=file, box=box, place=place)
