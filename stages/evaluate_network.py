"""Score a checkpoint on held-out splits of every dataset, each for its own task.

The validation split is there to choose an epoch, the test split to report on it.
"""

from stages.command import positive_int, run_stage, show_progress, stage_parser
from stages.core.contracts import CHECKPOINT, EVALUATION
from stages.core.metrics import count_confusion, score_confusion
from stages.core.training import choose_device, place_network, predict_batches, prepare_torch
from stages.options import add_compute_options, add_split_options, confirm_splits, open_splits
from stages.storage.checkpoints import load_network
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
    scores: dict[str, dict] = {"test": {}, "validation": {}}
    for split in splits:
        if split.split not in scores:
            raise ValueError(f"{split.path_table}: is a {split.split} split; name {' and '.join(scores)} splits only")
        n_classes = len(split.classes)
        confusion = 0
        batches = predict_batches(
            network, split.images, batch_size=options.batch_size, device=device, tasks=[split.task]
        )
        n_batches = -(-len(split.images) // options.batch_size)
        for rows, _, probabilities in show_progress(batches, description=split.name, total=n_batches):
            predictions = probabilities[split.task].argmax(axis=1)
            confusion = confusion + count_confusion(split.labels[rows], predictions, n_classes)
        scores[split.split][split.task] = {
            "dataset": split.name,
            "split": split.split,
            "n_samples": len(split.labels),
            **score_confusion(confusion),
            "classes": split.classes,
            "confusion_matrix": confusion.tolist(),
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


if __name__ == "__main__":
    run_stage(main)
