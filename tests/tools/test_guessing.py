import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.data.sources.sfew import EXPRESSIONS
from stages.tools.guessing import find_datasets, make_name, merge_spellings, name_datasets, pick_evenly

RATIO = {"test": 0.2, "seed": 0}
CLASSES = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
LABELS = [("images/1.png", "old", "train", "f"), ("images/2.png", "young", "train", "m")] * 3
ROWS = "name,age,part,sex\n" + "".join(f"{','.join(row)}\n" for row in [*LABELS, ("images/1.png", "old", "test", "")])
IMAGES = ("images/1.png", "images/2.png")


def build(folder, *names, **tables):
    """Empty files, for layouts are told by names alone, and tables."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, content in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv").write_text(content)
    return folder


def find_one(path):
    guesses, missed = find_datasets(path)
    assert (len(guesses), missed) == (1, [])
    return guesses[0]


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (CLASSES, {"split": "folders", "validation": 0.1}),
        ((*CLASSES, "validation/a/1.png"), {"split": "folders"}),
        (("a/1.png", "b/1.JPG"), {"split": RATIO, "validation": 0.1}),
        # Neither albums within a class nor a class called train make another layout of it.
        (("a/1.png", "b/1.png", "b/x/1.png", "b/y/1.png"), {"split": RATIO, "validation": 0.1}),
        (("bus/1.png", "train/1.png", "preview.png"), {"split": RATIO, "validation": 0.1}),
    ],
)
def test_folders_of_classes(tmp_path, names, settings):
    guess = find_one(build(tmp_path / "My faces", *names))
    assert (guess.source, guess.tasks, guess.settings) == ("image_folder", {"my_faces_class": ""}, settings)
    assert guess.make_settings(tmp_path)["path"] == "My faces"


@pytest.mark.parametrize(
    ("source", "task", "names"),
    [
        ("aflw", "pose", ["aflw.sqlite"]),
        ("expw", "expression", ["label/label.lst", "image/origin/1.jpg"]),
        ("ferplus", "expression", ["fer2013new.csv", "FER2013Train/1.png"]),
        ("deepfashion", "category", ["Anno/list_category_img.txt"]),
        ("peta", "age_stage", ["MIT/archive/Label.txt"]),
        ("sfew", "expression", [f"{top}/{name}/1.png" for top in ("Train/Aligned", "Val") for name in EXPRESSIONS]),
    ],
)
def test_published_datasets(tmp_path, source, task, names):
    guess = find_one(build(tmp_path / "data", *names))
    assert guess.make_settings(tmp_path) == {"task": task, "source": source, "path": "data"}


def test_the_columns_of_a_table(tmp_path):
    guess = find_one(build(tmp_path / "people", *IMAGES, labels=ROWS))
    settings = {
        "labels": {"age": "age", "sex": "sex"},
        "source": "table",
        "path": "people/labels.csv",
        "columns": {"path": "name", "split": "part"},
        "duplicates": "majority",
        "split": "column",
        "validation": 0.1,
    }
    assert guess.make_settings(tmp_path) == settings
    assert guess.labels == {"age": {"old": 4, "young": 3}, "sex": {"f": 3, "m": 3, "": 1}}
    assert guess.list_other_labels() == []
    guess.set_tasks(["sex"])
    assert guess.make_settings(tmp_path) == settings | {"labels": {"sex": "sex"}}
    assert guess.list_other_labels() == ["age"]
    guess.set_tasks(["stage"])
    assert guess.tasks == {"stage": "sex"}
    guess.set_tasks(["age"])
    del settings["labels"]
    whole = {"task": "age", "columns": {"path": "name", "label": "age", "split": "part"}}
    assert guess.make_settings(tmp_path) == settings | whole
    with pytest.raises(ValueError, match=r"labels\.csv: has no labels called 'stage'; they are 'age', 'sex'"):
        guess.set_tasks(["age", "stage"])
    assert find_one(tmp_path / "people/labels.csv").settings == find_one(tmp_path / "people").settings


def test_images_in_a_folder_beside_the_tables(tmp_path):
    rows = "image,emotion\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(6))
    build(tmp_path, *(f"images/{number}.png" for number in range(6)))
    settings = find_one(build(tmp_path / "data", legend=rows)).make_settings(tmp_path)
    assert (settings["path"], settings["images"]) == ("data/legend.csv", "images")


def test_spellings_of_one_class_are_merged_under_the_most_frequent():
    counts = Counter(happy=5, HAPPINESS=2, Happy=1, anger=3, angry=1, ANGER=4, neutral=2, **{"": 9, "left profile": 1})
    counts |= Counter(
        {"left_profile": 2, "left": 3, "0-2": 1, "20-29": 1, "fear": 1, "fearful": 1, "cat": 1, "cattle": 1}
    )
    merged = merge_spellings(counts)
    assert {name: sorted(names) for name, names in merged.items() if len(names) > 1} == {
        "ANGER": ["ANGER", "anger", "angry"],
        "fear": ["fear", "fearful"],
        "happy": ["HAPPINESS", "Happy", "happy"],
        "left_profile": ["left profile", "left_profile"],
    }
    assert {"0-2", "20-29", "left", "neutral", "cat", "cattle"} <= set(merged)


def test_images_in_a_subfolder_no_split_and_a_column_called_label_in_parquet(tmp_path):
    build(tmp_path, "deep/images/1.png", "deep/images/2.png")
    columns = {"id": range(4), "mood": ["x", "y"] * 2, "Label": [0, 1, 1, 0], "file": ["1.png", "2.png"] * 2}
    pq.write_table(pa.table({**columns, "boxes": [[1], [2], [3], [4]]}), tmp_path / "all.parquet")
    settings = find_one(tmp_path).make_settings(tmp_path)
    assert settings["columns"] == {"path": "file", "label": "Label"}
    assert (settings["images"], settings["split"], settings["task"]) == ("deep/images", RATIO, "label")


def test_a_validation_split_of_its_own_is_kept(tmp_path):
    guess = find_one(build(tmp_path, *IMAGES, labels=ROWS + "images/2.png,young,validation,m\n"))
    assert "validation" not in guess.settings


def test_a_folder_stands_for_the_datasets_in_it(tmp_path):
    build(tmp_path / "b/people", *IMAGES, labels=ROWS)
    build(tmp_path / "faces", *CLASSES)
    build(tmp_path / "loose", "1.png")
    build(tmp_path / "notes", "readme.txt")
    guesses, missed = find_datasets(tmp_path)
    assert [guess.path for guess in guesses] == [tmp_path / "b/people/labels.csv", tmp_path / "faces"]
    assert len(missed) == 1
    assert missed[0].startswith(f"{tmp_path}/loose: holds images, but no folder for each class, and no table")
    assert list(name_datasets([*guesses, *guesses, guesses[0]])) == [
        *("people", "faces", "people_age", "faces_faces_class", "people_2"),
    ]


def test_what_is_not_used_is_said(tmp_path):
    build(tmp_path / "faces", *CLASSES, "val/a/1.png")
    build(tmp_path / "people", *IMAGES, labels=ROWS, test="name\nimages/1.png\nimages/2.png\n")
    faces, people = find_datasets(tmp_path)[0]
    assert faces.warnings == ["its folder val is not used; rename or merge it if it should be"]
    assert len(people.warnings) == 1
    assert re.match(r"another table is not used: .*/test\.csv: the column 'name' holds paths", people.warnings[0])


def test_columns_with_the_classes_of_another_task_are_carried_along(tmp_path):
    rows = "file,label,mood,0/1,b,c\n" + "1.png,x,sad,0,0,1\n1.png,y,glad,1,1,0\n1.png,x,,1,1,0\n" * 4
    guess = find_one(build(tmp_path, "1.png", labels=rows))
    guess.add_audit(
        {"label": "xy", "feeling": ("glad", "sad"), "b": "01", "other": "01", "more": ("glad", "sad", "so")}
    )
    assert guess.settings["audit"] == {"feeling": "mood", "b": "b"}
    assert guess.list_other_labels() == ["0/1", "c"]


FLAT = "holds images, but no folder for each class, and no table says their labels; sort them into"


@pytest.mark.parametrize(
    ("names", "tables", "message"),
    [
        ([], {}, "{}: is no dataset: looked for train/ .*; arrange it as data/train/<class>/ and data/test/<class>/"),
        (
            ["1.png"],
            {},
            f"{{}}: {FLAT} data/<class>/, add a CSV table with the columns path, label and perhaps split, or",
        ),
        (["images/1.png", "notes/1.txt"], {}, f"{{}}/images: {FLAT} images/<class>/"),
        (["train/1.png", "test/1.png"], {}, f"{{}}/test: {FLAT}"),
        (
            ["train/a/1.png", "train/b/1.png", "test/1.png"],
            {},
            f"{{}}/test: {FLAT} .*, or name {{}}/train alone, of which a fifth is then kept for testing",
        ),
        (
            ["train/a/1.png", "val/a/1.png"],
            {},
            "{}: has 'train', 'val', but no test; rename val to test, or name {}/train",
        ),
        (["train/a/1.png"], {}, "{}: has 'train', but no test; add test/<class>/, or name {}/train alone"),
        (
            ["Train/a/1.png", "Test/a/1.png", "dev/a/1.png"],
            {},
            "{}: the folders of its splits have other names; rename Test to test, Train to train, dev to validation",
        ),
        (
            IMAGES,
            {"labels": ROWS.replace("train", "Training")},
            "{}/labels.csv: the column 'part' says 'Training', 'test', but must say train, test and, if you like, "
            "validation, in every row; rename them",
        ),
        (IMAGES, {"labels": ROWS.replace("test", "val")}, "{}/labels.csv: the column 'part' says 'train', 'val', but"),
        (
            IMAGES,
            {"labels": "path,score\nimages/1.png,1\nimages/2.png,2\nimages/1.png,3\n"},
            "{}/labels.csv: the column 'path' holds paths of images, but no other one holds labels .*call",
        ),
        (
            IMAGES,
            {"labels": ROWS.replace(",", ";")},
            "{}/labels.csv: no column holds the paths of images below its folder; separate its columns by commas, not "
            "by ';'",
        ),
        (IMAGES, {"labels": ROWS.replace(".png", "")}, "{}/labels.csv: no column holds"),
        (
            IMAGES,
            {"a": ROWS, "b": ROWS},
            "{}: has several tables of images, 'a.csv', 'b.csv'; name one of them, or put",
        ),
        (IMAGES, {"labels": ""}, r"{}/labels.csv: cannot be read \(Empty CSV file\)"),
    ],
)
def test_what_is_no_dataset_is_explained_in_one_line(tmp_path, names, tables, message):
    folder = build(tmp_path / "data", *names, **tables)
    folder.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=f"^{message.format(folder, folder)}") as caught:
        find_datasets(folder)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_folder_and_no_table(tmp_path):
    with pytest.raises(ValueError, match="nowhere: does not exist; name a folder of images or a table of labels"):
        find_datasets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"notes\.txt: must end in \.csv or \.parquet"):
        find_datasets(build(tmp_path, "notes.txt") / "notes.txt")


@pytest.mark.parametrize(
    ("text", "name"),
    [("UTKFace (1)", "utkface_1"), ("Müde Köpfe", "mude_kopfe"), ("2013", "data_2013"), ("顔", "data")],
)
def test_names(text, name):
    assert make_name(text) == name


def test_items_are_picked_from_all_over():
    assert pick_evenly(range(10), 5) == [0, 2, 4, 6, 8]
    assert pick_evenly("ab", 5) == ["a", "b"]


def test_a_column_that_is_no_text_is_named(tmp_path):
    build(tmp_path, *IMAGES)
    rows = "".join(
        f"{name},{'müde' if number else 'wach'},{'mf'[number % 2]}\n" for number, name in enumerate(IMAGES * 3)
    )
    (tmp_path / "labels.csv").write_bytes(("file,mood,sex\n" + rows).encode("latin-1"))
    guess = find_one(tmp_path)
    assert guess.tasks == {"sex": "sex"}
    assert re.fullmatch(r"a column is not used: .*labels\.csv: cannot be read .*", guess.warnings[0])
    (tmp_path / "labels.csv").write_bytes(
        ("file,mood\n" + rows).replace(",m\n", "\n").replace(",f\n", "\n").encode("latin-1")
    )
    with pytest.raises(ValueError, match=r"labels\.csv: cannot be read \(.*\); save it as UTF-8"):
        find_datasets(tmp_path)
    (tmp_path / "labels.csv").write_bytes("file,müde\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv"):
        find_datasets(tmp_path)


def test_a_table_without_columns_is_passed_over(tmp_path):
    build(tmp_path, "a/1.png", "b/1.png")
    pq.write_table(pa.table({}), tmp_path / "empty.parquet")
    assert find_one(tmp_path).settings["split"] == RATIO


def test_a_task_never_has_the_name_of_a_folder_of_artifacts():
    assert make_name("features") == "data_features"


def test_train_and_val_with_its_classes_are_not_taken_for_sfew(tmp_path):
    build(tmp_path, *[f"{top}/{name}/1.png" for top in ("train", "val") for name in EXPRESSIONS])
    with pytest.raises(ValueError, match="rename val to test"):
        find_datasets(tmp_path)
