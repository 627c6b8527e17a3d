"""Which labels count: spellings, dropped classes, repeated images, labels held back."""

from collections import Counter
from pathlib import Path

import pytest

from stages.data.sources.base import select_samples
from stages.data.sources.labels import hold_back, merge_duplicates, order_classes, rename_labels
from stages.data.sources.registry import read_source
from stages.data.sources.sample import Sample

SOURCE = Path("labels.csv")
MOODS = {"classes": {"anger": ["angry", "ANGER"], "joy": ["happy"]}, "drop": ["contempt"]}


def make_samples(labels, task="mood", split="train", audit=None):
    held_back = audit or [{}] * len(labels)
    return [
        Sample(f"{split}/{number}.png", {task: label}, split, other)
        for number, (label, other) in enumerate(zip(labels, held_back, strict=True))
    ]


def label_all(samples, task="mood"):
    return [sample.labels[task] for sample in samples]


@pytest.mark.parametrize("settings", [{"task": "mood", **MOODS}, {"task": "mood", "tasks": {"mood": MOODS}}])
def test_spellings_become_classes_and_dropped_ones_leave(settings):
    found = rename_labels(make_samples(["ANGER", "happy", "contempt", "anger", "joy"]), settings, SOURCE)
    assert label_all(found) == ["anger", "joy", "anger", "joy"]
    assert [sample.path for sample in found] == [f"train/{number}.png" for number in (0, 1, 3, 4)]
    with pytest.raises(
        ValueError, match=r"labels\.csv: the label 'angr' is none of .*; did you mean 'angry'\?.* or to `drop`"
    ):
        rename_labels(make_samples(["angr"]), settings, SOURCE)


def test_audit_labels_follow_the_spellings_of_their_task_and_give_way_to_given_labels():
    settings = {"labels": {"age": "age"}, "audit": {"mood": "m", "age": "true_age"}, "tasks": {"mood": MOODS}}
    samples = make_samples(
        ["old", None], "age", audit=[{"mood": "ANGER", "age": "old"}, {"mood": "contempt", "age": "young"}]
    )
    found = rename_labels(samples, settings, SOURCE)
    assert [sample.audit for sample in found] == [{"mood": "anger", "age": None}, {"mood": None, "age": "young"}]


def test_repeated_images_take_the_first_row_or_the_majority():
    rows = [("a", "x", None), ("b", "x", "l"), ("a", "y", "r"), ("a", "y", None), ("b", None, "r")]
    samples = [Sample(path, {"kind": kind, "side": side}, "train") for path, kind, side in rows]
    first, majority = merge_duplicates(samples, "first"), merge_duplicates(samples, "majority")
    assert [(one.path, *one.labels.values()) for one in first] == [("a", "x", None), ("b", "x", "l")]
    assert [(one.path, *one.labels.values()) for one in majority] == [("a", "y", "r"), ("b", "x", "l")]


def test_a_share_of_the_training_labels_stays_and_the_others_are_held_back():
    samples = make_samples(["a"] * 30 + ["b"] * 10 + [None] * 5) + make_samples(["a", "b"], split="test")
    found = hold_back(samples, {"mood": 0.2}, seed=3, source=SOURCE)
    assert Counter(label_all(found[:45])) == {"a": 6, "b": 2, None: 37}
    assert label_all(found[45:]) == ["a", "b"], "held-out splits keep theirs"
    for before, after in zip(samples, found, strict=True):
        held_back = before.labels["mood"] if after.labels["mood"] is None else None
        assert after.audit == {"mood": held_back}
    assert found == hold_back(samples, {"mood": 0.2}, seed=3, source=SOURCE)
    assert found != hold_back(samples, {"mood": 0.2}, seed=4, source=SOURCE)
    with pytest.raises(ValueError, match=r"labels\.csv: `known`: no training sample has a label for 'mood'"):
        hold_back(make_samples([None]), {"mood": 0.2}, seed=0, source=SOURCE)


def test_every_class_keeps_a_label():
    found = hold_back(make_samples(["a"] * 50 + ["b"]), {"mood": 0.01}, seed=0, source=SOURCE)
    assert Counter(label_all(found)) == {"a": 1, "b": 1, None: 49}


def test_classes_of_a_task_that_others_share_need_not_all_be_there():
    settings = {"task": "mood", "tasks": {"mood": {"shared": True}}}
    samples = make_samples(["b"]) + make_samples(["c"], split="test")
    assert order_classes(samples, settings, SOURCE) == {"mood": ("b", "c")}
    settings["tasks"]["mood"]["classes"] = ["c", "b", "a"]
    assert order_classes(samples, settings, SOURCE) == {"mood": ("c", "b", "a")}
    settings["tasks"]["mood"]["classes"] = ["c", "a"]
    with pytest.raises(ValueError, match=r"labels\.csv: tasks\.mood\.classes lacks 'b'; add or drop them"):
        order_classes(samples, settings, SOURCE)


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["Happy", "happy ", "sad"], {}, r"'Happy', 'happy ' differ in case or blanks only; .* merge them: classes:"),
        ([None, None], {}, r"no sample has a label for 'mood'; correct it or leave it out of `labels`"),
        (["a", "a"], {}, r"has only one class, 'a'; a task needs two or more"),
        (["a", "b"], {"classes": ["a", "b", "c"]}, r"`classes` names 'c', of which there are no images"),
    ],
)
def test_classes_that_will_not_do_are_said(labels, settings, message):
    with pytest.raises(ValueError, match=f"^labels.csv: .*{message}") as caught:
        order_classes(make_samples(labels), {"task": "mood", **settings}, SOURCE)
    assert "\n" not in str(caught.value)


def test_classes_that_differ_in_case_may_be_listed():
    assert order_classes(make_samples(["a", "A"]), {"task": "mood", "classes": ["a", "A"]}, SOURCE) == {
        "mood": ("a", "A")
    }


def test_rows_without_a_label_are_split_and_drawn_like_a_class():
    samples = [Sample(f"{n:02d}.png", {"mood": "ab"[n % 2] if n < 40 else None}, "train") for n in range(60)]
    settings = {"labels": {"mood": "m"}, "split": {"test": 0.25}, "validation": 0.2}
    counts = Counter((one.split, one.labels["mood"]) for one in select_samples(samples, settings, SOURCE))
    assert {counts["test", label] for label in ("a", "b", None)} == {5}
    assert {counts["validation", label] for label in ("a", "b", None)} == {3}


def test_a_folder_without_labels_is_all_training_images(tmp_path, draw):
    draw("photos/a/1.png", "photos/b/deep/2.png", "photos/3.png")
    manifest = read_source({"source": "image_folder", "labels": {}, "path": "photos"}, tmp_path)
    assert [(one.path, one.split, one.labels) for one in manifest.samples] == [
        (path, "train", {}) for path in ("3.png", "a/1.png", "b/deep/2.png")
    ]
    assert manifest.classes == {}
