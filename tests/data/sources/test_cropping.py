import pickle
import re

import pytest

from stages.data.sources.cropping import CropLoader, CropSample, parse_box
from stages.data.sources.decoding import Decoder

BOX = (10, 5, 20, 25)


def make_sample(box=BOX, file="a.png"):
    return CropSample(f"{file}#0", "happy", "train", file=file, box=box, place="label.lst, line 3")


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        (BOX, 0, BOX),
        (BOX, 0.2, (8, 1, 22, 29)),
        (BOX, 9, (0, 0, 40, 30)),
        ((-5, -3, 6, 4), 0, (0, 0, 6, 4)),
        ((35, 28, 70, 50), 0, (35, 28, 40, 30)),
        ((3.5, 2.2, 5.1, 4.0), 0, (3, 2, 6, 4)),
        ((39.5, 29.5, 39.6, 29.6), 0, (39, 29, 40, 30)),
    ],
)
def test_the_box_and_its_margin_are_cut_out_as_far_as_the_image_goes(tmp_path, draw, find_box, box, margin, expected):
    draw("a.png")
    assert find_box(CropLoader(tmp_path, margin)(make_sample(box), 224)) == expected


def test_a_loader_and_its_samples_survive_pickling(tmp_path, draw, find_box):
    draw("a.png")
    load, sample = pickle.loads(pickle.dumps((CropLoader(tmp_path, 0.2), make_sample())))
    assert find_box(load(sample, 224)) == (8, 1, 22, 29)


@pytest.mark.parametrize("box", [(10, 5, 10, 25), (10, 25, 20, 5), (10, 5, float("nan"), 25)])
def test_an_empty_box_is_named_with_its_line(box):
    with pytest.raises(
        ValueError, match=r"^label\.lst, line 3: the box \(left 10, .*\) is empty; get the file again, or set images"
    ):
        make_sample(box)


@pytest.mark.parametrize("box", [(-9, 5, 0, 25), (10, -9, 20, -1)])
def test_a_box_outside_every_image_is_named_before_one_is_opened(box):
    with pytest.raises(ValueError, match=r"^label\.lst, line 3: the box .* lies outside the image; get the file again"):
        make_sample(box)


@pytest.mark.parametrize("box", [(40, 5, 50, 25), (10, 30, 20, 35)])
def test_a_box_outside_its_image_is_named_with_its_line_and_the_size_when_it_is_cut_out(tmp_path, draw, box):
    draw("a.png")
    message = rf"label.lst, line 3: the box (left {box[0]}, top {box[1]}, right {box[2]}, bottom {box[3]}) lies outside"
    load = CropLoader(tmp_path)
    with pytest.raises(ValueError, match=rf"^{re.escape(message)} the image of 40 x 30 pixels$"):
        load(make_sample(box), 224)
    decoder = Decoder(load, height=8, width=8, channels=3, fit="stretch", max_pixels=10_000)
    outside, missing = decoder.decode([make_sample(box), make_sample(file="b.png")])
    assert message in outside
    assert missing == "does not exist"


def test_a_box_of_other_than_four_numbers_is_named_with_its_line():
    assert parse_box(["1", "2.5", "-3", "4"], "x") == (1, 2.5, -3, 4)
    for fields in (["1", "2", "x", "4"], ["1", "2", "3"]):
        with pytest.raises(ValueError, match=rf"^label\.lst, line 3: the box {' '.join(fields)} is not four numbers"):
            parse_box(fields, "label.lst, line 3")
