import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.data.sources.registry import read_source
from stages.settings.checks import check_experiment
from stages.tools.config_text import fill_template
from stages.tools.describe_data import main
from stages.tools.proposals import propose_settings
from tests.settings.test_settings import DEFAULT, METHODS
from tests.single import classes_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Folders of one test lie side by side: the data in data/, the config and the current folder in work/."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def draw(tmp_path):
    """Save images, each of which differs from all others; returns the folder that they lie in."""
    rng = np.random.default_rng(0)

    def draw(folder, *names, width=40, height=50, mode="RGB"):
        for name in names:
            path = tmp_path / "data" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(path)
        return tmp_path / "data" / folder

    return draw


@pytest.fixture
def faces(draw):
    """Grey images in folders of two classes: 28 to train on and 2 to validate with, and 4 to test."""
    names = [f"train/{'ab'[number % 2]}/{number:02d}.png" for number in range(30)]
    return draw("faces", *names, *[f"test/{'ab'[number % 2]}/{number}.png" for number in range(4)], mode="L")


@pytest.fixture
def people(draw):
    """Images in a table with an age and, in the classes of the faces, a mood."""
    folder = draw("people", *[f"images/{number:02d}.png" for number in range(60)], width=64, height=64)
    rows = [f"images/{number:02d}.png,{['old', 'young'][number % 2]},{'ab'[number % 3 > 0]}" for number in range(60)]
    (folder / "labels.csv").write_text("\n".join(["file,age,mood", *rows]) + "\n")
    return folder


@pytest.fixture
def describe(capsys):
    """Run the stage; returns the config's text and settings, checked as the workflow does, and standard error."""

    def describe(*arguments, check=True):
        main([*map(str, arguments)])
        shown = capsys.readouterr()
        text = shown.out
        if "--output" in arguments:
            text = Path(arguments[arguments.index("--output") + 1]).read_text()
        settings = yaml.safe_load(text)
        if check:
            check_experiment(settings, METHODS, "new.yaml")
        return text, settings, shown.err

    return describe


def read_all(settings, folder):
    return {name: read_source(one, folder / settings["data_root"]) for name, one in settings["datasets"].items()}


def list_keys(settings, path=""):
    if not isinstance(settings, dict) or path.startswith(".datasets."):
        return [path]
    return [path, *(key for name, value in settings.items() for key in list_keys(value, f"{path}.{name}"))]


def test_two_datasets_become_an_experiment(describe, faces, people, tmp_path):
    text, settings, shown = describe(faces, people, "--tasks", "mood", "age")
    assert shown == ""
    assert (settings["experiment"], settings["data_root"]) == ("faces_people", "../data")
    assert settings["datasets"] == {
        "faces": {"task": "mood", "source": "image_folder", "path": "faces", "split": "folders", "validation": 0.1},
        "people": {
            "task": "age",
            "source": "table",
            "path": "people/labels.csv",
            "columns": {"path": "file", "label": "age"},
            "audit": {"mood": "mood"},
            "split": {"test": 0.2, "seed": 0},
            "validation": 0.1,
        },
    }
    manifests = read_all(settings, tmp_path / "work")
    assert [classes_of(manifest) for manifest in manifests.values()] == [("a", "b"), ("old", "young")]
    assert [len(manifest.samples) for manifest in manifests.values()] == [34, 60]
    for line in (
        "# faces and people, as mtl-sa describe found them. Read it, then:",
        "# Save it as NAME.yaml where you made it: data_root is relative to the folder of this file.",
        "    # Found train/, test/ with a folder for each class.",
        "    # 28 train, 2 validation, 4 test images",
        "    # 2 classes, training images of each: a 14, b 14",
        "    # 40 x 50 pixels, all grey (34 images looked at)",
        "    # Found a table of 60 rows and 3 columns.",
        "    # 2 classes, training images of each: old 22, young 22",
        "    # 64 x 64 pixels, all stored in colour (60 images looked at)",
        "  height: 32                   # pixels; the smallest images' median is 40 x 50",
    ):
        assert line in text.splitlines()


def test_every_key_of_the_default_config_is_there_and_explained_as_there(describe, faces, people):
    text, settings, _ = describe(faces, people)
    assert [key for key in list_keys(settings) if not key.startswith(".datasets.")] == [
        key for key in list_keys(DEFAULT) if not key.startswith(".datasets.")
    ]
    comments = [
        line.split("#")[1]
        for line in (Path(__file__).parents[2] / "config.yaml").read_text().splitlines()[4:]
        if "#" in line
    ]
    kept = [comment for comment in comments if f"#{comment}" in text]
    # All but the two of the example's datasets.
    assert len(comments) - len(kept) == 2
    assert settings["images"] | {"height": 32, "width": 32} == DEFAULT["images"]
    assert settings["training"] == DEFAULT["training"] | {
        "epochs": 12,
        "augmentation": DEFAULT["training"]["augmentation"] | {"shift": 2},
    }
    assert settings["storage"] == DEFAULT["storage"]


def test_labels_of_columns_that_are_not_used_are_named(describe, faces, people):
    text, settings, _ = describe(faces, people, "--experiment", "mine")
    assert settings["experiment"] == "mine"
    assert [one["task"] for one in settings["datasets"].values()] == ["faces_class", "age"]
    # The mood has just the classes of the faces.
    assert settings["datasets"]["people"]["audit"] == {"faces_class": "mood"}
    text, settings, _ = describe(people, "--tasks", "mood", check=False)
    assert settings["datasets"]["people"]["columns"] == {"path": "file", "label": "mood"}
    assert "    # Could be labels, too, or `audit` ({TASK: COLUMN}): age (2 values)" in text.splitlines()


def test_a_folder_of_datasets_and_a_file_elsewhere(describe, faces, people, draw, tmp_path):
    draw("loose", "1.png")
    output = tmp_path / "work/experiments/new.yaml"
    text, settings, shown = describe(tmp_path / "data", "--output", output)
    assert settings["data_root"] == "../../data"
    assert [len(manifest.samples) for manifest in read_all(settings, output.parent).values()] == [34, 60]
    warning = "left out: loose: holds images, but no folder for each class, and no table says their labels; sort them"
    assert shown.startswith(f"warning: {warning}")
    assert f"# Warning: {warning}" in text
    assert f"# snakemake --cores 4 --configfile {output}\n" in text
    assert "Save it" not in text
    with pytest.raises(ValueError, match=r"new\.yaml: exists; remove it first, or choose another --output"):
        describe(faces, "--output", output)
    assert output.read_text() == text


def test_one_dataset_is_shown_and_a_second_asked_for(describe, faces):
    _, settings, shown = describe(faces, check=False)
    assert list(settings["datasets"]) == ["faces"]
    assert settings["images"]["channels"] == 1
    assert settings["training"]["epochs"] == 6
    assert shown == (
        "warning: every image has a label for every task, so that nothing is left to fill in: name a second dataset, "
        "labelled for another task\n"
    )


def test_one_table_for_two_tasks(describe, people):
    _, settings, shown = describe(people, people / "labels.csv", "--tasks", "age", "mood")
    assert [(name, one["columns"]["label"]) for name, one in settings["datasets"].items()] == [
        ("people", "age"),
        ("people_mood", "mood"),
    ]
    assert settings["datasets"]["people"]["audit"] == {"mood": "mood"}
    assert "people and people_mood: images in both: 60, such as 'images/" in shown
    _, _, shown = describe(people, people, "--tasks", "age", "age", check=False)
    assert (
        "people and people_age: are all labelled for 'age' and will be trained as one task; if it is not one" in shown
    )


def test_a_table_with_several_labels_and_gaps(describe, people):
    table = people / "labels.csv"
    first, *rows = table.read_text().splitlines()
    spellings = {"old": ["old", "OLD", "Old "], "young": ["young", "Young"]}
    lines = []
    for number, row in enumerate(rows):
        file, age, mood = row.split(",")
        lines.append(f"{file},{spellings[age][number // 2 % len(spellings[age])]},{mood if number % 5 else ''}")
    table.write_text("\n".join([first, *lines, lines[0]]) + "\n")
    text, settings, shown = describe(people)
    assert settings["datasets"]["people"] == {
        "labels": {"age": "age", "mood": "mood"},
        "source": "table",
        "path": "labels.csv",
        "columns": {"path": "file"},
        "duplicates": "majority",
        "split": {"test": 0.2, "seed": 0},
        "validation": 0.1,
    }
    classes = settings["tasks"]["age"]["classes"]
    assert {frozenset(names) for names in classes.values()} == {
        frozenset(("old", "OLD", "Old")),
        frozenset(("young", "Young")),
    }
    assert "    # age: 5 names look like 2 classes; `classes` merges them." in text.splitlines()
    assert re.search(r"    # mood: \d+ of \d+ training images have no label", text)
    assert re.search(r"warning: people: only \d+ training images have a label for mood; fewer than 100 say", shown)


def test_images_elsewhere_need_a_permission_that_the_config_then_has(describe, people, tmp_path):
    table = people / "labels.csv"
    (people / "images/00.png").rename(tmp_path / "00.png")
    table.write_text(table.read_text().replace("images/00.png", f"{tmp_path}/00.png"))
    with pytest.raises(
        ValueError, match=rf"labels\.csv: row \d+: '{tmp_path}/00\.png' lies outside .*data_root: allow"
    ):
        describe(people, check=False)
    _, settings, _ = describe(people, "--outside-data-root", "allow", check=False)
    assert settings["images"]["outside_data_root"] == "allow"


def test_images_that_occur_twice_are_warned_of(describe, faces, people):
    for copy, original in (
        ("train/a/copy.png", "train/b/01.png"),  # in train, where neither is kept for validation
        ("test/a/copy.png", "train/a/00.png"),
        ("test/b/copy.png", "train/b/03.png"),
        ("test/b/people.png", "../people/images/00.png"),
    ):
        (faces / copy).write_bytes((faces / original).read_bytes())
    text, settings, shown = describe(faces, people)
    samples = read_source(settings["datasets"]["faces"], faces.parent).samples
    split_of = {sample.path: sample.split for sample in samples}
    assert [split_of[f"train/{name}.png"] for name in ("a/copy", "b/01", "a/00", "b/03")] == ["train"] * 4
    warnings = [line.removeprefix("warning: ") for line in shown.splitlines()]
    assert [line for line in text.splitlines() if "Warning" in line] == [f"# Warning: {one}" for one in warnings]
    assert warnings == [
        "faces and people: images in both: 1, such as 'test/b/people.png' (b) and 'images/00.png' (old); remove them "
        "from one, or give each dataset a `part` of them",
        "faces: images in train as well as in test: 2, such as 'train/a/00.png' (a) and 'test/a/copy.png' (a); keep "
        "one of each, or scores will be too good",
        "faces: images in train with more than one label: 1, such as 'train/a/copy.png' (a) and 'train/b/01.png' (b); "
        "keep the right one",
    ]


def test_boxes_of_images_are_compared_by_their_pixels(describe, people, draw):
    folder = draw("expw", *[f"image/origin/{number}.png" for number in range(20)])
    lines = [f"{number}.png 0 0 0 {20 + number} 30 9.5 {number % 2}" for number in range(20)]
    (folder / "label").mkdir()
    (folder / "label/label.lst").write_text("\n".join(lines) + "\n")
    _, settings, shown = describe(folder, people)
    assert settings["datasets"]["expw"] == {"task": "expression", "source": "expw", "path": "expw"}
    assert "expw: images" not in shown
    # The file of another face, but the same box of it: once again, with another label.
    (folder / "label/label.lst").write_text("\n".join(lines) + "\n" + "0.png 1 0 0 20 30 9.5 1\n")
    _, _, shown = describe(folder, people)
    assert "'image/origin/0.png#0' (angry) and 'image/origin/0.png#1' (disgust)" in shown


def test_few_images_imbalance_and_files_that_are_no_images_are_warned_of(describe, draw, people):
    names = [f"train/a/{number:03d}.png" for number in range(300)]
    faces = draw("faces", *names, "train/b/1.png", "train/b/2.png", "test/a/1.png", "test/b/1.png", width=4, height=4)
    (faces / "test/a/2.png").write_bytes(b"text")
    _, _, shown = describe(faces, people)
    assert shown.splitlines() == [
        f"warning: faces: {text}"
        for text in (
            "classes with fewer than 10 training images: 1 of 2 (b 1); add some, or merge or remove these classes",
            "the class 'a' has 270 training images, more than 50 times as many as 'b' with 1; look at macro-F1 rather "
            "than accuracy",
            "of 200 files looked at 1 cannot be read as images, such as 'test/a/2.png', which is not an image or is "
            "damaged; mend or remove them, or set images.on_error to skip",
        )
    ]


def test_components_follow_the_smallest_dataset(describe, draw, people):
    names = [f"{label}/{number}.png" for label in "ab" for number in range(3)]
    _, settings, _ = describe(draw("faces", *names), people)
    assert settings["mixture"]["components"] == 2


def test_many_classes_and_odd_names_stay_on_their_lines(describe, draw, people):
    names = [f"{label:02d}\nx: #/{number}.png" for label in range(20) for number in range(10 + label)]
    text, settings, shown = describe(draw("my #: faces", *names), people, "--tasks", "kind", "age")
    assert settings["datasets"]["my_faces"]["path"] == "my #: faces"
    assert "    # 20 classes, training images of each: most of 19 x: # 21, 17 x: # 20, 18 x: # 20, fewest of 03" in text
    assert len(shown.splitlines()) == 1
    assert "classes with fewer than 10 training images: 4 of 20 (00 x: # 7, 01 x: # 8, 02 x: # 9, 03 x: # 9);" in shown
    assert f"# Warning: {shown.removeprefix('warning: ')}" in text


def test_turned_photographs_are_measured_as_they_will_be_seen(describe, draw, people):
    folder = draw("photos", *[f"{label}/{number}.jpg" for label in "ab" for number in range(10)])
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in folder.glob("*/*.jpg"):
        with Image.open(path) as image:
            image.save(path, exif=exif)
    assert "50 x 40 pixels" in describe(folder, people)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "mood"], r"--tasks: names 1, but the datasets are 2: .*faces, .*labels\.csv"),
        (["--tasks", "mood", "The age"], "--tasks: a task cannot be called 'The age'; call it the_age"),
        (["--experiment", "a/b"], "--experiment: 'a/b' is no name of a folder; use letters, digits, _, . and -"),
    ],
)
def test_wrong_options_are_one_line(describe, faces, people, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        describe(faces, people, *options)
    assert "\n" not in str(caught.value)


def test_no_image_at_all_is_an_error(describe, faces):
    for path in faces.rglob("*.png"):
        path.write_bytes(b"text")
    message = "faces: none of the files looked at is an image: 'train/a/02.png' is not an image or is damaged"
    with pytest.raises(ValueError, match=message.replace("02", r"\d\d")):
        describe(faces)


@pytest.mark.parametrize(
    ("medians", "grey", "shape", "backbone", "learning_rate"),
    [
        ([(48, 48), (200, 200)], True, (48, 48, 1), "vgg_tiny", 0.001),
        ([(20, 25)], False, (32, 32, 3), "vgg_tiny", 0.001),
        ([(178, 218), (640, 480)], True, (176, 176, 3), "vgg16", 0.0001),
        ([(900, 800)], False, (224, 224, 3), "vgg16", 0.0001),
        ([(75, 165), (220, 300)], False, (128, 64, 3), "vgg16", 0.0001),
        ([(1000, 400)], False, (80, 224, 3), "vgg16", 0.0001),
    ],
)
def test_what_sizes_suggest(medians, grey, shape, backbone, learning_rate):
    found = propose_settings(medians, grey=grey, n_train=[100, 3])
    values = {key: value for key, (value, _) in found.items()}
    assert tuple(values[f"images.{key}"] for key in ("height", "width", "channels")) == shape
    assert (values["network.backbone"], values["training.learning_rate"]) == (backbone, learning_rate)
    assert values["mixture.components"] == 3
    assert ("VGG16_Weights.IMAGENET1K_V1" in str(found.get("network.pretrained"))) == (backbone == "vgg16")


def test_a_default_config_without_a_key_is_refused():
    with pytest.raises(
        ValueError, match=r"the default config has no key datasets, images\.height; describe_data needs"
    ):
        fill_template("# about\n\nimages:\n  width: 3  # pixels\n", {"images.height": (4, None)}, [])


def test_relative_paths_and_links_are_taken_as_they_are(describe, faces, people, tmp_path):
    os.symlink(people, tmp_path / "work/linked")
    _, settings, _ = describe("../data/faces", "linked", "--tasks", "mood", "age")
    assert settings["data_root"] == ".."
    assert [one["path"] for one in settings["datasets"].values()] == ["data/faces", "work/linked/labels.csv"]
    assert len(read_all(settings, tmp_path / "work")["linked"].samples) == 60


def test_folders_within_classes_are_suspected(draw, describe):
    folder = draw(
        "moods",
        *[f"{mood}/{person}/{number}.png" for mood in ("glad", "sad") for person in "pq" for number in range(10)],
    )
    _, settings, error = describe(folder)
    assert [dataset["path"] for dataset in settings["datasets"].values()] == ["glad", "sad"]
    assert "glad and sad: all have the classes 'p', 'q'; if these are no classes, but folders within a class" in error


def test_floating_point_images_are_no_images_here(draw, describe, people):
    folder = draw("depth", *[f"{'ab'[number % 2]}/{number}.tif" for number in range(30)], mode="F")
    with pytest.raises(ValueError, match=r"none of the files looked at is an image: '.*' holds floating-point pixels"):
        describe(folder, people)
