import json

import numpy as np
import pytest
from PIL import Image

from stages.epoch.evaluate_network import main as evaluate_network
from stages.tools.score_images import find_task, main
from tests.conftest import EXPRESSIONS, POSES


def evaluate(run, *options):
    network = run.checkpoint("initial")["network"]
    return main(
        ["--network", str(network), "--workers", "1", "--batch-size", "7", "--threads", "1", *map(str, options)]
    )


@pytest.fixture
def folder(run, tmp_path):
    """The test images of `heads` in folders of their classes."""
    for number, (one, label) in enumerate(zip(run.test_heads.pixels, run.test_heads.labels, strict=True)):
        path = tmp_path / "images" / POSES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one[:, :, 0]).save(path)
    return tmp_path / "images"


def test_a_labelled_folder_is_scored_as_the_pipeline_scores_it(run, folder, tmp_path, capsys):
    assert evaluate(run, "--images", folder, "--output", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    files = run.checkpoint("initial")
    split = run.test_heads
    command = ["--network", files["network"], "--card", files["card"], "--tables", split.table, "--images"]
    evaluate_network([*map(str, command), str(split.images), "--output", str(tmp_path / "m.json"), "--threads", "1"])
    expected = json.loads((tmp_path / "m.json").read_text())["tasks"]["pose"]
    for key in ("accuracy", "macro_f1", "confusion_matrix", "n_samples", "classes"):
        assert scores[key] == expected[key]
    assert scores["task"] == "pose"
    confusion = np.array(scores["confusion_matrix"])
    for k, one in enumerate(scores["by_class"]):
        assert one["n_samples"] == confusion[k].sum()
        assert one["recall"] == pytest.approx(confusion[k, k] / confusion[k].sum())
        assert one["precision"] == pytest.approx(confusion[k, k] / max(confusion[:, k].sum(), 1))
    assert f"pose: accuracy {scores['accuracy']:.1%}" in capsys.readouterr().out


def test_a_table_says_the_same_as_folders(run, folder, tmp_path):
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = ["file,turned", *(f"{path},{path.parts[0]}" for path in paths)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    evaluate(run, "--images", folder, "--output", tmp_path / "a.json")
    columns = ("--path-column", "file", "--label-column", "turned")
    evaluate(run, "--images", folder, "--table", tmp_path / "labels.csv", *columns, "--output", tmp_path / "b.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["confusion_matrix"] == second["confusion_matrix"]


def test_only_some_rows_of_a_table_can_be_scored(run, folder, tmp_path):
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    lines = [f"{path},{path.parts[0]},{'test' if number % 2 else 'train'}" for number, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    table = ("--images", folder, "--table", tmp_path / "labels.csv", "--output", tmp_path / "s.json")
    evaluate(run, *table, "--where", "split=test")
    assert json.loads((tmp_path / "s.json").read_text())["n_samples"] == 5
    with pytest.raises(ValueError, match=r"labels\.csv: no row has split=validation; correct --where"):
        evaluate(run, *table, "--where", "split=validation")
    with pytest.raises(ValueError, match="--where: 'test' is not COLUMN=VALUE; write for example split=test"):
        evaluate(run, *table, "--where", "test")
    with pytest.raises(
        ValueError, match=r"left: has none of the 10 images of .*, such as 'frontal/.*'; name the folder"
    ):
        evaluate(run, "--images", folder / "left", *table[2:])


def test_images_beside_those_of_a_table_are_refused_unless_that_is_permitted(run, folder, tmp_path):
    """The table's own folder and --images count as those of the images."""
    inside, outside = tmp_path / "tables/inside.csv", tmp_path / "tables/outside.csv"
    inside.parent.mkdir()
    first, *others = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    (folder / first).rename(inside.parent / "moved.png")
    lines = [f"{path},{path.parts[0]}" for path in others]
    inside.write_text("\n".join(["path,label", f"{inside.parent}/moved.png,{first.parts[0]}", *lines]) + "\n")
    options = ("--images", folder, "--output", tmp_path / "s.json")
    evaluate(run, *options, "--table", inside)
    assert json.loads((tmp_path / "s.json").read_text())["n_samples"] == 10
    (inside.parent / "moved.png").rename(tmp_path / "moved.png")
    outside.write_text("\n".join(["path,label", f"../moved.png,{first.parts[0]}", *lines]) + "\n")
    with pytest.raises(
        ValueError, match=r"outside\.csv: row 1: '\.\./moved\.png' lies outside .*; correct it, or permit"
    ):
        evaluate(run, *options, "--table", outside)
    evaluate(run, *options, "--table", outside, "--outside-data-root", "allow")
    assert json.loads((tmp_path / "s.json").read_text())["n_samples"] == 10


def test_classes_without_images_are_named(run, folder, tmp_path, capsys):
    for path in (folder / "left").iterdir():
        path.unlink()
    (folder / "left").rmdir()
    evaluate(run, "--images", folder, "--output", tmp_path / "scores.json")
    assert "no images of 'left': macro-F1 counts these classes as 0" in capsys.readouterr().out


def test_a_class_without_usable_images_is_named(run, folder, tmp_path, capsys):
    for path in (folder / "left").iterdir():
        path.write_bytes(b"")
    assert evaluate(run, "--images", folder, "--output", tmp_path / "scores.json") == 3
    assert "no images of 'left': macro-F1" in capsys.readouterr().out


def test_bad_images_are_listed_and_the_others_scored(run, folder, tmp_path, capsys):
    (folder / "left/broken.png").write_bytes(b"no")
    assert evaluate(run, "--images", folder, "--output", tmp_path / "scores.json") == 3
    assert json.loads((tmp_path / "scores.json").read_text())["skipped"] == [["left/broken.png", "is not an image"]]
    assert "left/broken.png: is not an image" in capsys.readouterr().err


CLASSES = {"expression": EXPRESSIONS, "pose": POSES, "gaze": ["left", "right"]}


def test_the_task_is_the_one_that_has_such_classes():
    assert find_task(["happy", "sad"], CLASSES, None) == "expression"
    assert find_task(["left"], CLASSES, "gaze") == "gaze"
    with pytest.raises(ValueError, match=r"the labels are classes of 'pose', 'gaze'; choose one with --task"):
        find_task(["left"], CLASSES, None)
    with pytest.raises(
        ValueError, match=r"the label 'hapy' is no class of the task 'expression'; did you mean 'happy'"
    ):
        find_task(["hapy", "sad"], CLASSES, None)
    with pytest.raises(ValueError, match=r"the label 'happy' is no class of the task 'pose'"):
        find_task(["happy"], CLASSES, "pose")
    with pytest.raises(ValueError, match=r"--task: the network has no task 'age'"):
        find_task(["happy"], CLASSES, "age")


def test_what_cannot_be_scored_is_said_in_one_line(run, folder, tmp_path):
    output = ("--output", tmp_path / "scores.json")
    with pytest.raises(ValueError, match="nowhere: is not a folder; correct --images"):
        evaluate(run, "--images", tmp_path / "nowhere", *output)
    with pytest.raises(ValueError, match=r"none\.csv: is no file; correct --table"):
        evaluate(run, "--images", folder, "--table", tmp_path / "none.csv", *output)
    with pytest.raises(ValueError, match="holds no labelled images; put them into folders"):
        evaluate(run, "--images", folder / "left", *output)
    (tmp_path / "labels.csv").write_text("path,label\nleft/0.png,\n")
    with pytest.raises(ValueError, match="column 'label' is empty in row 1"):
        evaluate(run, "--images", folder, "--table", tmp_path / "labels.csv", *output)
    path = next(folder.rglob("*.png")).relative_to(folder)
    (tmp_path / "labels.csv").write_text(f"path,label\n{path},left\n{path},left\n")
    with pytest.raises(ValueError, match="lists the same image twice"):
        evaluate(run, "--images", folder, "--table", tmp_path / "labels.csv", *output)
    (tmp_path / "bad/left").mkdir(parents=True)
    (tmp_path / "bad/left/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the images can be used"):
        evaluate(run, "--images", tmp_path / "bad", *output)
    (tmp_path / "up/images").mkdir(parents=True)
    (tmp_path / "up/images/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"up: the label 'images' is no class of the task"):
        evaluate(run, "--images", tmp_path / "up", *output)
    with pytest.raises(ValueError, match=r"scores\.csv: must end in \.json; correct --output"):
        evaluate(run, "--images", folder, "--output", tmp_path / "scores.csv")
    assert not (tmp_path / "scores.json").exists()
