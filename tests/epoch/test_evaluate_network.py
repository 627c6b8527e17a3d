import json

import numpy as np
import pytest
import torch

from stages.epoch.evaluate_network import describe_scores, main
from stages.storage.checkpoints import load_network
from tests.conftest import EXPRESSIONS, POSES, write_split


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    """The validation splits of the two datasets."""
    folder = tmp_path_factory.mktemp("validation")
    return (
        write_split(folder, "faces", "expression", EXPRESSIONS, 9, seed=5, split="validation", first_id=42),
        write_split(folder, "heads", "pose", POSES, 8, seed=6, split="validation", first_id=48),
    )


def evaluate(run, output, splits, *options):
    files = run.checkpoint("initial")
    main(
        [
            *("--network", str(files["network"]), "--card", str(files["card"]), "--threads", "1"),
            *("--tables", *(str(split.table) for split in splits)),
            *("--images", *(str(split.images) for split in splits)),
            *("--batch-size", "5", "--output", str(output), *options),
        ]
    )


def test_scores_of_both_splits_are_counted_from_the_predictions(run, validation, tmp_path):
    tested = (run.test_faces, run.test_heads)
    evaluate(run, tmp_path / "metrics.json", [validation[0], tested[0], validation[1], tested[1]])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    network = load_network(run.checkpoint("initial")["network"]).eval()
    for name, key, splits in (("test", "tasks", tested), ("validation", "validation", validation)):
        assert list(metrics[key]) == ["expression", "pose"]
        for task, dataset, split in zip(metrics[key], ("faces", "heads"), splits, strict=True):
            with torch.no_grad():
                predicted = network(torch.from_numpy(split.pixels).permute(0, 3, 1, 2))[task].argmax(1).numpy()
            scores = metrics[key][task]
            assert scores["accuracy"] == pytest.approx((predicted == split.labels).mean())
            assert np.trace(scores["confusion_matrix"]) == (predicted == split.labels).sum()
            assert np.sum(scores["confusion_matrix"], 1).tolist() == np.bincount(split.labels).tolist()
            assert scores["n_samples"] == len(split.labels)
            assert (scores["split"], scores["dataset"]) == (name, dataset)
            assert list(scores["by_dataset"]) == [dataset]
            assert ("temperature" in scores) == (name == "validation")
            of_dataset = scores["by_dataset"][dataset]
            assert of_dataset == {key: scores[key] for key in of_dataset}
    assert metrics["tasks"]["pose"]["classes"] == ["frontal", "left"]
    assert (metrics["epoch"], metrics["trained_dataset"]) == (0, None)
    assert len(metrics["inputs"]) == 5


def test_the_order_of_the_splits_does_not_matter(run, validation, tmp_path):
    splits = [*validation, run.test_faces, run.test_heads]
    scores = []
    for name, listed in (("a", splits), ("b", splits[::-1])):
        evaluate(run, tmp_path / f"{name}.json", listed)
        metrics = json.loads((tmp_path / f"{name}.json").read_text())
        scores.append([metrics["tasks"], metrics["validation"]])
    assert scores[0] == scores[1]


def test_training_splits_are_refused(run, validation, tmp_path):
    message = r"faces/train\.parquet: is a train split; name test and validation splits only"
    with pytest.raises(ValueError, match=message):
        evaluate(run, tmp_path / "m.json", [*validation, run.test_faces, run.test_heads, run.faces])
    assert not (tmp_path / "m.json").exists()


def test_datasets_that_the_network_was_not_made_for_are_refused(run, tmp_path):
    files = run.checkpoint("initial")
    splits = (run.test_faces, run.test_heads)
    with pytest.raises(ValueError, match="does not exist; run snakemake for it first"):
        evaluate(run, tmp_path / "m.json", splits, "--network", str(files["network"]) + ".no")
    assert not (tmp_path / "m.json").exists()


def test_a_task_of_several_datasets_is_scored_over_all_of_them_and_in_each():
    confusions = {"few": np.array([[1, 1], [0, 0]]), "many": np.array([[4, 0], [2, 2]])}
    scores = describe_scores("test", confusions, ["a", "b"])
    assert scores["confusion_matrix"] == [[5, 1], [2, 2]]
    assert (scores["n_samples"], scores["accuracy"], scores["dataset"]) == (10, 0.7, None)
    parts = scores["by_dataset"]
    assert {name: (part["n_samples"], part["accuracy"]) for name, part in parts.items()} == {
        "few": (2, 0.5),
        "many": (8, 0.75),
    }
    assert parts["few"]["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
