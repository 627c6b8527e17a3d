import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.storage.contracts import LABELS, MANIFEST, WEIGHTS
from stages.storage.tables import Provenance, read_table, write_table
from tests.conftest import POSES


@pytest.fixture(scope="module")
def labels(run):
    features = run.extract("initial", "train")
    return run.weigh("train", features, trained="faces", task="pose", labeled="heads", number=1)["labels"]


def test_the_card_separates_given_from_materialized_labels(run, labels):
    run.train("trained", "initial", trained="faces", labels={"pose": labels}, epoch=1)
    card = json.loads(run.checkpoint("trained")["card"].read_text())
    assert (card["epoch"], card["dataset"], card["n_samples"]) == (1, "faces", 30)
    own, other = card["losses"]["expression"], card["losses"]["pose"]
    assert (own["labels"], own["label_entropy"]) == ("given", 0)
    assert other["labels"] == "materialized"
    assert other["cross_entropy"] > other["label_entropy"] > 0
    assert other["divergence"] == pytest.approx(other["cross_entropy"] - other["label_entropy"])
    assert "../faces/train.parquet" in card["inputs"]
    assert "../initial/optimizer.safetensors" in card["inputs"]


def test_the_optimizer_goes_on(run, labels):
    run.train("trained", "initial", trained="faces", labels={"pose": labels}, epoch=1)
    before, after = (load_file(run.checkpoint(name)["optimizer"]) for name in ("initial", "trained"))
    # Two passes over 68 samples and one over 30, in batches of 8.
    assert before["step.cross_stitch"] == 18
    assert after["step.cross_stitch"] == 22
    assert not torch.equal(before["exp_avg.cross_stitch"], after["exp_avg.cross_stitch"])


def test_made_labels_may_be_trained_under_stronger_changes(run, labels):
    options = ["--strong-augmentation", '{"policy": "rand_augment", "erasing": 1}']
    for name, chosen in (("trained", ["--strong-augmentation", "null"]), ("strong", options)):
        run.train(name, "initial", trained="faces", labels={"pose": labels}, epoch=1, options=chosen)
    plain, strong = (json.loads(run.checkpoint(name)["card"].read_text()) for name in ("trained", "strong"))
    assert strong["n_samples"] == plain["n_samples"] == 30
    assert strong["losses"]["pose"]["label_entropy"] == plain["losses"]["pose"]["label_entropy"]
    assert strong["losses"]["pose"]["cross_entropy"] != plain["losses"]["pose"]["cross_entropy"]
    assert plain["parameters"]["strong_augmentation"] is None
    assert strong["parameters"]["strong_augmentation"]["erasing"] == 1


def test_only_given_labels_are_smoothed(run, labels):
    options = ["--label-smoothing", "0.3", "--class-weights", "balanced"]
    for name, chosen in (("trained", []), ("smoothed", options)):
        run.train(name, "initial", trained="faces", labels={"pose": labels}, epoch=1, options=chosen)
    plain, smoothed = (
        json.loads(run.checkpoint(name)["card"].read_text())["losses"] for name in ("trained", "smoothed")
    )
    assert smoothed["pose"]["label_entropy"] == plain["pose"]["label_entropy"]
    assert plain["expression"]["label_entropy"] == 0
    # Three classes of ten samples each: all weights are 1.
    entropy = -(0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1))
    assert smoothed["expression"]["label_entropy"] == pytest.approx(entropy, rel=1e-5)


def test_an_epoch_goes_on_at_its_place_in_the_run_with_the_optimizer_it_began_with(run, labels):
    options = ["--optimizer-name", "sgd", "--momentum", "0.9", "--rate-schedule", "cosine"]
    run.initialize("sgd", *options, "--part", "0", "0.5")
    files = {"pose": labels}
    for name, part in (("early", ("0.5", "0.75")), ("late", ("0.99", "1"))):
        run.train(name, "sgd", trained="faces", labels=files, epoch=1, options=[*options, "--part", *part])
    before, early, late = (load_file(run.checkpoint(name)["network"]) for name in ("sgd", "early", "late"))
    length = {name: (after["cross_stitch"] - before["cross_stitch"]).norm() for name, after in
              (("early", early), ("late", late))}  # fmt: skip
    assert 0 < length["late"] < length["early"] / 100
    assert set(load_file(run.checkpoint("early")["optimizer"])) == {f"momentum_buffer.{name}" for name in before}
    parameters = json.loads(run.checkpoint("early")["card"].read_text())["parameters"]
    assert (parameters["optimizer"], parameters["rate_schedule"], parameters["part"]) == ("sgd", "cosine", [0.5, 0.75])
    with pytest.raises(ValueError, match=r"optimizer\.safetensors: the state step of .* is missing"):
        run.train("broken", "sgd", trained="faces", labels=files, epoch=1)


def test_an_equalized_epoch_draws_as_many_samples_as_the_datasets_have_on_average(run, labels):
    tables = ["--equalized", str(run.faces.table), str(run.heads.table)]
    run.train("equal", "initial", trained="faces", labels={"pose": labels}, epoch=1, options=tables)
    card = json.loads(run.checkpoint("equal")["card"].read_text())
    assert card["n_samples"] == card["losses"]["pose"]["n_samples"] == 34
    assert "../heads/train.parquet" in card["inputs"]


def test_other_label_vectors_train_another_network(run, labels, tmp_path):
    table = read_table(labels, LABELS)
    swapped = {**table.columns, "training_label": table["training_label"][:, ::-1].copy()}
    metadata = {key: table.metadata[key] for key in LABELS.metadata}
    write_table(tmp_path / "l.parquet", LABELS, swapped, metadata=metadata, provenance=Provenance("test", {}, []))
    run.train("trained", "initial", trained="faces", labels={"pose": labels}, epoch=1)
    run.train("swapped", "initial", trained="faces", labels={"pose": tmp_path / "l.parquet"}, epoch=1)
    first, second = (load_file(run.checkpoint(name)["network"]) for name in ("trained", "swapped"))
    assert (first["backbone.0.weight"] - second["backbone.0.weight"]).abs().max() > 1e-4


def test_a_diverging_loss_leaves_no_checkpoint(run, labels):
    with pytest.raises(ValueError, match=r"the loss of batch \d+ is nan \(sample_id [\d, ]+\)"):
        run.train(
            "diverged",
            "initial",
            trained="faces",
            labels={"pose": labels},
            epoch=1,
            options=["--learning-rate", "1e30"],
        )
    assert not any(path.exists() for path in run.checkpoint("diverged").values())


def test_labels_of_other_samples_are_refused(run, labels):
    with pytest.raises(ValueError, match=r"labels\.parquet: its samples are not those of .*heads/train\.parquet"):
        run.train("broken", "initial", trained="heads", labels={"expression": labels}, epoch=1)


def test_labels_with_other_classes_are_refused(run, labels, tmp_path):
    table = read_table(labels, LABELS)
    metadata = {**{key: table.metadata[key] for key in LABELS.metadata}, "classes": ["up", "down"]}
    path = tmp_path / "labels.parquet"
    write_table(path, LABELS, table.columns, metadata=metadata, provenance=Provenance("test", {}, []))
    with pytest.raises(ValueError, match=r"has the classes \['up', 'down'\], the network's task \['frontal', 'left'\]"):
        run.train("broken", "initial", trained="faces", labels={"pose": path}, epoch=1)


def test_labels_of_another_dataset_of_the_same_size_are_refused(run, labels, tmp_path):
    table = read_table(labels, LABELS)
    metadata = {**{key: table.metadata[key] for key in LABELS.metadata}, "dataset": "heads"}
    path = tmp_path / "labels.parquet"
    write_table(path, LABELS, table.columns, metadata=metadata, provenance=Provenance("test", {}, []))
    with pytest.raises(ValueError, match="its samples are not those of"):
        run.train("broken", "initial", trained="faces", labels={"pose": path}, epoch=1)


def test_every_sample_of_an_alternating_epoch_needs_a_label_for_every_task(run):
    with pytest.raises(ValueError, match=r"--labels: names no labels of 'pose' for faces, of which 30 samples have"):
        run.train("broken", "initial", trained="faces", labels={}, epoch=1)


def test_labels_made_where_they_are_given_are_refused(run, labels, tmp_path):
    table = read_table(labels, LABELS)
    metadata = {**{key: table.metadata[key] for key in LABELS.metadata}, "classes": ["angry", "happy", "sad"]}
    vectors = {name: np.full((len(table), 3), 1 / 3) for name in ("soft_label", "training_label")}
    path = tmp_path / "labels.parquet"
    write_table(path, LABELS, table.columns | vectors, metadata=metadata, provenance=Provenance("test", {}, []))
    with pytest.raises(ValueError, match=r"labels\.parquet: .*faces/train\.parquet has other labels by now"):
        run.train("broken", "initial", trained="faces", labels={"expression": path, "pose": labels}, epoch=1)


def rewrite_labels(path, labels, **metadata):
    """A table of labels as it is, with other metadata."""
    table = read_table(labels, LABELS)
    metadata = {key: table.metadata[key] for key in LABELS.metadata} | metadata
    write_table(path, LABELS, table.columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return path


def test_a_strength_scales_the_loss_of_a_task_without_given_labels(run, labels, tmp_path):
    losses = {}
    for strength in (1, 0.5):
        path = rewrite_labels(tmp_path / "l.parquet", labels, strength=strength)
        # One step, so that both see the same network.
        options = ["--batch-size", "30"]
        run.train("scaled", "initial", trained="faces", labels={"pose": path}, epoch=1, options=options)
        losses[strength] = json.loads(run.checkpoint("scaled")["card"].read_text())["losses"]
    for key in ("cross_entropy", "label_entropy", "divergence"):
        assert losses[0.5]["pose"][key] == pytest.approx(losses[1]["pose"][key] / 2, rel=1e-5)
    assert losses[0.5]["expression"] == losses[1]["expression"]


@pytest.mark.parametrize("trained", ["faces", "all"])
def test_without_strength_training_is_that_on_given_labels_alone(run, labels, tmp_path, trained):
    path = rewrite_labels(tmp_path / "l.parquet", labels, strength=0)
    splits = (run.faces, run.heads)
    mixed = ["--schedule", "mixed"]
    if trained == "all":
        mixed += ["--tables", *(str(split.table) for split in splits), "--images", *(str(s.images) for s in splits)]
    run.train("without", "initial", trained="faces", labels={"pose": path}, epoch=1, options=mixed)
    run.train("alone", "initial", trained="faces", labels={}, epoch=1, options=mixed)
    without, alone = (run.checkpoint(name)["network"].read_bytes() for name in ("without", "alone"))
    assert without == alone
    card = json.loads(run.checkpoint("without")["card"].read_text())
    assert {task: loss["labels"] for task, loss in card["losses"].items()} == (
        {"expression": "given"} if trained == "faces" else {"expression": "given", "pose": "given"}
    )
    # With any strength it is another.
    run.train("with", "initial", trained="faces", labels={"pose": labels}, epoch=1, options=mixed)
    assert run.checkpoint("with")["network"].read_bytes() != alone


def add_poses(run, folder):
    """The faces with a pose given for every other one."""
    table = read_table(run.faces.table, MANIFEST)
    poses = np.array([POSES[number // 2 % 2] if number % 2 else None for number in range(30)], dtype=object)
    metadata = {key: table.metadata[key] for key in MANIFEST.metadata}
    metadata |= {"tasks": ["expression", "pose"], "classes": table.metadata["classes"] | {"pose": POSES}}
    columns, provenance = {**table.columns, "label_pose": poses}, Provenance("test", {}, [])
    write_table(folder / "train.parquet", MANIFEST, columns, metadata=metadata, provenance=provenance)
    shutil.copy(run.faces.images, folder / "train.npy")
    return replace(run.faces, table=folder / "train.parquet", images=folder / "train.npy"), poses


@pytest.mark.parametrize("schedule", ["alternating", "mixed"])
def test_where_some_labels_are_given_the_others_are_made_and_count_by_their_strength(run, tmp_path, schedule):
    partly, poses = add_poses(run, tmp_path)
    there = replace(run, folder=tmp_path, faces=partly)
    there.initialize()
    features = there.extract("initial", "gaps")
    made = there.weigh("gaps", features, trained="faces", task="pose", labeled="heads", number=1)
    table = read_table(made["labels"], LABELS)
    given = np.array([pose is not None for pose in poses])
    np.testing.assert_array_equal(table["given"], given)
    assert len(read_table(made["weights"], WEIGHTS)) == 15
    options = ["--schedule", schedule, "--batch-size", "30"]
    loss = {}
    for strength in (0, 0.5, 1):
        path = rewrite_labels(tmp_path / "l.parquet", made["labels"], strength=strength)
        there.train("gaps", "initial", trained="faces", labels={"pose": path}, epoch=1, options=options)
        card = json.loads(there.checkpoint("gaps")["card"].read_text())
        loss[strength] = card["losses"]["pose"]
    assert [loss[strength]["labels"] for strength in (0, 0.5, 1)] == ["given", "both", "both"]
    assert [loss[strength]["n_samples"] for strength in (0, 0.5, 1)] == [15, 30, 30]
    # One step, so that all see the same network: the mean of both kinds, and of the given ones alone.
    given_only, all_alike = loss[0]["cross_entropy"], loss[1]["cross_entropy"]
    made_only = 2 * all_alike - given_only
    assert loss[0.5]["cross_entropy"] == pytest.approx((given_only + 0.5 * made_only) / 1.5, rel=1e-4)
    path = rewrite_labels(tmp_path / "l.parquet", made["labels"], strength=0.5, normalization="separate")
    there.train("gaps", "initial", trained="faces", labels={"pose": path}, epoch=1, options=options)
    apart = json.loads(there.checkpoint("gaps")["card"].read_text())["losses"]["pose"]
    assert apart["cross_entropy"] == pytest.approx(given_only + 0.5 * made_only, rel=1e-4)


def test_a_last_step_that_diverges_leaves_no_checkpoint(run, labels):
    options = ["--learning-rate", "1e39", "--batch-size", "30"]
    with pytest.raises(ValueError, match=r"the last step left .* with values that are not finite"):
        run.train("diverged", "initial", trained="faces", labels={"pose": labels}, epoch=1, options=options)
    assert not any(path.exists() for path in run.checkpoint("diverged").values())
