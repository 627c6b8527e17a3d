import json

import numpy as np
import pytest
import torch

from stages.core.weight_names import describe_licence
from stages.data.sources.registry import READERS, describe_source, is_cropped
from stages.report.write_model_card import main
from stages.storage.contracts import CHECKPOINT, EXPORT, METRICS
from stages.storage.files import digest_file, read_json, write_json
from stages.storage.tables import Provenance, write_table

SETTINGS = {
    "experiment": "tiny",
    "datasets": {"faces": {"source": "synthetic_faces"}, "heads": {"source": "aflw"}},
    "network": {"backbone": "vgg_tiny", "pretrained": None},
}


FILES = {}
"""Digest of the network that the cards are about."""


@pytest.fixture(autouse=True)
def files(run):
    FILES["network.safetensors"] = digest_file(run.checkpoint("initial")["network"])


def write_metrics(path, accuracies, select="validation", selected_epoch=1):
    """Test accuracies of both tasks in two epochs; on validation the first epoch is better."""
    rows = [
        (epoch, task, split, accuracy - (0.2 if split == "validation" and epoch == 2 else 0))
        for epoch, pair in enumerate(accuracies, start=1)
        for split in ("validation", "test")
        for task, accuracy in zip(("expression", "pose"), pair, strict=True)
    ]
    columns = {
        "epoch": np.array([row[0] for row in rows]),
        "task": np.array([row[1] for row in rows], dtype=object),
        "split": np.array([row[2] for row in rows], dtype=object),
        "accuracy": np.array([row[3] for row in rows]),
        "macro_f1": np.array([row[3] / 2 for row in rows]),
        "dataset": np.full(len(rows), None),
        "n_samples": np.full(len(rows), 10),
        "trained_dataset": np.full(len(rows), "faces", dtype=object),
    }
    metadata = {"select": select, "selected_epoch": selected_epoch, "files": FILES}
    write_table(path, METRICS, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return path


@pytest.fixture
def write_card(run, tmp_path):
    def write(metrics, **settings):
        report = {
            "n_images": 22,
            "maximum_difference": {"probabilities_pose": 2e-7, "features_pose": 4e-7},
            "files": {"network.onnx": "sha256:abc"},
        }
        write_json(tmp_path / "export.json", EXPORT, report, Provenance("test", {}, []))
        cards = []
        for epoch in (1, 2):
            content = read_json(run.checkpoint("initial")["card"], CHECKPOINT) | {"epoch": epoch, "threads": epoch}
            write_json(tmp_path / f"{epoch}.json", CHECKPOINT, content, Provenance("test", {}, [], device="cpu"))
            cards.append(str(tmp_path / f"{epoch}.json"))
        splits = (run.faces, run.heads, run.test_faces, run.test_heads)
        main(
            [
                *("--network", str(run.checkpoint("initial")["network"]), "--export", str(tmp_path / "export.json")),
                *("--cards", *cards),
                *("--tables", *(str(split.table) for split in splits), "--seed", "3"),
                *("--metrics", *(f"{seed}={path}" for seed, path in metrics.items())),
                *("--method", json.dumps({"name": "mine", "paper_name": "My method", "schedule": "alternating"})),
                *("--settings", json.dumps({**SETTINGS, **settings}), "--output", str(tmp_path / "model_card.md")),
            ]
        )
        return (tmp_path / "model_card.md").read_text()

    return write


def test_a_card_says_what_the_network_is_and_learned_from(run, write_card, tmp_path):
    card = write_card({3: write_metrics(tmp_path / "a.parquet", [(0.5, 0.6), (0.7, 0.75)])})
    assert card.startswith("# Model card: tiny, My method, seed 3\n")
    assert (
        "* expression, labelled in faces: `angry`, `happy`, `sad`\n* pose, labelled in heads: `frontal`, `left`\n"
        in card
    )
    assert "One network for 2 tasks, expression and pose, trained with My method" in card
    assert f"torch {torch.__version__.split('+')[0]}" in card
    assert "; on cpu, 1 threads." in card
    assert digest_file(run.checkpoint("initial")["network"]).removeprefix("sha256:") in card
    assert digest_file(run.faces.images).removeprefix("sha256:") in card
    assert "* faces (expression): `angry` 10, `happy` 10, `sad` 10" in card
    assert "Largest difference from PyTorch on 22 images: 4e-07." in card
    assert "* Data of faces: drawn by this project's code.\n" in card
    assert "* Data of heads: AFLW, from https://www.tugraz.at/" in card
    assert "Pretrained weights" not in card
    assert "  schedule: alternating\n" in card
    assert str(tmp_path) not in card


def table_of(card):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in card.splitlines() if line[:1] == "|"]


def test_scores_are_those_of_every_seed_at_its_own_chosen_epoch(write_card, tmp_path):
    metrics = {
        3: write_metrics(tmp_path / "a.parquet", [(0.5, 0.6), (0.7, 0.75)]),
        5: write_metrics(tmp_path / "b.parquet", [(0.5, 0.6), (0.8, 0.85)], selected_epoch=2),
    }
    card = write_card(metrics)
    rows = table_of(card)
    assert ["3", "1", "expression", "50.0", "25.0", "50.0", "25.0"] in rows
    assert ["5", "2", "pose", "65.0", "32.5", "85.0", "42.5"] in rows
    assert ["mean", "", "pose", "62.50 ± 3.54", "31.25 ± 1.77", "72.50 ± 17.68", "36.25 ± 8.84"] in rows
    # Student's t of one degree of freedom, 12.706, times half the distance of two seeds.
    assert ["95 %", "", "pose", "[30.73, 94.27]", "[15.37, 47.13]", "[-86.33, 231.33]", "[-43.16, 115.66]"] in rows
    assert "in percent, of every seed at the epoch that was chosen in the same way:" in card


def test_a_card_says_which_epoch_and_why(write_card, tmp_path):
    card = write_card({3: write_metrics(tmp_path / "a.parquet", [(0.5, 0.6), (0.7, 0.75)])})
    assert "The network is that of epoch 1, which was the best on validation, on average over the tasks;" in card
    assert "on cpu, 1 threads." in card
    assert "Accuracy and macro-F1 in percent:" in card
    last = write_metrics(tmp_path / "b.parquet", [(0.5, 0.6), (0.6, 0.7)], select="last", selected_epoch=2)
    card = write_card({3: last})
    assert "that of epoch 2, the last; on validation, on average over the tasks, epoch 1 did better." in card
    assert "on cpu, 2 threads." in card
    assert ["3", "2", "pose", "50.0", "25.0", "70.0", "35.0"] in table_of(card)


def test_the_chosen_checkpoint_must_be_there(write_card, tmp_path):
    metrics = write_metrics(tmp_path / "a.parquet", [(0.5, 0.6)], selected_epoch=7)
    with pytest.raises(ValueError, match=r"^--cards: none is that of epoch 7, whose network was chosen; name those"):
        write_card({3: metrics})


def test_licences_of_weights_and_data_are_named(write_card, tmp_path):
    metrics = {3: write_metrics(tmp_path / "a.parquet", [(0.5, 0.6)])}
    card = write_card(metrics, network={"backbone": "vgg16", "pretrained": "VGG16_Weights.IMAGENET1K_V1"})
    assert "* Pretrained weights: started from torchvision's VGG16_Weights.IMAGENET1K_V1. " in card
    swag = describe_licence("vit_b_16", "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1")
    assert "whose licence is https://github.com/facebookresearch/SWAG" in swag
    assert (
        describe_licence("vgg16", "a/b.pth") == "started from the file b.pth; its licence is with whoever gave it out."
    )
    for source in READERS:
        assert describe_source(source).endswith(("may be used for.", "code."))


def test_equal_epochs_are_not_called_better(write_card, tmp_path):
    metrics = write_metrics(tmp_path / "a.parquet", [(0.5, 0.6), (0.7, 0.8)], select="last", selected_epoch=2)
    assert "The network is that of epoch 2, the last." in write_card({3: metrics})


def test_cut_out_images_are_said_to_be(write_card, tmp_path):
    metrics = {3: write_metrics(tmp_path / "a.parquet", [(0.5, 0.6)])}
    assert "* The images of heads were cut out of larger ones by their publisher's boxes.\n" in write_card(metrics)
    assert is_cropped({"source": "deepfashion"})
    assert not is_cropped({"source": "deepfashion", "crop": False})
