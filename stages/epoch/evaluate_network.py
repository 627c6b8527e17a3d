"""Score a checkpoint on held-out splits of every dataset, for every task on the samples that know it.

The validation split is there to choose an epoch, the test split to report on it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.command.options import add_compute_options, add_split_options, confirm_splits, open_splits
from stages.command.stage import positive_int, run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.metrics import count_confusion, score_confusion
from stages.core.reliability import fit_temperature
from stages.core.training import (
    choose_device,
    name_prediction_precision,
    place_network,
    predict_batches,
    prepare_torch,
)
from stages.storage.checkpoints import load_network
from stages.storage.contracts import CHECKPOINT, EVALUATION
from stages.storage.files import read_json, write_json
from stages.storage.tables import Provenance


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="checkpoint to score")
    parser.add_argument("--card", required=True, metavar="JSON", help="its checkpoint.json")
    add_split_options(parser)
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images at a time")
    parser.add_argument("--output", required=True, metavar="JSON", help="accuracy, macro-F1, confusion matrix per task")
    add_compute_options(parser)
    options = parser.parse_args(argv)
    splits = open_splits(options)
    card = read_json(options.card, CHECKPOINT)
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    network = place_network(load_network(options.network, splits, options.card), device)
    # By split, task and dataset.
    confusions: dict[str, dict[str, dict[str, np.ndarray]]] = {"test": {}, "validation": {}}
    # Probabilities and labels by task, of validation splits.
    held_out: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    classes = network.specification.classes
    for split in splits:
        if split.split not in confusions:
            listed = " and ".join(confusions)
            raise UserError(f"{split.path_table}: is a {split.split} split; name {listed} splits only")
        labels = {task: split.index_labels(task, classes[task]) for task in split.classes}
        labels = {task: indices for task, indices in labels.items() if (indices >= 0).any()}
        if not labels:
            continue
        found = {task: np.zeros((len(classes[task]),) * 2, dtype=np.int64) for task in labels}
        batches = predict_batches(
            network, split.images, batch_size=options.batch_size, device=device, tasks=list(labels)
        )
        n_batches = -(-len(split.images) // options.batch_size)
        for rows, _, probabilities in show_progress(batches, description=split.name, total=n_batches):
            for task, confusion in found.items():
                known = labels[task][rows] >= 0
                predictions = probabilities[task].argmax(axis=1)
                confusion += count_confusion(labels[task][rows][known], predictions[known], len(confusion))
                if split.split == "validation":
                    held_out.setdefault(task, []).append((probabilities[task][known], labels[task][rows][known]))
        for task, confusion in found.items():
            confusions[split.split].setdefault(task, {})[split.name] = confusion
    scores = {
        split: {task: describe_scores(split, tasks[task], classes[task]) for task in classes if task in tasks}
        for split, tasks in confusions.items()
    }
    for task, parts in held_out.items():
        scores["validation"][task]["temperature"] = fit_temperature(*map(np.concatenate, zip(*parts, strict=True)))
    confirm_splits(splits)
    provenance = Provenance(
        "evaluate_network",
        {"batch_size": options.batch_size},
        [options.network, *options.tables],
        device=device.type,
        precision=name_prediction_precision(device),
    )
    content = {
        "epoch": card["epoch"],
        "trained_dataset": card["dataset"],
        "tasks": scores["test"],
        "validation": scores["validation"],
    }
    write_json(options.output, EVALUATION, content, provenance)
    listed = "  ".join(f"{task} {one['accuracy']:.1%}" for task, one in scores["test"].items())
    print(f"epoch {card['epoch']:3d}  test accuracy: {listed}")


def describe_scores(split: str, confusions: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict:
    """What is written of a task on a split: over all datasets that know the task, and of each by itself.

    Args:
        split: validation or test.
        confusions: confusion matrix by dataset.
        classes: names in index order.
    """
    return {
        "dataset": next(iter(confusions)) if len(confusions) == 1 else None,
        "split": split,
        "classes": list(classes),
        **describe_confusion(sum(confusions.values())),
        "by_dataset": {dataset: describe_confusion(confusion) for dataset, confusion in confusions.items()},
    }


def describe_confusion(confusion: np.ndarray) -> dict:
    """A confusion matrix, its scores and how many samples it counts."""
    return {
        "n_samples": int(confusion.sum()),
        **score_confusion(confusion),
        "confusion_matrix": confusion.tolist(),
    }


if __name__ == "__main__":
    run_stage(main)
