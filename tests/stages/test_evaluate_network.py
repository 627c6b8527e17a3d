import json

import numpy as np
import pytest
import torch

from stages.evaluate_network import main
from stages.storage.checkpoints import load_network


def evaluate(run, output, *options):
    files = run.checkpoint("initial")
    main(
        [
            *("--network", str(files["network"]), "--card", str(files["card"]), "--threads", "1"),
            *("--tables", str(run.test_faces.table), str(run.test_heads.table)),
            *("--images", str(run.test_faces.images), str(run.test_heads.images)),
            *("--batch-size", "5", "--output", str(output), *options),
        ]
    )


def test_scores_are_counted_from_the_predictions(run, tmp_path):
    evaluate(run, tmp_path / "metrics.json")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    network = load_network(run.checkpoint("initial")["network"]).eval()
    for task, split in (("expression", run.test_faces), ("pose", run.test_heads)):
        with torch.no_grad():
            predicted = network(torch.from_numpy(split.pixels).permute(0, 3, 1, 2))[task].argmax(1).numpy()
        scores = metrics["tasks"][task]
        assert scores["accuracy"] == pytest.approx((predicted == split.labels).mean())
        assert np.trace(scores["confusion_matrix"]) == (predicted == split.labels).sum()
        assert np.sum(scores["confusion_matrix"], 1).tolist() == np.bincount(split.labels).tolist()
        assert scores["n_samples"] == len(split.labels)
        assert scores["split"] == "test"
    assert metrics["tasks"]["pose"]["classes"] == ["frontal", "left"]
    assert (metrics["epoch"], metrics["trained_dataset"]) == (0, None)


def test_datasets_that_the_network_was_not_made_for_are_refused(run, tmp_path):
    files = run.checkpoint("initial")
    with pytest.raises(ValueError, match="does not exist; run snakemake for it first"):
        evaluate(run, tmp_path / "m.json", "--network", str(files["network"]) + ".no")
    assert not (tmp_path / "m.json").exists()
