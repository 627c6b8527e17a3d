"""Every baseline does what its definition says, stage by stage on two tiny datasets."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.baselines import refine_labels
from stages.epoch import materialize_labels
from stages.storage.contracts import FEATURES, LABELS, REFINEMENT, WEIGHTS
from stages.storage.tables import Provenance, read_table, write_table


def train_mixed(run, name, previous, epoch, *options, labels=()):
    from stages.epoch.train_epoch import main

    files = run.checkpoint(previous)
    main(
        [
            *("--schedule", "mixed", "--tables", str(run.faces.table), str(run.heads.table)),
            *("--images", str(run.faces.images), str(run.heads.images)),
            *("--network", str(files["network"]), "--optimizer", str(files["optimizer"])),
            *("--card", str(files["card"])),
            *("--labels", *(f"{task}={path}" for task, path in labels), "--epoch", str(epoch)),
            *("--batch-size", "8", "--learning-rate", "0.003", "--threads", "1", "--device", "cpu"),
            *run.outputs(name),
            *options,
        ]
    )
    return load_file(run.checkpoint(name)["network"])


def train_single(run, name, previous, epoch, trained):
    run.train(name, previous, trained=trained, labels={}, epoch=epoch, options=["--schedule", "single"])
    return load_file(run.checkpoint(name)["network"])


def assert_equal_networks(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def read_card(run, name):
    return json.loads(run.checkpoint(name)["card"].read_text())


@pytest.fixture(scope="module")
def all_in_one(run):
    return train_mixed(run, "all_in_one/1", "initial", 1)


def test_all_in_one_sees_every_sample_once_in_as_many_epochs_as_there_are_datasets(run, all_in_one):
    train_mixed(run, "all_in_one/2", "all_in_one/1", 2)
    cards = [read_card(run, f"all_in_one/{epoch}") for epoch in (1, 2)]
    assert [card["n_samples"] for card in cards] == [34, 34]
    assert [card["dataset"] for card in cards] == [None, None]
    seen = {task: [card["losses"][task]["n_samples"] for card in cards] for task in ("expression", "pose")}
    assert {task: sum(numbers) for task, numbers in seen.items()} == {"expression": 30, "pose": 38}
    assert all(loss["labels"] == "given" for card in cards for loss in card["losses"].values())


@pytest.mark.parametrize(
    "terms",
    [("--laplacian", "--l21", "--joint-nuclear"), ("--laplacian", "--task-nuclear")],
    ids=["sfsmr", "slrm"],
)
def test_without_its_coefficients_a_regularised_method_is_all_in_one(run, all_in_one, terms):
    zeros = [text for term in terms for text in (term, "0")]
    assert_equal_networks(train_mixed(run, "regularised/0", "initial", 1, *zeros), all_in_one)
    for term in terms:
        trained = train_mixed(run, "regularised/1", "initial", 1, term, "0.1")
        assert any(not torch.equal(value, all_in_one[key]) for key, value in trained.items()), term
        assert read_card(run, "regularised/1")["regularization"] > 0


def measure_classifiers(network):
    weights = [network[f"classifiers.task_{task}.weight"] for task in ("expression", "pose")]
    return {
        "--l21": sum(float(weight.norm(dim=0).sum()) for weight in weights),
        "--joint-nuclear": float(torch.linalg.matrix_norm(torch.cat(weights), "nuc")),
        "--task-nuclear": sum(float(torch.linalg.matrix_norm(weight, "nuc")) for weight in weights),
    }


@pytest.mark.parametrize("term", ["--l21", "--joint-nuclear", "--task-nuclear"])
def test_a_norm_that_is_penalised_shrinks(run, all_in_one, term):
    penalised = train_mixed(run, "penalised", "initial", 1, term, "1")
    assert measure_classifiers(penalised)[term] < 0.97 * measure_classifiers(all_in_one)[term]


def test_label_transfer_networks_only_watch_during_their_warm_up(run, all_in_one):
    trained = train_mixed(run, "lel_ltn/1", "initial", 1, "--label-transfer", "True")
    watched = {key: value for key, value in trained.items() if not key.startswith("transfers.")}
    assert_equal_networks(watched, all_in_one)
    assert set(read_card(run, "lel_ltn/1")["label_transfer"]) == {"expression", "pose"}
    learned = train_mixed(run, "lel_ltn/2", "lel_ltn/1", 2, "--label-transfer", "True")
    for key in set(trained) - set(watched):
        assert not torch.equal(learned[key], trained[key]), f"{key} learns"
    steps = load_file(run.checkpoint("lel_ltn/2")["optimizer"])
    # 34 samples in batches of 8, twice; joint training before it had 18.
    assert steps["step.transfers.task_pose.output.weight"] == 10
    assert steps["step.cross_stitch"] == 28


def test_transferred_labels_are_those_of_the_transfer_networks_and_train_the_other_datasets(run):
    from stages.epoch.extract_features import main as extract

    for epoch in (1, 2):
        previous = "initial" if epoch == 1 else f"ltn/{epoch - 1}"
        train_mixed(run, f"ltn/{epoch}", previous, epoch, "--label-transfer", "True")
    folder = run.folder / "ltn/labels"
    paths = {name: {kind: folder / f"{kind}/{name}.parquet" for kind in ("transfer", "classifier")} for name in "ab"}
    for kind in ("transfer", "classifier"):
        for name, split, task in (("a", run.faces, "pose"), ("b", run.heads, "expression")):
            extract(
                [
                    *("--network", str(run.checkpoint("ltn/2")["network"])),
                    *("--card", str(run.checkpoint("ltn/2")["card"])),
                    *("--table", str(split.table), "--images", str(split.images)),
                    *("--tasks", task, "--label-source", kind, "--threads", "1", "--device", "cpu"),
                    *("--output", str(paths[name][kind])),
                ]
            )
    labels = []
    for name, task in (("a", "pose"), ("b", "expression")):
        output = folder / f"{task}.parquet"
        materialize_labels.main(
            [
                *("--task", task, "--features", str(paths[name]["transfer"]), "--selection", "0"),
                *("--temperature", "1", "--output-weights", str(folder / "w.parquet")),
                *("--output-labels", str(output)),
            ]
        )
        labels.append((task, output))
    transferred = read_table(paths["a"]["transfer"], FEATURES)["soft_label_pose"]
    assert np.abs(transferred - read_table(paths["a"]["classifier"], FEATURES)["soft_label_pose"]).max() > 0.01
    np.testing.assert_allclose(read_table(labels[0][1], LABELS)["training_label"], transferred, atol=1e-6)
    train_mixed(run, "ltn/3", "ltn/2", 3, "--label-transfer", "True", labels=labels)
    losses = read_card(run, "ltn/3")["losses"]
    assert {task: loss["labels"] for task, loss in losses.items()} == {"expression": "both", "pose": "both"}
    assert {loss["n_samples"] for loss in losses.values()} == {34}


def test_networks_without_label_transfer_lend_no_labels(run, tmp_path):
    from stages.epoch.extract_features import main as extract

    with pytest.raises(ValueError, match=r"has no label transfer networks yet; raise label_transfer\.warmup"):
        extract(
            [
                *("--network", str(run.checkpoint("initial")["network"])),
                *("--card", str(run.checkpoint("initial")["card"])),
                *("--table", str(run.faces.table), "--images", str(run.faces.images), "--tasks", "pose"),
                *("--label-source", "transfer", "--output", str(tmp_path / "features.parquet")),
            ]
        )


@pytest.fixture(scope="module")
def separate(run):
    run.initialize("separate", "--separate", "True")
    return load_file(run.checkpoint("separate")["network"])


def test_single_task_networks_share_nothing(run, separate):
    assert not any("cross_stitch" in key for key in separate)
    trained = train_single(run, "stl/1", "separate", 1, "faces")
    for key, value in trained.items():
        assert torch.equal(value, separate[key]) == ("task_pose" in key), key
    card = read_card(run, "stl/1")
    assert set(card["losses"]) == {"expression"}


def test_a_single_task_network_is_the_one_that_would_be_trained_without_the_others(run, separate):
    """Whatever the other dataset holds: here it is twice as long."""
    trained = train_single(run, "stl/1", "separate", 1, "faces")
    steps = load_file(run.checkpoint("stl/1")["optimizer"])
    # Two initial passes and one epoch over 30 samples in batches of 8; two over 38.
    assert steps["step.heads.task_expression.weight"] == 3 * 4
    assert steps["step.heads.task_pose.weight"] == 2 * 5
    alone = [key for key in trained if "task_expression" in key]
    again = train_single(run, "stl/2", "stl/1", 2, "heads")
    for key in alone:
        assert torch.equal(again[key], trained[key]), key


@pytest.fixture(scope="module")
def soft_labels(run):
    return run.extract("initial", "refined")["faces"]


def refine(folder, features, strength):
    path = folder / f"refinement-{strength}.parquet"
    refine_labels.main(
        [
            *("--task", "pose", "--features", str(features), "--strength", str(strength)),
            *("--neighbors", "5", "--threads", "1", "--output", str(path)),
        ]
    )
    return path


def materialize(folder, features, *options):
    paths = {kind: folder / f"{kind}.parquet" for kind in ("weights", "labels")}
    materialize_labels.main(
        [
            *("--task", "pose", "--features", str(features), "--selection", "1"),
            *("--output-weights", str(paths["weights"]), "--output-labels", str(paths["labels"]), *options),
        ]
    )
    return read_table(paths["weights"], WEIGHTS), read_table(paths["labels"], LABELS)


def test_without_strength_the_random_field_leaves_plain_pseudo_labels(tmp_path, soft_labels):
    plain = materialize(tmp_path, soft_labels)
    refined = materialize(tmp_path, soft_labels, "--refinement", str(refine(tmp_path, soft_labels, 0)))
    for one, other in zip(plain, refined, strict=True):
        for name in one.columns:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_lone_doubtful_sample_is_trained_on_what_its_neighbours_say(tmp_path, soft_labels):
    table = read_table(soft_labels, FEATURES)
    likely = table["soft_label_pose"].argmax(1)
    probabilities = np.where(np.eye(2)[likely] == 1, 0.9, 0.1).astype(np.float32)
    nearest = ((table["features_pose"][:, None] - table["features_pose"][None]) ** 2).sum(-1).argsort(1)[:, :6]
    lone = int(np.argmax((likely[nearest] == likely[:, None]).all(1)))
    probabilities[lone] = np.where(np.eye(2)[likely[lone]] == 1, 0.45, 0.55)
    doubtful = tmp_path / "features.parquet"
    metadata = {key: table.metadata[key] for key in FEATURES.metadata}
    columns = {**table.columns, "soft_label_pose": probabilities}
    write_table(doubtful, FEATURES, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    path = refine(tmp_path, doubtful, 1)
    refinement = read_table(path, REFINEMENT)
    assert refinement["pseudo_label"][lone] != likely[lone] == refinement["refined_label"][lone]
    weights, labels = materialize(tmp_path, doubtful, "--refinement", str(path))
    np.testing.assert_array_equal(weights["pseudo_label"], refinement["refined_label"])
    np.testing.assert_array_equal(labels["training_label"].argmax(1), refinement["refined_label"])
    assert (labels["training_label"].max(1) == 1).all()
