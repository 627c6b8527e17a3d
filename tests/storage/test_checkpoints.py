import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from stages.core.augmentation import Augmentation
from stages.core.average import MovingAverage
from stages.core.batches import EpochBatches, TrainingSet
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.optimizers import OPTIMIZERS, Adam
from stages.core.targets import Targets, one_hot
from stages.core.training import place_network, train_pass
from stages.storage.checkpoints import load_last_weights, load_network, load_optimizer, save_network, save_optimizer
from stages.storage.contracts import CHECKPOINT
from stages.storage.files import digest_file, write_json
from stages.storage.provenance import Provenance

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


def list_weights():
    return {name: value.contiguous() for name, value in build().state_dict().items()}


def make_batches(seed):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    targets = {"pose": one_hot(rng.integers(0, 2, 24), 2), "age": one_hot(rng.integers(0, 2, 24), 2)}
    targets = {task: Targets.for_all(vectors, given=False) for task, vectors in targets.items()}
    training_set = TrainingSet(images, np.arange(24), targets)
    return EpochBatches([training_set], batch_size=8, augmentation=Augmentation(), order_seed=seed, augmentation_seed=0)


def prepare(network, decay=None, optimizer="adam"):
    """What a pass trains."""
    options = {"weight_decay": 0.1, "momentum": 0.9, "clip_norm": 0.5} if optimizer != "adam" else {}
    return network, OPTIMIZERS[optimizer](network, 1e-2, **options), MovingAverage(network, decay) if decay else None


def train(network, optimizer, average, seed):
    train_pass(network, optimizer, make_batches(seed), CPU, average=average)


@pytest.mark.parametrize(("decay", "name"), [(None, "adam"), (0.9, "adam"), (0.9, "adamw"), (None, "sgd")])
def test_training_through_checkpoints_equals_training_without_to_the_bit(tmp_path, decay, name):
    straight, through = prepare(build(), decay, name), prepare(build(), decay, name)
    for seed in range(3):
        train(*straight, seed)
        train(*through, seed)
        network, optimizer, average = through
        save_network(tmp_path / "network", network, average)
        save_optimizer(tmp_path / "optimizer", optimizer, average)
        through = prepare(place_network(load_network(tmp_path / "network"), CPU), decay, name)
        load_optimizer(tmp_path / "optimizer", *through[1:])
    for part, other in zip(straight[1:], through[1:], strict=True):
        for parameter, state in part.state.items() if part else ():
            for key, value in state.items():
                assert torch.equal(value, other.state[parameter][key]), f"{key} of {parameter}"
    for name, value in straight[0].state_dict().items():
        assert torch.equal(value, through[0].state_dict()[name]), name
        if decay:
            assert torch.equal(straight[2].weights[name], through[2].weights[name]), name


def test_what_is_used_is_the_average_and_the_last_weights_can_be_had(tmp_path):
    network, optimizer, average = prepare(build(), 0.9)
    train(network, optimizer, average, 0)
    save_network(tmp_path / "network", network, average)
    save_optimizer(tmp_path / "optimizer", optimizer, average)
    loaded = load_network(tmp_path / "network")
    assert torch.equal(loaded.cross_stitch, average.weights["cross_stitch"])
    assert not torch.equal(loaded.cross_stitch, network.cross_stitch)
    load_last_weights(tmp_path / "optimizer", loaded)
    assert torch.equal(loaded.cross_stitch, network.cross_stitch)
    save_optimizer(tmp_path / "optimizer", optimizer)
    with pytest.raises(ValueError, match="optimizer: holds no weights beside an average of this network"):
        load_last_weights(tmp_path / "optimizer", loaded)
    with pytest.raises(ValueError, match=r"optimizer: the last of .* is missing or of another shape"):
        load_optimizer(tmp_path / "optimizer", optimizer, average)


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
    return Namespace(classes={task: list(classes)}, images=images, path_table="train.parquet")


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


DESCRIPTION = {
    "backbone": "vgg_tiny",
    "image_shape": [8, 8, 3],
    "head_features": 6,
    "classes": {"pose": ["left", "right"], "age": ["young", "old"]},
    "cross_stitch_identity": 0.9,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
CRAFTED = [
    *("", "{", "[]", "null", "7", '"vgg_tiny"', "{}", "[" * 100_000, "9" * 5000),
    *(json.dumps({key: value for key, value in DESCRIPTION.items() if key != gone}) for gone in DESCRIPTION),
    *(
        json.dumps(DESCRIPTION | change)
        for change in (
            {"color": 1},
            {"backbone": 16},
            {"backbone": "vgg_61"},
            {"backbone": "vgg16\nvgg19"},
            {"backbone": "resnet18"},
            {"image_shape": [8, 8]},
            {"image_shape": [8, -8, 3]},
            {"image_shape": [8, 8, 3.0]},
            {"image_shape": [2**30, 2**30, 3]},
            {"image_shape": [10**40, 8, 3]},
            {"image_shape": "8x8"},
            {"image_shape": None},
            {"image_shape": [4, 4, 3]},
            {"head_features": 0},
            {"head_features": -6},
            {"head_features": "6"},
            {"head_features": True},
            {"head_features": 2**31 - 1},
            {"head_features": 10**30},
            {"classes": []},
            {"classes": {}},
            {"classes": {"pose": "left"}},
            {"classes": {"pose": [], "age": ["young", "old"]}},
            {"classes": {"pose": ["left", "left"], "age": ["young", "old"]}},
            {"classes": {"pose": ["left", 2], "age": ["young", "old"]}},
            {"classes": {"po.se": ["left", "right"], "age": ["young", "old"]}},
            {"classes": {"pose": ["left", "right"]}},
            {"cross_stitch_identity": "much"},
            {"cross_stitch_identity": float("nan")},
            {"mean": 0.5},
            {"mean": [0.5]},
            {"mean": [0.5, None, 0.5]},
            {"std": [0.5, 0.5, 0]},
            {"std": [0.5, 0.5, float("inf")]},
            {"std": [0.5, 0.5, 10**400]},
            {"fit": "squeeze"},
            {"fit": ["stretch"]},
            {"separate": "yes"},
            {"separate": True},
            {"label_transfer": 1},
            {"label_transfer": True},
        )
    ),
]


@pytest.mark.parametrize("description", CRAFTED, ids=lambda description: description[-40:])
def test_any_description_of_a_network_is_read_or_refused_in_one_line(tmp_path, description):
    path = tmp_path / "network.safetensors"
    save_file(list_weights(), path, metadata={"network": description})
    with pytest.raises(
        ValueError, match=r"network\.safetensors: its (description|weights) .* (use that|run snake)"
    ) as e:
        load_network(path)
    assert len(str(e.value).removeprefix(str(path))) < 400
    assert str(e.value).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("heads.task_pose.weight"),
        lambda weights: weights.update(more=torch.zeros(1)),
        lambda weights: weights.update(cross_stitch=torch.zeros(3, 3)),
        lambda weights: weights.update(cross_stitch=torch.eye(2, dtype=torch.float64)),
        lambda weights: weights.update(cross_stitch=torch.eye(2, dtype=torch.int8)),
        lambda weights: weights.update(cross_stitch=torch.eye(2).to(torch.float8_e4m3fn)),
        lambda weights: weights.update(cross_stitch=torch.zeros(0)),
        lambda weights: weights.clear(),
    ],
)
def test_any_weights_are_read_or_refused_in_one_line(tmp_path, change):
    path, weights = tmp_path / "network.safetensors", list_weights()
    change(weights)
    save_file(weights, path, metadata={"network": json.dumps(DESCRIPTION)})
    with pytest.raises(ValueError, match=r"safetensors: its weights do not fit .* run snakemake again$") as error:
        load_network(path)
    assert str(error.value).isprintable()


def test_weights_that_are_not_finite_are_named(tmp_path):
    network = build()
    with torch.no_grad():
        network.heads["task_age"].bias[2] = torch.nan
    save_network(tmp_path / "network", network)
    with pytest.raises(ValueError, match=r"network: its heads\.task_age\.bias has values that are not finite;"):
        load_network(tmp_path / "network")


def test_a_file_is_the_one_that_its_card_records(tmp_path):
    network = build()
    optimizer = Adam(network, 1e-2)
    paths, card = [tmp_path / "network.safetensors", tmp_path / "optimizer.safetensors"], tmp_path / "checkpoint.json"
    save_network(paths[0], network)
    save_optimizer(paths[1], optimizer)
    content = dict.fromkeys(CHECKPOINT.keys) | {"files": {path.name: digest_file(path) for path in paths}}
    write_json(card, CHECKPOINT, content, Provenance("test", {}, []))
    load_network(paths[0], card=card)
    load_optimizer(paths[1], Adam(network, 1e-2), card=card)
    for path, load in zip(
        paths, (load_network, lambda path, card: load_optimizer(path, Adam(network, 1e-2), card=card)), strict=True
    ):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=rf"{path.name}: is not the file that .*checkpoint\.json records"):
            load(path, card=card)


def test_optimizers_of_any_names_are_refused(tmp_path):
    save_file({"momentum": torch.zeros(1)}, tmp_path / "optimizer")
    with pytest.raises(ValueError, match="it belongs to another network"):
        load_optimizer(tmp_path / "optimizer", Adam(build(), 1e-2))


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
