import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.storage.checkpoints import load_network
from stages.storage.contracts import FEATURES
from stages.storage.tables import read_table


@pytest.fixture(scope="module")
def features(run):
    return run.extract("initial", "extract")


def test_each_dataset_has_the_tasks_it_is_needed_for(run, features):
    for name, task in (("faces", "pose"), ("heads", "pose")):
        table = read_table(features[name], FEATURES)
        assert set(table.columns) == {"sample_id", f"features_{task}", f"soft_label_{task}", f"label_{task}"}
        assert table.metadata["dim"] == 6
        assert table.metadata["classes"] == {"pose": ["frontal", "left"]}
        assert len(table) == len(getattr(run, name).labels)


def test_features_and_soft_labels_are_those_of_the_network(run, features):
    network = load_network(run.checkpoint("initial")["network"]).eval()
    images = torch.from_numpy(run.faces.pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected, scores = network.extract(images)
    table = read_table(features["faces"], FEATURES)
    unit = expected["pose"] / expected["pose"].norm(dim=1, keepdim=True)
    np.testing.assert_allclose(table["features_pose"], unit, atol=1e-5)
    np.testing.assert_allclose(table["soft_label_pose"], scores["pose"].softmax(1), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(table["features_pose"], axis=1), 1, atol=1e-6)


def extract(run, *options):
    from stages.epoch.extract_features import main

    main(
        [
            *("--network", str(run.checkpoint("initial")["network"]), "--threads", "1"),
            *("--card", str(run.checkpoint("initial")["card"])),
            *("--table", str(run.faces.table), "--images", str(run.faces.images)),
            *options,
        ]
    )


def test_without_normalisation_features_keep_their_length(run, features, tmp_path):
    output = tmp_path / "f.parquet"
    extract(run, "--tasks", "pose", "expression", "--normalize", "none", "--output", str(output))
    raw = read_table(output, FEATURES)
    assert np.ptp(np.linalg.norm(raw["features_pose"], axis=1)) > 1e-3
    unit = raw["features_pose"] / np.linalg.norm(raw["features_pose"], axis=1, keepdims=True)
    np.testing.assert_allclose(unit, read_table(features["faces"], FEATURES)["features_pose"], atol=1e-6)
    assert raw.metadata["classes"]["expression"] == ["angry", "happy", "sad"]


def test_the_teacher_is_the_average_or_the_last_weights(run, tmp_path):
    run.initialize("averaged", "--average", "0.9")
    files = run.checkpoint("averaged")
    own = ("--network", str(files["network"]), "--card", str(files["card"]))
    # The average changes nothing in training.
    plain = load_file(run.checkpoint("initial")["network"])
    last = {name: value for name, value in load_file(files["optimizer"]).items() if name.startswith("last.")}
    assert set(last) == {f"last.{name}" for name in plain}
    assert all(torch.equal(last[f"last.{name}"], value) for name, value in plain.items())
    labels = {}
    for name, options in {
        "plain": (),
        "averaged": own,
        "last": (*own, "--last-weights", str(files["optimizer"])),
    }.items():
        extract(run, "--tasks", "pose", *options, "--output", str(tmp_path / "f.parquet"))
        labels[name] = read_table(tmp_path / "f.parquet", FEATURES)["soft_label_pose"]
    np.testing.assert_array_equal(labels["last"], labels["plain"])
    assert np.abs(labels["averaged"] - labels["last"]).max() > 1e-3


def test_an_unknown_task_is_refused(run, tmp_path):
    output = tmp_path / "f.parquet"
    with pytest.raises(ValueError, match=r"has no task \['mood'\]; its tasks are \['expression', 'pose'\]"):
        extract(run, "--tasks", "mood", "--output", str(output))
    assert not output.exists()
