"""Score a checkpoint on held-out splits of every dataset, each for its own task.

The validation split is there to choose an epoch, the test split to report on it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.command.options import add_compute_options, add_split_options, confirm_splits, open_splits
from stages.command.stage import positive_int, run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.metrics import count_confusion, score_confusion
from stages.core.training import choose_device, place_network, predict_batches, prepare_torch
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
    classes = {}
    for split in splits:
        if split.split not in confusions:
            listed = " and ".join(confusions)
            raise UserError(f"{split.path_table}: is a {split.split} split; name {listed} splits only")
        confusion = np.zeros((len(split.classes),) * 2, dtype=np.int64)
        batches = predict_batches(
            network, split.images, batch_size=options.batch_size, device=device, tasks=[split.task]
        )
        n_batches = -(-len(split.images) // options.batch_size)
        for rows, _, probabilities in show_progress(batches, description=split.name, total=n_batches):
            predictions = probabilities[split.task].argmax(axis=1)
            confusion += count_confusion(split.labels[rows], predictions, len(confusion))
        confusions[split.split].setdefault(split.task, {})[split.name] = confusion
        classes[split.task] = split.classes
    scores = {
        split: {task: describe_scores(split, by_dataset, classes[task]) for task, by_dataset in tasks.items()}
        for split, tasks in confusions.items()
    }
    confirm_splits(splits)
    provenance = Provenance(
        "evaluate_network",
        {"batch_size": options.batch_size},
        [options.network, *options.tables],
        device=device.type,
        precision="float32",
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
