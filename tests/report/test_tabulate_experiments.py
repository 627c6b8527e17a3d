import csv
import json

import numpy as np
import pytest

from stages.report.tabulate_experiments import main
from stages.storage.contracts import COMPARISON
from stages.storage.tables import Provenance, write_table

SAMPLES = {"faces": {"train": 720, "validation": 80, "test": 200}}


def write_comparison(folder, experiment, accuracies, names):
    """A comparison of one task from the test accuracies at the chosen epoch, by method and seed."""
    rows = [
        (method, seed, split, epoch, accuracy if (split, epoch) == ("test", "validation") else last)
        for method, values in accuracies.items()
        for seed, accuracy in enumerate(values)
        for split, epoch, last in (("test", "validation", 0), ("test", "last", 0.25), ("validation", "validation", 1))
    ]
    method, seed, split, epoch, accuracy = (np.array(column) for column in zip(*rows, strict=True))
    columns = {
        "method": method,
        "task": np.array([f"{experiment}_task"] * len(rows)),
        "seed": seed,
        "split": split,
        "epoch": epoch,
        "first_epoch": np.ones(len(rows), dtype=int),
        "last_epoch": np.ones(len(rows), dtype=int),
        "accuracy": accuracy,
        "macro_f1": accuracy,
        "seconds_per_epoch": np.full(len(rows), np.nan),
    }
    samples = {f"{experiment}_task": {experiment: SAMPLES.get(experiment, {"train": 7, "validation": 1, "test": 2})}}
    metadata = {"experiment": experiment, "reference": "mtl_sa", "last_epochs": 2, "paper_names": names}
    metadata |= {"samples": samples}
    path = folder / f"{experiment}.parquet"
    write_table(path, COMPARISON, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return str(path)


def tabulate(folder, *options):
    faces = {"mtl_sa": [0.8, 0.9], "stl": [0.5, 0.7]}
    people = {"mtl_sa": [0.25], "retired": [0.75]}
    main(
        [
            "--comparisons",
            write_comparison(folder, "faces", faces, {"mtl_sa": "MTL-SA", "stl": "STL"}),
            write_comparison(folder, "people", people, {"mtl_sa": "MTL-SA", "retired": "Gone"}),
            *("--paper-names", json.dumps({"stl": "STL", "unused": "Unused", "mtl_sa": "MTL-SA"})),
            *("--output-csv", str(folder / "all.csv"), "--output-markdown", str(folder / "all.md"), *options),
        ]
    )
    text = (folder / "all.md").read_text()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return text, table


def test_experiments_head_the_columns_and_methods_stand_in_the_papers_order(tmp_path):
    text, table = tabulate(tmp_path)
    assert table[0] == ["Method", "faces", "people"]
    assert table[2:] == [
        ["", "faces_task (1)", "people_task (2)"],
        ["STL", "60.00 ± 14.14", "–"],
        ["MTL-SA", "**85.00 ± 7.07**", "25.00"],
        ["Gone", "–", "**75.00**"],
    ]
    assert "faces: 2, people: 1" in text
    assert "validation chose" in text


def test_footnotes_say_how_much_was_trained_on(tmp_path):
    lines = tabulate(tmp_path)[0].splitlines()
    assert "(1) trained on 72 % of faces (80 % with the images kept for validation)" in lines
    assert "(2) trained on 70 % of people (80 % with the images kept for validation)" in lines


def test_another_aggregate_can_be_shown(tmp_path):
    text, table = tabulate(tmp_path, "--epoch", "last")
    assert table[3] == ["STL", "**25.00 ± 0.00**", "–"]
    assert "at the last epoch" in text


def test_the_csv_has_a_row_per_experiment_task_and_method(tmp_path):
    tabulate(tmp_path)
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["experiment"], row["method"]) for row in rows] == [
        ("faces", "stl"),
        ("faces", "mtl_sa"),
        ("people", "mtl_sa"),
        ("people", "retired"),
    ]
    assert rows[1]["training_share"] == "trained on 72 % of faces (80 % with the images kept for validation)"
    assert rows[1]["accuracy"] == "0.850000"
    assert rows[1]["accuracy_std"] == "0.070711"
    assert (float(rows[1]["accuracy_low"]), float(rows[1]["accuracy_high"])) == pytest.approx((0.21469, 1.48531))
    assert rows[2]["accuracy_std"] == rows[2]["accuracy_low"] == rows[2]["accuracy_high"] == ""


def test_the_same_comparisons_give_the_same_bytes(tmp_path):
    first = tabulate(tmp_path)[0]
    assert tabulate(tmp_path)[0] == first


def test_two_comparisons_of_one_experiment_are_refused(tmp_path):
    paths = []
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()
        paths.append(write_comparison(tmp_path / folder, "faces", {"mtl_sa": [0.5]}, {"mtl_sa": "MTL-SA"}))
    outputs = ("--output-csv", str(tmp_path / "t.csv"), "--output-markdown", str(tmp_path / "t.md"))
    with pytest.raises(ValueError, match="two comparisons are of one experiment, 'faces'"):
        main(["--comparisons", *paths, "--paper-names", json.dumps({"mtl_sa": "MTL-SA"}), *outputs])
