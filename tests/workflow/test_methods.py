"""All methods side by side: what each of them runs, leaves and shares, and their comparison."""

import csv
import json

import numpy as np
import pytest
import yaml

from stages.storage.contracts import (
    COMPARISON,
    LABELS,
    METRICS,
    REFINEMENT,
    RELIABILITY,
    TRANSPORT,
    WEIGHTS,
)
from stages.storage.files import read_json
from stages.storage.tables import read_metadata, read_table
from stages.tools.verify_artifacts import main as verify
from tests.workflow import golden
from tests.workflow.conftest import ROOT, copy_project

METHODS = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
PRESETS = {
    *("mtl_sa", "mtl_wf", "constant_0", "constant_1", "constant_05", "only_confidence", "only_density", "only_emd"),
    *("only_mmd", "stl", "all_in_one", "sfsmr", "slrm", "lel_ltn", "dcn_ap"),
}
WITHOUT_LABELS = ("stl", "all_in_one", "sfsmr", "slrm")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of all methods over three epochs, not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("compared"))
    comparison = {"methods": None, "seeds": [0], "last_epochs": 2}
    project.write_config("tiny.yaml", training__epochs=3, comparison=comparison, methods=golden.METHODS)
    (project.folder / "run.log").write_text(project.snakemake("--cores", "2", "--", "all", "comparison").stdout)
    return project


def test_every_method_of_the_paper_is_a_row():
    assert set(METHODS) >= PRESETS


def test_every_method_leaves_its_metrics_and_what_its_labels_need(compared):
    for method, row in METHODS.items():
        folder = compared.results / "seed-0" / method
        metrics = read_table(folder / "metrics.parquet", METRICS)
        assert metrics["epoch"].max() == 3, method
        found = {path.stem for path in folder.glob("epoch-*/*/**/*.parquet")}
        criteria = row["selection"] if isinstance(row.get("selection"), list) else []
        assert ("density" in found) == ("density" in criteria), method
        assert ("responsibilities" in found) == ("distribution" in criteria), method
        assert ("discrepancy" in found) == (row.get("distance") == "mmd"), method
        assert ("transport" in found) == ("distribution" in criteria and row.get("distance") != "mmd"), method
        assert ("refinement" in found) == ("refinement" in row), method
        assert ("labels" in found) == (method not in WITHOUT_LABELS), method
    verify([str(compared.results)])


def test_the_golden_run_holds_what_it_held(compared):
    """That of two tasks is part of the comparison."""
    own = ("data", *(f"seed-0/{name}/" for name in ("initial", "initial_separate", *golden.METHODS)))
    found = golden.digest_results(compared.results)
    golden.check_digests("two", {path: digest for path, digest in found.items() if path.startswith(own)})


def test_joint_training_is_shared_by_all_but_single_task_learning(compared):
    log = (compared.folder / "run.log").read_text()
    assert log.count("joint training on 130 samples") == 1
    assert log.count("separate training on 130 samples") == 1
    first = {
        method: read_table(compared.results / "seed-0" / method / "metrics.parquet", METRICS)["accuracy"][:8].tolist()
        for method in METHODS
    }
    assert len({tuple(values) for method, values in first.items() if method != "stl"}) == 1


def test_label_transfer_begins_after_its_warm_up(compared):
    folder = compared.results / "seed-0/lel_ltn"
    assert sorted(path.parts[-4:] for path in folder.rglob("labels.parquet")) == [
        ("epoch-003", "expression", "portraits", "labels.parquet"),
        ("epoch-003", "pose", "snapshots", "labels.parquet"),
    ]
    labels = read_table(folder / "epoch-003/pose/snapshots/labels.parquet", LABELS)
    assert len(labels) == 60
    losses = json.loads((folder / "epoch-003/checkpoint.json").read_text())["losses"]
    assert {task: loss["labels"] for task, loss in losses.items()} == {"expression": "both", "pose": "both"}


def read_networks(compared, method, first, last):
    folder = compared.results / "seed-0" / method
    return [(folder / f"epoch-{epoch:03d}/network.safetensors").read_bytes() for epoch in range(first, last + 1)]


def test_earth_movers_distance_and_the_distance_to_the_mean_train_the_same_networks(compared):
    assert read_networks(compared, "only_emd", 1, 3) == read_networks(compared, "only_mean", 1, 3)
    assert read_networks(compared, "only_emd", 3, 3) != read_networks(compared, "only_mmd", 3, 3)
    table = read_table(compared.results / "seed-0/only_emd/epoch-002/expression/portraits/transport.parquet", TRANSPORT)
    constant = table["transport_distance"] - table["mean_distance"]
    np.testing.assert_allclose(constant, constant[0], atol=1e-12)
    assert constant[0] > 0


def test_every_method_trains_a_network_of_its_own(compared):
    """But EMD and the distance to the mean; and DCN-AP where its random field changes no pseudo label."""
    last = {method: read_networks(compared, method, 3, 3)[0] for method in METHODS}
    same = {method for method in METHODS if list(last.values()).count(last[method]) > 1}
    refined = [
        read_table(path, REFINEMENT) for path in (compared.results / "seed-0/dcn_ap").rglob("refinement.parquet")
    ]
    changed = any((table["refined_label"] != table["pseudo_label"]).any() for table in refined)
    assert same == {"only_emd", "only_mean"} | (set() if changed else {"dcn_ap", "constant_1"})


def test_the_comparison_has_every_method_task_split_and_aggregate_once(compared):
    table = read_table(compared.results / "comparison.parquet", COMPARISON)
    rows = list(zip(*(table[name].tolist() for name in ("method", "task", "seed", "split", "epoch")), strict=True))
    assert len(rows) == len(set(rows)) == len(METHODS) * 2 * 2 * 3
    assert set(table["method"]) == set(METHODS)
    assert (table["seconds_per_epoch"] > 0).all()
    metrics = read_table(compared.results / "seed-0/slrm/metrics.parquet", METRICS)
    last = metrics["accuracy"][(metrics["epoch"] == 3) & (metrics["task"] == "pose") & (metrics["split"] == "test")]
    found = table["accuracy"][rows.index(("slrm", "pose", 0, "test", "last"))]
    assert found == last[0]
    with (compared.results / "comparison.csv").open(encoding="utf-8") as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(METHODS)
    for name in ("comparison.md", "timing.md", "comparison.svg"):
        assert (compared.results / name).stat().st_size > 500
    assert "MTL-SA" in (compared.folder / "results/comparison.md").read_text()


def test_a_second_comparison_has_nothing_to_do(compared):
    assert compared.plan("comparison") == {}


def test_a_new_combination_of_mechanisms_is_a_row(project):
    with (project.folder / "workflow/methods.yaml").open("a") as file:
        file.write(
            "\nmine:\n  paper_name: mine\n  schedule: alternating\n  selection: [confidence, distribution]\n"
            "  distance: mmd\n  interpolation: threshold\n  quantile: 0.7\n"
            "  refinement: {strength: 0.5, neighbors: 4}\n  regularization: {laplacian: 0.1, task_nuclear: 0.01}\n"
        )
    project.write_config("tiny.yaml", methods=["mine"], training__epochs=1)
    project.snakemake("--cores", "2")
    folder = project.results / "seed-0/mine/epoch-001"
    weights = read_table(folder / "pose/snapshots/weights.parquet", WEIGHTS)
    assert weights["selection_weight"].sum() == pytest.approx(18, abs=1)
    parameters = read_metadata(folder / "pose/snapshots/weights.parquet")["parameters"]
    assert (parameters["distance"], parameters["quantile"]) == ("mmd", 0.7)
    assert json.loads((folder / "checkpoint.json").read_text())["regularization"] > 0


def test_mixed_epochs_may_select_and_abstain(project):
    with (project.folder / "workflow/methods.yaml").open("a") as file:
        file.write(
            "\nmine:\n  paper_name: mine\n  schedule: mixed\n  selection: [confidence, density, distribution]\n"
            "  decay: 1\n  decay_scale: median\n  sharpness: 2\n  alignment: full\n  student_temperature: 2\n"
            "  strength: {value: 1, ramp: 2}\n  reliability: transport\n  balance: rows\n  normalization: separate\n"
        )
    project.write_config("tiny.yaml", methods=["mine"])
    output = project.snakemake("--cores", "2").stdout
    for epoch in (1, 2):
        folder = project.results / f"seed-0/mine/epoch-{epoch:03d}"
        for task, dataset, n, balance in (("expression", "portraits", 70, 1), ("pose", "snapshots", 60, 60 / 70)):
            found = read_json(folder / task / dataset / "reliability.json", RELIABILITY)
            assert found["balance"] == balance
            counted = read_metadata(folder / task / dataset / "labels.parquet")
            assert counted["strength"] == found["strength"] * epoch / 2
            assert (counted["student_temperature"], counted["normalization"]) == (2, "separate")
            assert len(read_table(folder / task / dataset / "weights.parquet", WEIGHTS)) == n
            assert read_metadata(folder / task / dataset / "audit.parquet")["estimates"] == found["estimates"]
        losses = json.loads((folder / "checkpoint.json").read_text())["losses"]
        assert {task: loss["divergence"] >= 0 for task, loss in losses.items()} == {"expression": True, "pose": True}
    assert "(estimated: " in output
    assert project.plan() == {}
    verify([str(project.results)])


def test_a_method_that_makes_no_sense_is_refused_in_words(project):
    with (project.folder / "workflow/methods.yaml").open("a") as file:
        file.write("\nmine:\n  paper_name: mine\n  schedule: single\n  selection: 1\n")
    done = project.snakemake("--dry-run", "--cores", "1", check=False)
    assert done.returncode != 0
    assert "workflow/methods.yaml: mine.selection: a single method has no use for it" in done.stdout


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ({"temperature": 5}, ("mtl_wf", *WITHOUT_LABELS, "lel_ltn")),
        ({"quantile": 0.9}, ("mtl_sa", "constant_1", "lel_ltn")),
        ({"interpolation": "threshold"}, ("mtl_wf", "constant_05", "dcn_ap", *WITHOUT_LABELS)),
    ],
)
def test_a_setting_of_labels_redoes_only_the_methods_that_use_it(compared, tmp_path, labels, kept):
    settings = yaml.safe_load((compared.folder / "tiny.yaml").read_text())
    settings["labels"] = labels
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    targets = [f"results/tiny/seed-0/{method}/metrics.parquet" for method in kept]
    assert compared.plan(*targets, config=str(path)) == {}
    if "quantile" not in labels:
        changed = "results/tiny/seed-0/only_density/metrics.parquet"
        assert compared.plan(changed, config=str(path))["materialize_labels"] == 3
