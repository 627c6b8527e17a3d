from collections import Counter

import numpy as np
import pytest

from stages.data.sources.base import Tolerance
from stages.data.sources.ferplus import CLASSES, USAGES, VOTES, find_majority
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

HEADER = ",".join(["Usage", "Image name", *VOTES])
ROWS = [
    f"{usage},fer{3 * number + at:07d}.png,{','.join('8' if vote == label else '1' for vote in VOTES)}"
    for number, label in enumerate(CLASSES)
    for at, usage in enumerate(USAGES)
]


def write_votes(root, rows=ROWS, header=HEADER):
    (root / "ferplus").mkdir(exist_ok=True)
    (root / "ferplus/fer2013new.csv").write_text("\n".join([header, *rows]) + "\n")


def write_pixels(root, rows=ROWS, header="emotion,pixels,Usage"):
    """Images whose grey values are all the number of their row."""
    lines = [f'0,"{" ".join([str(number)] * 2304)}",{row.split(",")[0]}' for number, row in enumerate(rows)]
    (root / "ferplus/fer2013.csv").write_text("\n".join([header, *lines]) + "\n")


def draw_images(draw, folder="ferplus", rows=ROWS):
    for row in rows:
        usage, name, *_ = row.split(",")
        if name:
            draw(f"{folder}/{USAGES[usage][1]}/{name}")


def read(root, **settings):
    return read_source({"source": "ferplus", "task": "expression", "path": "ferplus", **settings}, root)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([0, 10, 0, 0, 0, 0, 0, 0, 0, 0], "happiness"),
        ([6, 0, 1, 1, 0, 0, 0, 0, 2, 0], "neutral"),
        # 4 of 9 are no majority, but the single votes are outliers: 4 of 4 are.
        ([0, 0, 0, 1, 4, 1, 1, 1, 1, 0], "anger"),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ([4, 3, 3, 0, 0, 0, 0, 0, 0, 0], None),
        ([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], None),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], None),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),
    ],
)
def test_the_majority_is_more_than_half_of_the_votes_that_are_no_outliers(votes, label):
    assert find_majority(votes) == label


@pytest.mark.parametrize("images", ["ferplus", "ferplus/data"])
def test_published_splits_and_majorities_become_samples(tmp_path, draw, images):
    write_votes(tmp_path)
    draw_images(draw, images)
    manifest = read(tmp_path)
    assert classes_of(manifest) == tuple(sorted(CLASSES))
    assert {(one.path, label_of(one), one.split) for one in manifest.samples} == {
        (f"{folder}/fer{3 * number + at:07d}.png", label, split)
        for number, label in enumerate(CLASSES)
        for at, (split, folder) in enumerate(USAGES.values())
    }
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (40, 30)


def test_without_images_the_pixels_of_the_same_row_are_taken(tmp_path, draw):
    write_votes(tmp_path)
    write_pixels(tmp_path)
    manifest = read(tmp_path)
    for sample in manifest.samples:
        image = manifest.load(sample, 32)
        number = int(sample.path[-11:-4])
        assert (image.mode, image.size) == ("L", (48, 48))
        assert (np.asarray(image) == number).all()
    draw_images(draw)
    from_images = read(tmp_path).samples
    assert [(one.path, label_of(one), one.split) for one in from_images] == [
        (one.path, label_of(one), one.split) for one in manifest.samples
    ]


def test_other_orders_of_columns_are_read_by_their_names(tmp_path):
    write_votes(tmp_path)
    write_pixels(tmp_path)
    content = [line.split(",") for line in (tmp_path / "ferplus/fer2013.csv").read_text().splitlines()]
    manifest = read(tmp_path)
    expected = np.asarray(manifest.load(manifest.samples[5], 32))
    (tmp_path / "ferplus/fer2013.csv").write_text("".join(f" {c}, {a}, {b}\r\n" for a, b, c in content))
    manifest = read(tmp_path)
    assert (np.asarray(manifest.load(manifest.samples[5], 32)) == expected).all()


def test_what_is_no_face_and_what_has_no_majority_is_left_out_and_counted(tmp_path, caplog):
    rows = [*ROWS, "Training,,0,0,0,0,0,0,0,0,0,10", "Training,ferx.png,5,5,0,0,0,0,0,0,0,0"]
    write_votes(tmp_path, rows)
    write_pixels(tmp_path, rows)
    assert len(read(tmp_path).samples) == len(ROWS)
    assert caplog.messages[0].endswith(
        "fer2013new.csv: left out 1 rows without an image, 1 images without a majority for an expression"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Test,ferx.png,0,10,0,0,0,0,0,0,0,0", r", line 26: Usage is 'Test', not Training, PublicTest, PrivateTest"),
        ("Training,ferx.png,0,0,0,0,0,0,0,0,0,0", r", line 26: 'ferx\.png' has no votes; get the file again, or set"),
        ("Training,ferx.png,0,ten,0,0,0,0,0,0,0,0", r", line 26: column 'happiness' holds 'ten', not a count of votes"),
        ("Training,ferx.png,10", r", line 26: column 'happiness' holds '', not a count of votes; get"),
        (ROWS[0], r": lists the same image twice: 'FER2013Train/fer0000000\.png'; keep one line for each image"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    write_votes(tmp_path, [*ROWS, row])
    write_pixels(tmp_path, [*ROWS, row])
    with pytest.raises(ValueError, match=rf"fer2013new\.csv{message}") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_rows_are_counted_where_they_are_tolerated(tmp_path, caplog):
    rows = ["Test,a.png,0,10", "Training,b.png,0,0,0,0,0,0,0,0,0,0", "Training,c.png,0,ten,0,0,0,0,0,0,0,0"]
    write_votes(tmp_path, [*rows, *ROWS])
    write_pixels(tmp_path, [*rows, *ROWS])
    settings = {"source": "ferplus", "task": "expression", "path": "ferplus"}
    manifest = read_source(settings, tmp_path, Tolerance(bad_entries=True))
    assert len(manifest.samples) == len(ROWS)
    # Row 3 of both files is the first good one.
    assert np.asarray(manifest.load(manifest.samples[0], 32))[0, 0] == 3
    assert caplog.messages[0].endswith(
        "fer2013new.csv: left out 1 rows of an unknown Usage, 1 images without votes, 1 rows without counts of votes"
    )


def test_a_missing_column_is_named(tmp_path):
    write_votes(tmp_path, header=HEADER.replace("contempt", "Contempt"))
    with pytest.raises(ValueError, match=r"fer2013new\.csv: has no column 'contempt'; did you mean 'Contempt'\?"):
        read(tmp_path)
    write_votes(tmp_path)
    write_pixels(tmp_path, header="emotion,pixel,Usage")
    with pytest.raises(ValueError, match=r"fer2013\.csv: has no column 'pixels'; did you mean 'pixel'\?"):
        read(tmp_path)


def test_rows_that_do_not_belong_together_are_named(tmp_path):
    write_votes(tmp_path)
    write_pixels(tmp_path, ROWS[:-1])
    with pytest.raises(ValueError, match=r"fer2013\.csv: has 23 rows, but .*fer2013new\.csv has 24; get both files"):
        read(tmp_path)
    write_pixels(tmp_path, [ROWS[1], ROWS[0], *ROWS[2:]])
    with pytest.raises(ValueError, match=r"fer2013\.csv, line 2: Usage is 'PublicTest', but another in .*new\.csv"):
        read(tmp_path)


@pytest.mark.parametrize("pixels", ["1 2 3", "", "300 " * 2304, "x " * 2304])
def test_damaged_pixels_are_named_with_their_line(tmp_path, pixels):
    write_votes(tmp_path)
    write_pixels(tmp_path)
    path = tmp_path / "ferplus/fer2013.csv"
    lines = path.read_text().splitlines()
    lines[1] = f"0,{pixels},Training"
    path.write_text("\n".join(lines) + "\n")
    manifest = read(tmp_path)
    with pytest.raises(ValueError, match=r"fer2013\.csv, line 2: the pixels are not 48 x 48 numbers from 0 to 255"):
        manifest.load(manifest.samples[0], 32)


def test_images_that_were_not_written_are_one_line(tmp_path, draw):
    write_votes(tmp_path)
    with pytest.raises(ValueError, match=r"/ferplus: lacks fer2013\.csv and, to do without it, the images in FER2013"):
        read(tmp_path)
    draw_images(draw, rows=[row for row in ROWS if not row.startswith("PublicTest")])
    with pytest.raises(ValueError, match=r"lacks 8 of the 24 images labelled in .*, such as 'FER2013Valid/fer0000001"):
        read(tmp_path)


def test_the_published_validation_split_is_kept(tmp_path):
    write_votes(tmp_path, [*ROWS, *(row.replace("fer0", "fer1") for row in ROWS)])
    write_pixels(tmp_path, [*ROWS, *ROWS])
    few = read(tmp_path, samples=8)
    assert Counter(one.split for one in few.samples) == {"train": 8, "validation": 16, "test": 16}
    with pytest.raises(ValueError, match="has a validation split of its own; remove `validation`"):
        read(tmp_path, validation=0.1)
