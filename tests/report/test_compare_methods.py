import csv
import json

import numpy as np
import pytest

from stages.report.compare_methods import main
from stages.storage.contracts import COMPARISON, METRICS
from stages.storage.tables import Provenance, read_table, write_table
from tests.conftest import write_split

NAMES = {"stl": "STL", "mtl_sa": "MTL-SA"}
RUNS = {  # accuracy of pose in epochs 0 and 1, of mood it is 0.5
    ("stl", 0): (0.4, 0.6),
    ("stl", 1): (0.4, 0.8),
    ("mtl_sa", 0): (0.9, 0.3),
    ("mtl_sa", 1): (0.8, 0.3),
}


def write_metrics(path, accuracies, splits=("validation", "test"), tasks=("pose", "mood")):
    rows = [
        (epoch, task, dataset, split, accuracy if task == "pose" else 0.5)
        for epoch, accuracy in enumerate(accuracies)
        for task in tasks
        for dataset in (None, "heads" if task == "pose" else "faces")
        for split in splits
    ]
    epoch, task, dataset, split, accuracy = (np.array(column) for column in zip(*rows, strict=True))
    columns = {
        "epoch": epoch,
        "task": task.astype(object),
        "split": split.astype(object),
        "accuracy": accuracy,
        "macro_f1": accuracy / 2,
        "dataset": dataset,
        "n_samples": np.full(len(rows), 10),
        "trained_dataset": np.array(["heads"] * len(rows), dtype=object),
    }
    metadata = {"select": "validation", "selected_epoch": 1}
    write_table(path, METRICS, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return str(path)


def write_runs(folder, runs=RUNS):
    entries = [
        f"{method}/{seed}={write_metrics(folder / f'{method}-{seed}.parquet', accuracies)}"
        for (method, seed), accuracies in runs.items()
    ]
    # One job of joint training, which is no epoch, and two jobs of one epoch.
    for name, seconds in {"initial/a": 9, "stl/epoch-001/b": 2, "stl/epoch-001/pose/c.heads": 1.5}.items():
        path = folder / "logs" / "seed-0" / f"{name}.benchmark.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")
    return entries


TASK_OF = {"heads": "pose", "faces": "mood"}
COUNTS = {"heads": {"train": 18, "validation": 2, "test": 5}, "faces": {"train": 4, "validation": 1, "test": 5}}


def write_manifests(folder, counts):
    return [
        str(write_split(folder, dataset, TASK_OF[dataset], ["a", "b"], n_samples, split=split).table)
        for dataset, splits in counts.items()
        for split, n_samples in splits.items()
    ]


def compare(folder, entries, output="out", counts=COUNTS, **options):
    files = {name: folder / output / f"comparison.{name}" for name in ("table", "csv", "markdown", "figure")}
    options = {"paper-names": json.dumps(NAMES), "last-epochs": 2, "logs": folder / "logs"} | options
    main(
        [
            *("--runs", *entries, "--experiment", "tiny", "--tables", *write_manifests(folder / "data", counts)),
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
            *(part for name, path in files.items() for part in (f"--output-{name}", str(path))),
        ]
    )
    return files


def test_every_run_gets_a_row_per_task_split_and_aggregate(tmp_path, capsys):
    files = compare(tmp_path, write_runs(tmp_path)[::-1])
    table = read_table(files["table"], COMPARISON)
    assert len(table) == 4 * 2 * 2 * 3
    assert list(dict.fromkeys(table["method"])) == list(NAMES)
    assert table.metadata["experiment"] == "tiny"
    assert table.metadata["reference"] == "mtl_sa"
    assert table.metadata["last_epochs"] == 2
    assert table.metadata["paper_names"] == NAMES
    assert table.metadata["samples"] == {"pose": {"heads": COUNTS["heads"]}, "mood": {"faces": COUNTS["faces"]}}
    chosen = (table["method"] == "mtl_sa") & (table["epoch"] == "validation") & (table["task"] == "pose")
    assert table["accuracy"][chosen].tolist() == [0.9, 0.9, 0.8, 0.8]
    assert table["last_epoch"][chosen].tolist() == [0] * 4
    timed = (table["method"] == "stl") & (table["seed"] == 0)
    assert set(table["seconds_per_epoch"][timed]) == {3.5}
    assert np.isnan(table["seconds_per_epoch"][~timed]).all()
    assert "2 methods, 2 seeds" in capsys.readouterr().out


def test_the_summary_holds_the_numbers_counted_by_hand(tmp_path):
    files = compare(tmp_path, write_runs(tmp_path))
    with files["csv"].open() as file:
        rows = {(row["method"], row["task"], row["split"], row["epoch"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 3 * 2 * 3
    stl = rows["stl", "pose", "test", "validation"]
    assert stl == {
        "paper_name": "STL",
        "method": "stl",
        "task": "pose",
        "dataset": "",
        "split": "test",
        "epoch": "validation",
        "n_seeds": "2",
        "accuracy": "0.700000",
        "macro_f1": "0.350000",
        "accuracy_std": "0.141421",
        "macro_f1_std": "0.070711",
        # t of one degree of freedom is 12.7062; with s / √2 that is half the distance of the two seeds.
        "accuracy_low": "-0.570620",
        "macro_f1_low": "-0.285310",
        "accuracy_high": "1.970620",
        "macro_f1_high": "0.985310",
        "difference": "-0.150000",
        "difference_low": "-2.055931",
        "difference_high": "1.755931",
        "seconds_per_epoch": "3.500000",
    }
    assert rows["mtl_sa", "pose", "test", "validation"]["seconds_per_epoch"] == ""
    assert rows["stl", "mean over tasks", "test", "last"]["accuracy"] == "0.600000"


def test_the_report_says_what_to_quote_and_marks_the_best(tmp_path):
    lines = compare(tmp_path, write_runs(tmp_path))["markdown"].read_text().splitlines()
    assert any("Quote the first table" in line for line in lines)
    assert any("2 seeds (0, 1)" in line for line in lines)
    assert any("with Student's 95 % interval" in line for line in lines)
    titles = [line for line in lines if line.startswith("## ")]
    assert titles == ["## Epoch chosen by validation", "## Mean of the last 2 epochs", "## Last epoch"]
    stl = [[cell.strip() for cell in line.split("|")][1:-1] for line in lines if line.startswith("| STL")]
    best = [[cell.strip() for cell in line.split("|")][1:-1] for line in lines if line.startswith("| MTL-SA")]
    assert stl[0][:4] == ["STL", "70.00 ± 14.14", "-15.00 [-205.59, +175.59]", "35.00 ± 7.07"]
    assert best[0][:4] == ["MTL-SA", "**85.00 ± 7.07**", "–", "**42.50 ± 3.54**"]
    assert stl[2][1:3] == ["**70.00 ± 14.14**", "+40.00 [-87.06, +167.06]"]
    # Equal scores of the other task are equally bold; seconds stand last, a dash where unknown.
    assert stl[0][4] == best[0][4] == "**50.00 ± 0.00**"
    assert (stl[0][-1], best[0][-1]) == ("3.5", "–")


def test_one_seed_is_reported_without_spread(tmp_path):
    runs = {run: accuracies for run, accuracies in RUNS.items() if run[1] == 0}
    text = compare(tmp_path, write_runs(tmp_path, runs))["markdown"].read_text()
    assert "one seed (0)" in text
    assert "±" not in text
    assert "nan" not in text
    assert " -30.00 " in text


def test_the_figure_has_a_panel_per_method_and_task(tmp_path):
    text = compare(tmp_path, write_runs(tmp_path))["figure"].read_text()
    assert text.count(">STL</text>") == 2
    assert all(f">{label}</text>" in text for label in ("pose", "mood", "MTL-SA"))


def test_the_same_metrics_give_the_same_bytes(tmp_path):
    entries = write_runs(tmp_path)
    first, second = (compare(tmp_path, runs, output) for runs, output in ((entries, "a"), (entries[::-1], "b")))
    for name in ("csv", "markdown", "figure", "table"):
        assert first[name].read_bytes() == second[name].read_bytes()


def test_seconds_are_unknown_without_logs(tmp_path):
    table = read_table(compare(tmp_path, write_runs(tmp_path), logs=tmp_path / "none")["table"], COMPARISON)
    assert np.isnan(table["seconds_per_epoch"]).all()


def test_a_run_without_validation_is_named(tmp_path):
    entries = write_runs(tmp_path)
    write_metrics(tmp_path / "stl-1.parquet", (0.4, 0.8), splits=["test"])
    with pytest.raises(ValueError, match=r"^run stl/1: its metrics have no row for epoch 0, task pose, split val"):
        compare(tmp_path, entries)
    assert not (tmp_path / "out").exists()


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^no run 'mtl_sa/1': all methods need the same seeds"):
        compare(tmp_path, write_runs(tmp_path)[:3])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"accuracies": (0.4,)}, {"accuracies": (0.4, 0.8), "tasks": ["pose"]}])
def test_a_run_with_other_epochs_or_tasks_is_named(tmp_path, change):
    entries = write_runs(tmp_path)
    write_metrics(tmp_path / "stl-1.parquet", **change)
    with pytest.raises(ValueError, match=r"^run stl/1: its epochs differ from those of stl/0, or its tasks"):
        compare(tmp_path, entries)


@pytest.mark.parametrize("name", ["stll/0", "stl", "stl/x"])
def test_a_run_that_is_not_of_the_comparison_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"^--runs: '{name}' is no METHOD/SEED .*did you mean 'stl'"):
        compare(tmp_path, [f"{name}=metrics.parquet"])


def test_the_report_says_how_much_was_trained_on(tmp_path):
    lines = compare(tmp_path, write_runs(tmp_path))["markdown"].read_text().splitlines()
    assert "* pose: trained on 72 % of heads (80 % with the images kept for validation)" in lines
    assert "* mood: trained on 40 % of faces (50 % with the images kept for validation)" in lines


def test_a_dataset_without_manifests_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^--tables: lacks the manifests of the dataset 'faces'$"):
        compare(tmp_path, write_runs(tmp_path), counts={"heads": COUNTS["heads"]})
