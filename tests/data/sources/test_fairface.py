from collections import Counter

import pytest

from stages.data.sources.base import STRICT, Tolerance
from stages.data.sources.fairface import LABELS
from stages.data.sources.label_files import audit_settings, decisive_settings, list_label_files
from stages.data.sources.registry import read_source
from stages.settings.checks import EXPERIMENT, check_keys
from stages.settings.errors import SettingsError
from stages.tools.guessing import find_datasets
from tests.single import classes_of, label_of

AGES, GENDERS, RACES = LABELS.values()
HEADER = "file,age,gender,race,service_test"


def list_rows(folder, n_faces):
    """Rows of faces of every age, alternately of either gender."""
    return [
        f"{folder}/{number}.jpg,{AGES[number % 9]},{GENDERS[number % 2]},{RACES[number % 7]},{number % 3 == 0}"
        for number in range(n_faces)
    ]


TRAIN, VAL = list_rows("train", 45), list_rows("val", 18)


@pytest.fixture
def read(tmp_path, draw):
    """Read the publisher's lists, given further rows of either, of images that exist."""
    draw(*(f"FairFace/{row.split(',')[0]}" for row in (*TRAIN, *VAL)))

    def read(*more, val=(), header=HEADER, label="age", audit=None, tolerance=STRICT, **settings):
        for name, rows in (("train", [*TRAIN, *more]), ("val", [*VAL, *val])):
            (tmp_path / f"FairFace/fairface_label_{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        columns = {"label": label} | ({"audit": audit} if audit else {})
        settings = {"source": "fairface", "task": label, "path": "FairFace", "columns": columns, **settings}
        return read_source(settings, tmp_path, tolerance)

    return read


def test_train_and_val_become_training_and_test_samples(read):
    manifest = read(validation=0.2)
    assert classes_of(manifest) == tuple(sorted(AGES))
    assert Counter((one.split, label_of(one)) for one in manifest.samples) == {
        (split, age): count for split, count in (("train", 4), ("validation", 1), ("test", 2)) for age in AGES
    }
    assert {one.path: label_of(one) for one in manifest.samples if one.split == "test"} == {
        f"val/{number}.jpg": AGES[number % 9] for number in range(18)
    }
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (40, 30)


@pytest.mark.parametrize("label", LABELS)
def test_every_column_may_be_the_label(read, label):
    assert set(classes_of(read(label=label))) == set(LABELS[label])


def test_other_columns_may_be_held_back(read):
    manifest = read(label="race", audit={"sex": "gender", "age": "age"})
    first = next(one for one in manifest.samples if one.path == "val/3.jpg")
    assert (label_of(first), first.audit) == ("Latino_Hispanic", {"sex": "Male", "age": "20-29"})
    assert read(label="race").samples[0].audit == {}


def test_what_is_held_back_decides_no_image():
    settings = {"source": "fairface", "task": "age", "path": "p", "columns": {"label": "age"}}
    audited = settings | {"columns": {"label": "age", "audit": {"sex": "gender"}}}
    assert decisive_settings(audited) == decisive_settings(settings)
    assert audit_settings(audited) == {"sex": "gender"}


def test_labels_are_in_both_lists(read, tmp_path):
    read()
    settings = {"source": "fairface", "path": "FairFace"}
    names = [path.name for path in list_label_files(settings, tmp_path)]
    assert names == ["fairface_label_train.csv", "fairface_label_val.csv"]


BAD = [
    (",3-9,Male,White,True", "line 47: names no file; get"),
    ("train/0.jpg,3-10,Male,White,True", "line 47: the age is '3-10', not 0-2, 3-9, .*, more than 70; get"),
    ("train/0.jpg,3-9,male,White,True", "line 47: the gender is 'male', not Female, Male; get the file again"),
    ("train/0.jpg,3-9", "line 47: the gender is '', not Female, Male"),
    ("train/0.jpg,0-2,Female,Black,True", r"line 47: 'train/0\.jpg' has another row above; get the file"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_named(read, row, message):
    with pytest.raises(ValueError, match=rf"fairface_label_train\.csv, {message}") as caught:
        read(row, audit={"gender": "gender"})
    assert "\n" not in str(caught.value)


def test_an_image_in_both_lists_is_named(read):
    with pytest.raises(ValueError, match=r"fairface_label_val\.csv, line 20: 'train/0\.jpg' has another row above"):
        read(val=[TRAIN[0]])


def test_a_column_that_nothing_uses_is_not_looked_at(read):
    assert read("train/0.jpg,3-9,Male,nobody knows,True", tolerance=Tolerance(bad_entries=True)).samples == (
        read().samples
    )
    with pytest.raises(ValueError, match=r"_train\.csv: has no column 'race'; did you mean 'Race'\?"):
        read(header=HEADER.replace("race", "Race"), label="race")


def test_bad_rows_are_counted_where_they_are_tolerated(read, caplog):
    bad = Tolerance(bad_entries=True)
    rows = [row for row, _ in BAD]
    assert read(*rows, audit={"gender": "gender"}, tolerance=bad).samples == read(audit={"gender": "gender"}).samples
    assert caplog.messages[0].endswith(
        "_train.csv: left out 1 rows without an image, 1 faces of an unknown age, 2 faces of an unknown gender, "
        "1 repeated images"
    )


def test_what_was_not_unpacked_is_one_line(read, tmp_path):
    with pytest.raises(ValueError, match=r"/FairFace: lacks 1 of the 46 images labelled in .*_train\.csv, such as"):
        read("train/other.jpg,3-9,Male,White,True")
    with pytest.raises(ValueError, match=r"_val\.csv: '\.\./\.\./x\.jpg' lies outside"):
        read(val=["../../x.jpg,3-9,Male,White,True"])
    (tmp_path / "FairFace/fairface_label_val.csv").unlink()
    settings = {"source": "fairface", "task": "age", "path": "FairFace", "columns": {"label": "age"}}
    with pytest.raises(ValueError, match=r"lacks fairface_label_val\.csv; get FairFace from .* \(https://github\.com/"):
        read_source(settings, tmp_path)


def test_it_is_recognized_and_a_task_chooses_its_column(read, tmp_path):
    read()
    (guess,), missed = find_datasets(tmp_path / "FairFace")
    assert missed == []
    assert guess.make_settings(tmp_path) == {
        "task": "age",
        "source": "fairface",
        "path": "FairFace",
        "columns": {"label": "age"},
    }
    guess.set_tasks(["gender"])
    guess.add_audit({"age": AGES, "gender": GENDERS})
    assert (guess.tasks, guess.settings["audit"]) == ({"gender": "gender"}, {"age": "age"})
    assert guess.list_other_labels() == ["race"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "smile"}, r"x\.columns\.label: 'smile' is not allowed.*\(known: 'age', 'gender', 'race'\)"),
        ({"label": "age", "audit": {"sex": "sex"}}, r"x\.columns\.audit\.sex: 'sex' is not allowed"),
        ({}, r"x\.columns\.label: is missing"),
    ],
)
def test_a_column_that_it_lacks_is_refused(columns, message):
    faces = {"task": "age", "source": "fairface", "path": "x", "columns": columns}
    settings = {"experiment": "e", "datasets": {"x": faces, "y": {"task": "b", "source": "sfew", "path": "y"}}}
    with pytest.raises(SettingsError, match=message):
        check_keys(settings, EXPERIMENT, "config.yaml")
