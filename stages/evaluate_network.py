"""Score a checkpoint on the test split of every dataset, each for its own task."""

from stages.command import run_stage, show_progress, stage_parser
from stages.core.metrics import count_confusion, score_confusion
from stages.core.training import choose_device, place_network, predict_batches, prepare_torch
from stages.options import add_compute_options, add_split_options, open_splits
from stages.storage.checkpoints import load_network
from stages.storage.files import read_json, write_json
from stages.storage.tables import Provenance


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="checkpoint to score")
    parser.add_argument("--card", required=True, metavar="JSON", help="its checkpoint.json")
    parser.add_argument("--split", default="test", help="name of the split, for the record")
    add_split_options(parser)
    parser.add_argument("--batch-size", type=int, default=256, help="images at a time")
    parser.add_argument("--output", required=True, metavar="JSON", help="accuracy, macro-F1, confusion matrix per task")
    add_compute_options(parser)
    options = parser.parse_args(argv)
    splits = open_splits(options)
    card = read_json(options.card)
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    network = place_network(load_network(options.network, splits), device)
    tasks = {}
    for split in splits:
        n_classes = len(split.classes)
        confusion = 0
        batches = predict_batches(network, split.images, batch_size=options.batch_size, device=device)
        n_batches = -(-len(split.images) // options.batch_size)
        for rows, _, probabilities in show_progress(batches, description=split.name, total=n_batches):
            predictions = probabilities[split.task].argmax(axis=1)
            confusion = confusion + count_confusion(split.labels[rows], predictions, n_classes)
        tasks[split.task] = {
            "dataset": split.name,
            "split": options.split,
            "n_samples": len(split.labels),
            **score_confusion(confusion),
            "classes": split.classes,
            "confusion_matrix": confusion.tolist(),
        }
    provenance = Provenance(
        "evaluate_network",
        {"split": options.split, "batch_size": options.batch_size},
        [options.network, *options.tables],
    )
    content = {"epoch": card["epoch"], "trained_dataset": card["dataset"], "tasks": tasks}
    write_json(options.output, {**content, **provenance.describe(options.output)})
    scores = "  ".join(f"{task} {scores['accuracy']:.1%}" for task, scores in tasks.items())
    print(f"epoch {card['epoch']:3d}  {options.split} accuracy: {scores}")


if __name__ == "__main__":
    run_stage(main)
