"""The script that the pipeline's speed is compared with does the same arithmetic: its networks are the same."""

import torch
from safetensors.torch import load_file

from benchmarks.monolith import Clock, read_settings, run
from stages.storage.contracts import METRICS
from stages.storage.tables import read_table


def test_pipeline_and_script_give_the_same_networks_to_the_bit(finished):
    clock = Clock()
    outcome = run(read_settings(finished.folder / "tiny.yaml"), 0, clock)
    seed = finished.results / "seed-0"
    folders = ["initial", "mtl_sa/epoch-001", "mtl_sa/epoch-002"]
    for folder, weights in zip(folders, outcome.networks, strict=True):
        stored = load_file(seed / folder / "network.safetensors")
        assert set(stored) == set(weights)
        different = [name for name, value in stored.items() if not torch.equal(value, weights[name])]
        assert not different, f"{folder}: {different}"
    assert not torch.equal(outcome.networks[0]["cross_stitch"], outcome.networks[2]["cross_stitch"])
    table = read_table(seed / "mtl_sa/metrics.parquet", METRICS)
    assert outcome.chosen == table.metadata["selected_epoch"]
    whole = [dataset is None for dataset in table["dataset"]]
    for epoch, task, split, accuracy, counts in zip(
        *(table[name] for name in ("epoch", "task", "split", "accuracy")), whole, strict=True
    ):
        if counts and split == "test":
            assert outcome.scores[epoch][task] == accuracy
    steps = {step for _, step in clock.seconds}
    assert {"extract_features", "estimate_density", "fit_mixture", "train_epoch", "evaluate_network"} <= steps
