from collections import Counter

import pytest

from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.expw import EXPRESSIONS
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

GOOD = [
    f"{name}_{number}.jpg 0 5 10 20 25 42.5 {label}" for label, name in enumerate(EXPRESSIONS) for number in range(5)
]


@pytest.fixture
def read(tmp_path, draw):
    """Read a label file, given its lines, of images that exist."""

    def read(*lines, images=GOOD, tolerance=STRICT, **settings):
        draw(*(f"ExpW/image/origin/{line.split()[0]}" for line in images))
        (tmp_path / "ExpW/label").mkdir(exist_ok=True)
        (tmp_path / "ExpW/label/label.lst").write_text("".join(f"{line}\n" for line in lines or GOOD))
        return read_source({"source": "expw", "task": "expression", "path": "ExpW", **settings}, tmp_path, tolerance)

    return read


def test_faces_become_samples_with_the_class_of_their_number(read):
    manifest = read()
    assert classes_of(manifest) == tuple(sorted(EXPRESSIONS))
    assert {(one.path, label_of(one)) for one in manifest.samples} == {
        (f"image/origin/{name}_{number}.jpg#0", name) for name in EXPRESSIONS for number in range(5)
    }
    for label in EXPRESSIONS:
        splits = Counter(one.split for one in manifest.samples if label_of(one) == label)
        assert splits == {"train": 3, "validation": 1, "test": 1}


def test_the_box_is_cut_out_with_the_margin(read, tmp_path, draw, find_box):
    lines = [line.replace(".jpg", ".png") for line in GOOD]
    # Top 5, left 10, right 20, bottom 25: the order of the file.
    assert find_box(read(*lines, images=lines).load(read(*lines).samples[0], 224)) == (10, 5, 20, 25)
    manifest = read(*lines, margin=0.2)
    assert find_box(manifest.load(manifest.samples[0], 224)) == (8, 1, 22, 29)


def test_several_faces_of_an_image_are_several_samples(read):
    manifest = read(*GOOD, "angry_0.jpg 1 0 25 35 10 9.1 6")
    faces = {one.path: one for one in manifest.samples if one.file == "image/origin/angry_0.jpg"}
    assert {path: (label_of(one), one.box) for path, one in faces.items()} == {
        "image/origin/angry_0.jpg#0": ("angry", (10, 5, 20, 25)),
        "image/origin/angry_0.jpg#1": ("neutral", (25, 0, 35, 10)),
    }


def test_a_line_repeated_word_for_word_counts_once(read, caplog):
    assert read(*GOOD, GOOD[3]).samples == read().samples
    assert caplog.messages[0].endswith("label.lst: left out 1 repeated lines")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("angry_0.jpg 1 5 10 20 25 42.5", r"line 36: has 7 of the 8 fields 'name', 'face id', 'top', .*'expression'"),
        ("angry_0.jpg 1 5 10 20 25 42.5 7", r"line 36: the expression is '7', not 0 to 6; get the file again"),
        ("angry_0.jpg 1 5 10 20 25 42.5 happy", r"line 36: the expression is 'happy', not 0 to 6"),
        ("angry_0.jpg 1 5 ten 20 25 42.5 0", r"line 36: the box ten 5 20 25 is not four numbers; get"),
        ("angry_0.jpg 1 5 20 20 25 42.5 0", r"line 36: the box \(left 20, top 5, right 20, bottom 25\) is empty"),
        ("angry_0.jpg 1 -9 10 20 0 42.5 0", r"line 36: the box .*bottom 0\) lies outside the image; get"),
        (
            "angry_0.jpg 0 5 10 20 25 42.5 1",
            r"line 36: face 0 of 'angry_0\.jpg' differs from that of .*label\.lst, line 1; get the file",
        ),
    ],
)
def test_a_bad_line_is_named(read, line, message):
    with pytest.raises(ValueError, match=rf"label\.lst, {message}") as caught:
        read(*GOOD, line)
    assert "\n" not in str(caught.value)


def test_bad_lines_are_counted_where_they_are_tolerated(read, caplog):
    bad = ["angry_0.jpg 1 5 10 20 25 42.5 7", "angry_0.jpg 2 5 20 20 25 42.5 0", "angry_0.jpg 0 5 10 20 25 42.5 1"]
    assert read(*GOOD, *bad, tolerance=Tolerance(bad_entries=True)).samples == read().samples
    assert caplog.messages[0].endswith(
        "label.lst: left out 1 faces of an unknown expression, 1 boxes without area, 1 other versions of a face"
    )


def test_a_box_beyond_its_image_is_named_when_it_is_cut_out(read):
    manifest = read(*GOOD, "angry_0.jpg 1 5 40 50 25 42.5 0")
    sample = next(one for one in manifest.samples if one.path.endswith("#1"))
    with pytest.raises(ValueError, match=r"label\.lst, line 36: the box .* lies outside the image of 40 x 30 pixels"):
        manifest.load(sample, 224)


def test_images_that_were_not_unpacked_are_one_line(read):
    with pytest.raises(
        ValueError, match=r"/ExpW: lacks 1 of the 36 images labelled in .*/label\.lst, such as"
    ) as caught:
        read(*GOOD, "other.jpg 0 5 10 20 25 42.5 0")
    assert "'image/origin/other.jpg'; get ExpW from its publisher (http://mmlab.ie.cuhk.edu.hk/" in str(caught.value)


def test_settings_choose_splits_and_training_samples(read):
    manifest = read(split={"test": 0.4, "seed": 3}, validation=0.4, samples=7)
    assert Counter(one.split for one in manifest.samples) == {"train": 7, "validation": 7, "test": 14}
