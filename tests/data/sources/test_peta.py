from collections import Counter

import pytest

from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.peta import PARTS
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

AGES = {"personalLess30": "16-30", "personalLess45": "31-45", "personalLess60": "46-60", "personalLarger60": "61+"}


@pytest.fixture
def read(tmp_path, draw):
    """Read the ten parts, each of four people, one of each age, and further lines and images of MIT."""
    for part in PARTS:
        lines = []
        for number, age in enumerate(AGES, start=1):
            # In CUHK a key is the name of an image, elsewhere a person's number.
            names = [f"{number:04d}.png"] if part == "CUHK" else [f"{number}_{at}_FRAME_{at}_RGB.bmp" for at in (1, 22)]
            draw(*(f"peta/{part}/archive/{name}" for name in names))
            lines.append(f"{names[0] if part == 'CUHK' else number} accessoryHat {age} personalMale hairShort \n")
        (tmp_path / f"peta/{part}/archive/Label.txt").write_text("".join(lines))

    def read(*lines, images=(), tolerance=STRICT, **settings):
        draw(*(f"peta/MIT/archive/{name}" for name in images))
        with (tmp_path / "peta/MIT/archive/Label.txt").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        return read_source({"source": "peta", "task": "age_stage", "path": "peta", **settings}, tmp_path, tolerance)

    return read


def labels_of(manifest):
    return {one.path: label_of(one) for one in manifest.samples}


def test_people_and_images_become_samples_of_four_age_stages(read):
    manifest = read()
    assert classes_of(manifest) == ("16-30", "31-45", "46-60", "61+")
    labels = labels_of(manifest)
    assert len(labels) == 9 * 4 * 2 + 4
    assert labels["3DPeS/archive/2_22_FRAME_22_RGB.bmp"] == "31-45"
    assert labels["CUHK/archive/0004.png"] == "61+"
    # 19 images of each stage.
    for stage in classes_of(manifest):
        splits = Counter(one.split for one in manifest.samples if label_of(one) == stage)
        assert splits == {"train": 13, "validation": 3, "test": 3}
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (40, 30)


def test_a_number_is_not_taken_for_the_beginning_of_another(read):
    labels = labels_of(
        read("22 personalLarger60", "0005_a personalLess30", images=["22_1.bmp", "0005_a_1.jpg", "2.bmp"])
    )
    assert labels["MIT/archive/22_1.bmp"] == "61+"
    assert labels["MIT/archive/2.bmp"] == "31-45"
    assert labels["MIT/archive/0005_a_1.jpg"] == "16-30"


def test_whoever_has_no_age_stage_is_left_out_and_counted(read, caplog):
    before = labels_of(read())
    lines = ["5 personalLess15", "6 hairShort", "7", "8 personalLess30 personalLess45"]
    images = ["5_1.bmp", "5_2.bmp", "6_1.bmp", "7_1.bmp", "8_1.bmp", "9_1.bmp", ".8_2.bmp"]
    assert labels_of(read(*lines, images=images)) == before
    assert caplog.messages[0].endswith(
        "/peta: left out 5 images without one of the four age stages, 1 images without a label"
    )


def test_few_labels_without_an_image_are_left_out_and_many_are_an_error(read, caplog):
    lines = [f"{number} personalLess30" for number in range(100, 300)]
    images = [f"{number}_1.bmp" for number in range(102, 300)]
    assert "MIT/archive/102_1.bmp" in labels_of(read(*lines, images=images))
    assert caplog.messages[0].endswith("/peta: left out 2 labels without an image")
    with pytest.raises(
        ValueError, match=r"/MIT/archive: lacks the images of 3 labels \(.*Label\.txt, line 5: no image"
    ) as caught:
        read("999 personalLess30")
    assert "no image is called '100' or begins with '100_'); get PETA from its publisher (http" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "4 personalLess61",
            r"MIT/archive/Label\.txt, line 5: the age 'personalLess61' is unknown; did you mean 'person",
        ),
        (
            "4 personalLess30",
            r"/peta: lists the same image twice: 'MIT/archive/4_1_FRAME_1_RGB\.bmp', .*; keep one line",
        ),
        (
            "77 personalLess30",
            r"MIT/archive: lacks the images of 1 labels \(.*line 5: no image is called '77' or begins",
        ),
    ],
)
def test_a_bad_line_is_named(read, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_unknown_ages_are_counted_where_they_are_tolerated(read, caplog):
    before = labels_of(read())
    found = read("5 personalLess61", images=["5_1.bmp"], tolerance=Tolerance(bad_entries=True))
    assert labels_of(found) == before
    assert caplog.messages[0].endswith("/peta: left out 1 labels of an unknown age")


def test_parts_that_were_not_unpacked_are_one_line(read, tmp_path):
    (tmp_path / "peta/CUHK").rename(tmp_path / "elsewhere")
    (tmp_path / "peta/i-LID/archive/Label.txt").unlink()
    with pytest.raises(ValueError, match=r"/peta: lacks archive/Label\.txt in 'CUHK', 'i-LID'; get PETA from its publ"):
        read()
