import math
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from stages.data.sources.aflw import POSES
from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

TABLES = """
    CREATE TABLE Faces (face_id INTEGER, file_id TEXT, db_id TEXT);
    CREATE TABLE FaceImages (image_id INTEGER, db_id TEXT, file_id TEXT, filepath TEXT, width INTEGER, height INTEGER);
    CREATE TABLE FacePose (face_id INTEGER, roll REAL, pitch REAL, yaw REAL);
    CREATE TABLE FaceRect (face_id INTEGER, x INTEGER, y INTEGER, w INTEGER, h INTEGER, annot_type_id INTEGER);
"""
DEGREES = (-80, -45, 0, 45, 80)
YAWS = {number: DEGREES[number % 5] for number in range(25)}


@pytest.fixture
def database(tmp_path, draw):
    """A database of 25 faces in 25 images, five of each pose, and a function that changes it."""
    draw(*(f"aflw/data/flickr/{number % 3}/image{number:05d}.png" for number in YAWS))

    def change(*script):
        with closing(sqlite3.connect(tmp_path / "aflw/data/aflw.sqlite")) as connection:
            connection.executescript(f"PRAGMA synchronous = OFF; BEGIN; {';'.join(script)}; COMMIT")

    rows = [
        f"""
        INSERT INTO Faces VALUES ({number}, 'image{number:05d}.png', 'flickr');
        INSERT INTO FaceImages VALUES
            ({number}, 'flickr', 'image{number:05d}.png', '{number % 3}/image{number:05d}.png', 40, 30);
        INSERT INTO FacePose VALUES ({number}, 0.1, 0.2, {math.radians(yaw)});
        INSERT INTO FaceRect VALUES ({number}, 10, 5, 10, 20, 0)
        """
        for number, yaw in YAWS.items()
    ]
    change(TABLES, *rows)
    return change


def read(root, tolerance=STRICT, **settings):
    return read_source({"source": "aflw", "task": "pose", "path": "aflw/data", **settings}, root, tolerance)


def test_faces_become_samples_of_five_poses(database, tmp_path):
    manifest = read(tmp_path)
    assert classes_of(manifest) == tuple(sorted(POSES))
    assert {one.path: label_of(one) for one in manifest.samples} == {
        f"flickr/{number % 3}/image{number:05d}.png#{number}": POSES[number % 5] for number in YAWS
    }
    for pose in POSES:
        splits = Counter(one.split for one in manifest.samples if label_of(one) == pose)
        assert splits == {"train": 3, "validation": 1, "test": 1}


def test_the_rectangle_is_cut_out_with_the_margin(database, tmp_path, find_box):
    manifest = read(tmp_path)
    assert find_box(manifest.load(manifest.samples[0], 224)) == (10, 5, 20, 25)
    manifest = read(tmp_path, margin=0.2)
    assert find_box(manifest.load(manifest.samples[0], 224)) == (8, 1, 22, 29)


def test_several_faces_of_an_image_are_several_samples(database, tmp_path, find_box):
    database("INSERT INTO Faces VALUES (99, 'image00000.png', 'flickr')")
    database("INSERT INTO FacePose VALUES (99, 0, 0, 0.0)")
    database("INSERT INTO FaceRect VALUES (99, -5, -5, 15, 15, 0)")
    manifest = read(tmp_path)
    sample = next(one for one in manifest.samples if one.path == "flickr/0/image00000.png#99")
    assert label_of(sample) == "frontal"
    assert find_box(manifest.load(sample, 224)) == (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("degrees", "pose"),
    [(-180, 0), (-61, 0), (-59, 1), (-31, 1), (-29, 2), (29, 2), (31, 3), (59, 3), (61, 4), (180, 4)],
)
def test_poses_meet_at_30_and_60_degrees(database, tmp_path, degrees, pose):
    database(f"UPDATE FacePose SET yaw = {math.radians(degrees)} WHERE face_id = 7")
    assert next(label_of(one) for one in read(tmp_path).samples if one.path.endswith("#7")) == POSES[pose]


def test_the_settings_may_move_the_edges(database, tmp_path):
    default = Counter(label_of(one) for one in read(tmp_path).samples)
    database(f"UPDATE FacePose SET yaw = {math.radians(22)} WHERE face_id = 7")
    assert Counter(label_of(one) for one in read(tmp_path).samples) == default
    moved = Counter(label_of(one) for one in read(tmp_path, yaw_edges=[-60, -20, 20, 60]).samples)
    assert moved == default - Counter(["frontal"]) + Counter(["right"])
    for edges in ([-60, 20, -20, 60], [-60, -20, -20, 60]):
        with pytest.raises(
            ValueError, match=r"`yaw_edges` must rise, not \[-60, .*; write for example \[-60\.0, -30\.0"
        ):
            read(tmp_path, yaw_edges=edges)


def test_faces_without_a_pose_or_a_rectangle_are_left_out_and_counted(database, tmp_path, caplog):
    database("DELETE FROM FacePose WHERE face_id IN (0, 5)")
    database("UPDATE FaceRect SET w = NULL WHERE face_id = 6")
    database("DELETE FROM FaceRect WHERE face_id IN (0, 7)")
    assert len(read(tmp_path).samples) == 21
    assert caplog.messages[0].endswith("aflw.sqlite: left out 2 faces without a pose, 2 faces without a rectangle")


@pytest.mark.parametrize(
    ("rectangles", "box"),
    [
        # 0 is drawn by hand, 1 follows from landmarks, 2 was found by a detector.
        ([(20, 10, 15, 15, 2), (1, 2, 3, 4, 1), (0, 0, 30, 30, 2)], (1, 2, 4, 6)),
        ([(1, 2, 3, 4, 1), (5, 6, 7, 8, 1), (2, 2, 3, 3, 1)], (5, 6, 12, 14)),
        ([(5, 6, 7, 8, None), (1, 2, 3, 4, 2)], (1, 2, 4, 6)),
    ],
)
def test_of_several_rectangles_the_most_reliable_and_largest_is_taken(database, tmp_path, caplog, rectangles, box):
    rows = [f"INSERT INTO FaceRect VALUES (3, {str(row)[1:-1].replace('None', 'NULL')})" for row in rectangles]
    database("DELETE FROM FaceRect WHERE face_id = 3", *rows)
    samples = read(tmp_path).samples
    assert len(samples) == 25
    assert next(one.box for one in samples if one.path.endswith("#3")) == box
    assert caplog.messages[0].endswith(f"aflw.sqlite: left out {len(rows) - 1} further rectangles of a face")


def test_without_their_kinds_the_largest_rectangle_is_taken(database, tmp_path):
    before = read(tmp_path).samples
    database("INSERT INTO FaceRect VALUES (3, 0, 0, 30, 30, 2)", "ALTER TABLE FaceRect DROP COLUMN annot_type_id")
    samples = read(tmp_path).samples
    assert [one for one in samples if not one.path.endswith("#3")] == [
        one for one in before if not one.path.endswith("#3")
    ]
    assert next(one.box for one in samples if one.path.endswith("#3")) == (0, 0, 30, 30)


def test_bad_entries_are_counted_where_they_are_tolerated(database, tmp_path, caplog):
    database(
        "DELETE FROM FaceImages WHERE image_id = 3",
        "UPDATE FaceRect SET w = 0 WHERE face_id IN (4, 5)",
        "UPDATE FaceRect SET x = -10 WHERE face_id = 6",
        "UPDATE FacePose SET yaw = 'left' WHERE face_id = 7",
        "INSERT INTO Faces VALUES (8, 'image00008.png', 'flickr')",
    )
    assert len(read(tmp_path, Tolerance(bad_entries=True)).samples) == 20
    assert caplog.messages[0].endswith(
        "aflw.sqlite: left out 1 faces without an image, 2 boxes without area, 1 boxes outside their images, "
        "1 faces whose yaw or rectangle is not a number, 1 repeated faces"
    )


def test_an_image_outside_the_dataset_is_refused_unless_that_is_permitted(database, tmp_path):
    (tmp_path / "aflw/data/flickr/0/image00003.png").rename(tmp_path.parent / f"{tmp_path.name}.png")
    database(f"UPDATE FaceImages SET filepath = '../../../../{tmp_path.name}.png' WHERE image_id = 3")
    with pytest.raises(ValueError, match=r"aflw\.sqlite: 'flickr/\.\./.*\.png' lies outside .*; correct it, or permit"):
        read(tmp_path)
    assert len(read(tmp_path, Tolerance(outside=True)).samples) == 25


def test_the_database_is_left_as_it_is(database, tmp_path):
    path = tmp_path / "aflw/data/aflw.sqlite"
    before = path.read_bytes()
    path.chmod(0o444)
    read(tmp_path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["aflw.sqlite", "flickr"]


def test_images_may_lie_in_another_folder(database, tmp_path):
    (tmp_path / "aflw/data/flickr").rename(tmp_path / "aflw/pictures")
    manifest = read(tmp_path, images="../pictures")
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (10, 20)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "INSERT INTO Faces VALUES (3, 'image00003.png', 'flickr')",
            r", face 3: occurs twice in Faces, FacePose or Face",
        ),
        (
            "UPDATE FaceImages SET filepath = '' WHERE image_id = 3",
            r", face 3: its image is not in FaceImages; get the",
        ),
        ("DELETE FROM FaceImages WHERE image_id = 3", r", face 3: its image is not in FaceImages; get the file again"),
        (
            "UPDATE FaceRect SET w = 0 WHERE face_id = 3",
            r", face 3: the box .* is empty; get the file again",
        ),
        ("UPDATE FaceRect SET x = -10 WHERE face_id = 3", r", face 3: the box .*right 0, .* lies outside the image"),
        ("UPDATE FaceRect SET h = 'tall' WHERE face_id = 3", r", face 3: its yaw or its rectangle is not a number"),
        ("UPDATE FacePose SET yaw = 'left' WHERE face_id = 3", r", face 3: its yaw or its rectangle is not a number"),
        ("DROP TABLE FacePose", r": cannot be read \(no such table: FacePose\); get the file from https://www\.tugraz"),
        ("ALTER TABLE FacePose DROP COLUMN yaw", r": cannot be read \(no such column: pose\.yaw\); get the file from"),
    ],
)
def test_a_bad_database_is_named_with_its_face_or_table(database, tmp_path, statement, message):
    database(statement)
    with pytest.raises(ValueError, match=rf"aflw\.sqlite{message}") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(database, tmp_path):
    (tmp_path / "aflw/data/aflw.sqlite").write_bytes(b"<html>Please log in</html>" * 100)
    with pytest.raises(ValueError, match=r"aflw\.sqlite: cannot be read \(file is not a database\); get the file from"):
        read(tmp_path)


def test_a_rectangle_beyond_its_image_is_named_when_it_is_cut_out(database, tmp_path):
    database("UPDATE FaceRect SET x = 40 WHERE face_id = 3")
    manifest = read(tmp_path)
    sample = next(one for one in manifest.samples if one.path.endswith("#3"))
    with pytest.raises(ValueError, match=r"aflw\.sqlite, face 3: the box .* lies outside the image of 40 x 30 pixels"):
        manifest.load(sample, 224)


def test_an_archive_of_images_that_was_not_unpacked_is_one_line(database, tmp_path):
    (tmp_path / "aflw/data/flickr/2").rename(tmp_path / "elsewhere")
    message = r"/aflw/data: lacks 8 of the 25 images labelled in .*, such as 'flickr/2/image00002\.png'; get AFLW from"
    with pytest.raises(ValueError, match=message):
        read(tmp_path)
