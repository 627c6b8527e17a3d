from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from stages.core.adam import Adam
from stages.core.augmentation import Augmentation
from stages.core.batches import EpochBatches, TrainingSet, one_hot
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.training import place_network, train_pass
from stages.storage.checkpoints import load_network, load_optimizer, save_network, save_optimizer

CPU = torch.device("cpu")


def build(head_features=6):
    torch.manual_seed(0)
    specification = NetworkSpecification(
        "vgg_tiny",
        (8, 8, 3),
        head_features,
        {"pose": ["left", "right"], "age": ["young", "old"]},
        0.9,
        [0.5] * 3,
        [0.5] * 3,
    )
    return place_network(MultiTaskNetwork(specification), CPU)


def make_batches(seed):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    targets = {"pose": one_hot(rng.integers(0, 2, 24), 2), "age": one_hot(rng.integers(0, 2, 24), 2)}
    training_set = TrainingSet(images, np.arange(24), targets, "expression")
    return EpochBatches([training_set], batch_size=8, augmentation=Augmentation(), order_seed=seed, augmentation_seed=0)


def test_training_through_checkpoints_equals_training_without_to_the_bit(tmp_path):
    network = build()
    optimizer = Adam(network, 1e-2)
    resumed = build()
    resumed_optimizer = Adam(resumed, 1e-2)
    for seed in range(3):
        train_pass(network, optimizer, make_batches(seed), CPU)
        train_pass(resumed, resumed_optimizer, make_batches(seed), CPU)
        save_network(tmp_path / "network", resumed)
        save_optimizer(tmp_path / "optimizer", resumed_optimizer)
        resumed = place_network(load_network(tmp_path / "network"), CPU)
        resumed_optimizer = Adam(resumed, 1e-2)
        load_optimizer(tmp_path / "optimizer", resumed_optimizer)
    for (name, value), other in zip(network.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(value, other), name
        for key, moment in optimizer.state[name].items():
            assert torch.equal(moment, resumed_optimizer.state[name][key]), f"{key} of {name}"


def test_a_checkpoint_describes_its_network(tmp_path):
    network = build()
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    assert loaded.specification.classes == {"pose": ["left", "right"], "age": ["young", "old"]}
    assert loaded.specification.image_shape == (8, 8, 3)
    images = torch.rand(2, 3, 8, 8) * 255
    torch.testing.assert_close(place_network(loaded, CPU)(images), network(images), rtol=0, atol=0)


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in "ab":
        save_network(tmp_path / name, build())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def make_split(classes=("left", "right"), shape=(8, 8, 3), task="pose"):
    images = np.zeros((1, *shape), dtype=np.uint8)
    return Namespace(task=task, classes=list(classes), images=images, path_table="train.parquet")


@pytest.mark.parametrize("split", [make_split(("left", "up")), make_split(shape=(9, 8, 3)), make_split(task="mood")])
def test_a_checkpoint_for_another_network_is_refused(tmp_path, split):
    save_network(tmp_path / "network", build())
    load_network(tmp_path / "network", [make_split()])
    with pytest.raises(ValueError, match="is a checkpoint for another network") as error:
        load_network(tmp_path / "network", [split])
    assert "\n" not in str(error.value)


def test_another_networks_optimizer_is_refused(tmp_path):
    other = build(head_features=4)
    optimizer = Adam(other, 1e-2)
    train_pass(other, optimizer, make_batches(0), CPU)
    save_optimizer(tmp_path / "optimizer", optimizer)
    network = build()
    with pytest.raises(ValueError, match="it belongs to another network"):
        load_optimizer(tmp_path / "optimizer", Adam(network, 1e-2))


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100])
def test_missing_and_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "network.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"network\.safetensors: .* run snakemake"):
        load_network(path)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="network: cannot be written: the disk is full"):
        save_network(tmp_path / "network", build())
    assert list(tmp_path.iterdir()) == []
