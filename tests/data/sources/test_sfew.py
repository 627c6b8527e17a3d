import shutil
from collections import Counter

import pytest

from stages.data.sources.registry import read_source
from stages.data.sources.sfew import EXPRESSIONS
from tests.single import classes_of, label_of

DEEP = {"Train": "Train/Train_Aligned_Faces", "Val": "Val/Val_Aligned_Faces_new/Val_Aligned_Faces"}


@pytest.fixture
def faces(tmp_path, draw):
    """The publisher's tree: three training faces and one other of each expression."""
    for name in EXPRESSIONS:
        draw(*(f"SFEW/{DEEP['Train']}/{name.title()}/film_{number}.png" for number in range(3)))
        draw(f"SFEW/{DEEP['Val']}/{name.title()}/film_0.png")
    return tmp_path / "SFEW"


def read(faces, **settings):
    return read_source({"source": "sfew", "task": "expression", "path": faces.name, **settings}, faces.parent)


def test_train_and_val_become_training_and_test_samples(faces):
    manifest = read(faces, validation=0.3)
    assert classes_of(manifest) == EXPRESSIONS
    assert Counter((one.split, label_of(one)) for one in manifest.samples) == {
        (split, name): count for split, count in (("train", 2), ("validation", 1), ("test", 1)) for name in EXPRESSIONS
    }
    assert {one.path for one in manifest.samples if label_of(one) == "sad" and one.split == "test"} == {
        f"{DEEP['Val']}/Sad/film_0.png"
    }
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (40, 30)


def test_depth_and_case_of_the_folders_do_not_matter(faces, tmp_path, draw):
    for name in EXPRESSIONS:
        draw(*(f"other/train/{name}/film_{number}.png" for number in range(3)))
        draw(f"other/VAL/{name.upper()}/film_0.png")
    labels = [[(label_of(one), one.split) for one in read(root).samples] for root in (faces, tmp_path / "other")]
    assert Counter(labels[0]) == Counter(labels[1])


def test_hidden_and_other_files_are_ignored(faces, draw):
    before = read(faces).samples
    draw("SFEW/Train/__MACOSX/Angry/._film_0.png")
    (faces / DEEP["Train"] / "readme.txt").write_text("no image")
    assert read(faces).samples == before


def test_an_unknown_expression_is_named(faces, draw):
    draw(f"SFEW/{DEEP['Train']}/Suprise/film_9.png")
    with pytest.raises(ValueError, match=r"/Suprise: holds images, but is not named after .*; did you mean 'surprise'"):
        read(faces)


def test_frames_beside_the_aligned_faces_are_named(faces, draw):
    draw("SFEW/Train/Train_Frames/Angry/film_0.png")
    with pytest.raises(
        ValueError, match=r"Train_Frames/Angry: 'angry' also has images in .*Train_Aligned_Faces/Angry;"
    ):
        read(faces)


def test_a_missing_expression_and_a_missing_folder_are_one_line(faces):
    shutil.rmtree(faces / DEEP["Val"] / "Fear")
    with pytest.raises(ValueError, match=r"/SFEW/Val: lacks images in folders called 'fear'; get SFEW 2\.0 from its"):
        read(faces)
    shutil.rmtree(faces / "Val")
    with pytest.raises(ValueError, match=r"/SFEW: lacks a folder Val; get SFEW 2\.0 from its publisher \(https://cs"):
        read(faces)
