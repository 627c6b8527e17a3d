from collections import Counter

import pytest

from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

CATEGORIES = ["Anorak", "Blazer", "Tee", "Cape"]
IMAGES = {
    f"img/Sheer_{name}/img_{number:08d}.png": at + 1 for at, name in enumerate(CATEGORIES[:3]) for number in range(12)
}


def write_list(path, columns, rows, announced=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(rows) if announced is None else announced
    path.write_text(f"{count}\n{columns}\n" + "".join(f"{row}\n" for row in rows))


@pytest.fixture
def read(tmp_path, draw):
    """Read lists with further lines, of images that exist."""

    def read(*, labels=(), boxes=(), anno="Anno", drawn=tuple(IMAGES), announced=None, tolerance=STRICT, **settings):
        folder = tmp_path / "deepfashion"
        draw(*(f"deepfashion/Img/{image}" for image in drawn))
        categories = [f"{name}      {1 + at % 3}" for at, name in enumerate(CATEGORIES)]
        write_list(folder / anno / "list_category_cloth.txt", "category_name  category_type", categories)
        lines = [f"{image}      {number}" for image, number in IMAGES.items()]
        write_list(folder / anno / "list_category_img.txt", "image_name  category_label", [*lines, *labels], announced)
        lines = [f"{image}      010 005 020 025" for image in IMAGES]
        write_list(folder / anno / "list_bbox.txt", "image_name  x_1  y_1  x_2  y_2", [*lines, *boxes])
        settings = {"source": "deepfashion", "task": "category", "path": "deepfashion", **settings}
        return read_source(settings, tmp_path, tolerance)

    return read


@pytest.mark.parametrize("anno", ["Anno", "Anno_coarse"])
def test_images_become_samples_of_the_categories_that_occur(read, anno):
    manifest = read(anno=anno)
    assert classes_of(manifest) == ("Anorak", "Blazer", "Tee")
    assert {one.path: label_of(one) for one in manifest.samples} == {
        f"Img/{image}": CATEGORIES[number - 1] for image, number in IMAGES.items()
    }
    for name in classes_of(manifest):
        splits = Counter(one.split for one in manifest.samples if label_of(one) == name)
        assert splits == {"train": 8, "validation": 2, "test": 2}


def test_the_box_is_cut_out_unless_the_settings_say_otherwise(read, find_box):
    for settings, expected in (
        ({}, (10, 5, 20, 25)),
        ({"margin": 0.2}, (8, 1, 22, 29)),
        ({"crop": False}, (0, 0, 40, 30)),
    ):
        manifest = read(**settings)
        assert find_box(manifest.load(manifest.samples[0], 224)) == expected


def test_whole_images_need_no_boxes(read, tmp_path):
    read()
    settings = {"source": "deepfashion", "task": "category", "path": "deepfashion"}
    (tmp_path / "deepfashion/Anno/list_bbox.txt").unlink()
    with pytest.raises(ValueError, match=r"/deepfashion: lacks Anno/list_bbox\.txt or Anno_coarse/list_bbox\.txt; get"):
        read_source(settings, tmp_path)
    assert len(read_source({**settings, "crop": False}, tmp_path).samples) == len(IMAGES)


FIRST = next(iter(IMAGES))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            {"labels": ["img/x.png 5"]},
            r"category_img\.txt, line 39: the category is '5', not 1 to 4; get the file",
        ),
        ({"labels": ["img/x.png 0"]}, r"category_img\.txt, line 39: the category is '0', not 1 to 4"),
        ({"labels": ["img/x.png"]}, r"category_img\.txt, line 39: has 1 of the 2 fields 'image', 'category'"),
        (
            {"labels": ["img/x.png 1"]},
            r"category_img\.txt, line 39: the image has no box in list_bbox\.txt, which only `crop: false` can",
        ),
        (
            {"labels": [f"{FIRST} 1"]},
            r"category_img\.txt: lists the same image twice: 'Img/img/Sheer_Anorak/img_00000000",
        ),
        (
            {"announced": 289222},
            r"category_img\.txt: announces '289222' entries, but has 36; unpack or download it again",
        ),
        (
            {"labels": ["img/x.png 1"], "boxes": ["img/x.png 1 2 3 x"]},
            r"bbox\.txt, line 39: the box 1 2 3 x is not four numbers; get",
        ),
        ({"boxes": ["img/x.png 1 2 3"]}, r"bbox\.txt, line 39: has 4 of the 5 fields 'image', 'left'"),
        (
            {"labels": ["img/x.png 1"], "boxes": ["img/x.png 9 5 9 25"]},
            r"bbox\.txt, line 39: the box \(left 9, .*\) is empty; get the file again",
        ),
        (
            {"labels": ["img/x.png 1"], "boxes": ["img/x.png -9 5 -1 25"]},
            r"bbox\.txt, line 39: the box .* lies outside the image; get the file again",
        ),
    ],
)
def test_a_bad_line_is_named(read, lines, message):
    with pytest.raises(ValueError, match=rf"list_{message}") as caught:
        read(**lines)
    assert "\n" not in str(caught.value)


def test_bad_lines_are_counted_where_they_are_tolerated(read, caplog):
    labels = ["img/a.png 1", "img/b.png 1", "img/c.png 1", "img/d.png 9", "img/e.png 2"]
    boxes = [
        "img/a.png 1 2 3 x",
        "img/b.png 9 5 9 25",
        "img/d.png 1 2 3 4",
        "img/e.png -9 5 -1 25",
        "img/f.png ? ? ? ?",
    ]
    manifest = read(labels=labels, boxes=boxes, tolerance=Tolerance(bad_entries=True))
    assert manifest.samples == read().samples
    assert caplog.messages[0].endswith(
        "list_category_img.txt: left out 1 boxes that are not four numbers, 1 boxes without area, "
        "1 images without a box, 1 images of an unknown category, 1 boxes outside their images"
    )


def test_images_that_were_not_unpacked_are_one_line(read):
    message = (
        r"/deepfashion: lacks 1 of the 37 images labelled in .*list_category_img\.txt, such as 'Img/img/x\.png'; get"
    )
    with pytest.raises(ValueError, match=message):
        read(labels=["img/x.png 1"], boxes=["img/x.png 1 2 3 4"])
