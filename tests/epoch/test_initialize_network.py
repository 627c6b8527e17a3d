import json

import pytest
import torch
from safetensors.torch import load_file


def read_card(run, name):
    return json.loads(run.checkpoint(name)["card"].read_text())


def test_the_card_says_what_was_trained(run):
    card = read_card(run, "initial")
    assert card["epoch"] == 0
    assert card["dataset"] is None
    assert card["n_samples"] == 68
    assert {task: loss["n_samples"] for task, loss in card["losses"].items()} == {
        "expression": 30,
        "pose": 38,
    }
    assert {loss["labels"] for loss in card["losses"].values()} == {"given"}
    assert card["stage"] == "initialize_network"
    assert set(card["inputs"]) == {"../faces/train.parquet", "../heads/train.parquet"}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(run):
    run.initialize("again")
    run.initialize("other", "--seed", "1")
    first = run.checkpoint("initial")
    for key in ("network", "optimizer"):
        assert first[key].read_bytes() == run.checkpoint("again")[key].read_bytes()
        assert first[key].read_bytes() != run.checkpoint("other")[key].read_bytes()
    cards = [read_card(run, name) for name in ("initial", "again")]
    for card in cards:
        assert card.pop("seconds") > 0
        # Of the whole card, seconds and all.
        assert card.pop("digest")
    assert cards[0] == cards[1]


def test_no_absolute_path_is_left_in_a_checkpoint(run):
    for path in run.checkpoint("initial").values():
        assert str(run.folder).encode() not in path.read_bytes()


def test_more_passes_fit_better(run):
    run.initialize("long", "--passes", "6")
    for task in ("expression", "pose"):
        short, long = (read_card(run, name)["losses"][task]["cross_entropy"] for name in ("initial", "long"))
        assert long < short


def test_augmentation_changes_what_is_learned(run):
    run.initialize("shifted", "--augmentation", '{"shift": 1}')
    first, shifted = (load_file(run.checkpoint(name)["network"]) for name in ("initial", "shifted"))
    assert not torch.equal(first["backbone.0.weight"], shifted["backbone.0.weight"])


def test_tables_and_images_must_pair_up(run):
    with pytest.raises(ValueError, match="--tables names 2 files and --images 1"):
        run.initialize("broken", "--images", str(run.faces.images))
    assert not run.checkpoint("broken")["network"].exists()


def test_images_of_another_dataset_are_refused(run):
    with pytest.raises(ValueError, match=r"holds uint8 \(38, 8, 8, 1\), but .* describes uint8 \(30, 8, 8, 1\)"):
        run.initialize("broken", "--images", str(run.heads.images), str(run.heads.images))
