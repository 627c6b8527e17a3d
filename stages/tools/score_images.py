"""Score a finished network on labelled images that it has never seen.

The labels are those of the folders that the images lie in, or of a column of a table. Images that
cannot be used are listed and left out; the exit status is then 3.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.command.options import add_compute_options
from stages.command.stage import run_stage, stage_parser
from stages.command.wording import format_table
from stages.core.errors import UserError
from stages.core.metrics import count_confusion, score_classes, score_confusion
from stages.core.suggestions import list_names, suggest
from stages.data.sources.base import Sample, check_unique, locate_image
from stages.data.sources.image_folder import find_labeled_images
from stages.data.sources.table import read_rows
from stages.storage.contracts import SCORES
from stages.storage.files import write_json
from stages.storage.tables import Provenance
from stages.tools.image_batches import STATUS_SKIPPED, add_decoding_options, check_output, read_batches

LABEL = "label"
"""In the place of a task, while it is not known which one the labels are for."""


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(
        __doc__, example="mtl-sa evaluate --network network.safetensors --images faces/test --output scores.json"
    )
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network.safetensors of a run")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of <class>/…, or of a table's"
    )
    parser.add_argument("--table", type=Path, metavar="CSV|PARQUET", help="labels, where the folders are not named so")
    parser.add_argument("--path-column", default="path", help="of the table")
    parser.add_argument("--label-column", default="label", help="of the table")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="only these rows of the table, such as split=test")
    parser.add_argument(
        "--outside-data-root",
        choices=("refuse", "allow"),
        default="refuse",
        help="images that lists name outside the table's folder and --images",
    )
    parser.add_argument("--task", help="which one the labels are for; without, the one that has such classes")
    parser.add_argument("--output", required=True, metavar="JSON", help="accuracy, macro-F1, confusion matrix")
    add_decoding_options(parser)
    add_compute_options(parser)
    options = parser.parse_args(argv)
    check_output(options.output, [".json"])
    samples = read_samples(options)
    from stages.core.training import (
        choose_device,
        name_prediction_precision,
        place_network,
        predict_batch,
        prepare_torch,
    )
    from stages.storage.checkpoints import load_network

    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    network = place_network(load_network(options.network), device)
    labels = sorted({sample.labels[LABEL] for sample in samples})
    try:
        task = find_task(labels, network.specification.classes, options.task)
    except UserError as error:
        raise UserError(f"{options.table or options.images}: {error}") from None
    classes = network.specification.classes[task]
    confusion, skipped = np.zeros((len(classes), len(classes)), dtype=np.int64), []
    for found, images in read_batches(options, network.specification, options.images, samples, skipped):
        _, probabilities = predict_batch(network, images, device, [task])
        truth = np.array([classes.index(sample.labels[LABEL]) for sample in found])
        confusion += count_confusion(truth, probabilities[task].argmax(axis=1), len(classes))
    scores = score_confusion(confusion)
    inputs = [options.network, *([options.table] if options.table else [])]
    content = {
        "task": task,
        "n_samples": int(confusion.sum()),
        **scores,
        "classes": list(classes),
        "by_class": score_classes(confusion),
        "confusion_matrix": confusion.tolist(),
        "skipped": skipped,
    }
    provenance = Provenance(
        "evaluate", {"task": task}, inputs, device=device.type, precision=name_prediction_precision(device)
    )
    write_json(options.output, SCORES, content, provenance)
    print(format_scores(classes, content["by_class"]), end="")
    if absent := [name for name, row in zip(classes, confusion, strict=True) if not row.any()]:
        print(f"no images of {list_names(absent)}: macro-F1 counts these classes as 0")
    print(f"{task}: accuracy {scores['accuracy']:.1%}, macro-F1 {scores['macro_f1']:.1%} on {confusion.sum()} images")
    return STATUS_SKIPPED if skipped else 0


def read_samples(options: argparse.Namespace) -> list[Sample]:
    """The labelled images of --images and --table, sorted by path.

    Raises:
        ValueError: there are none, one is listed twice, or the folder or the table is missing or cannot be read.
    """
    if not options.images.is_dir():
        raise UserError(f"{options.images}: is not a folder; correct --images")
    if options.table:
        if not options.table.is_file():
            raise UserError(f"{options.table}: is no file; correct --table")
        pairs = read_labels(options)
    else:
        pairs = find_labeled_images(options.images)
    samples = [Sample(path, {LABEL: label}, "test") for path, label in sorted(pairs)]
    check_unique(samples, options.table or options.images)
    if not samples:
        raise UserError(
            f"{options.table or options.images}: holds no labelled images; put them into folders named after their "
            "classes, or name a table with --table"
        )
    return samples


def read_labels(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Path and label of the rows of --table that --where chooses.

    Raises:
        ValueError: the table cannot be read, there are no such rows, or no such images.
    """
    column, _, value = (options.where or "").partition("=")
    if options.where and not (column and value):
        raise UserError(f"--where: '{options.where}' is not COLUMN=VALUE; write for example split=test")
    columns = [column] if column else []
    roots = None if options.outside_data_root == "allow" else ()
    paths, text = read_rows(options.table, options.images, options.path_column, [options.label_column], columns, roots)
    chosen = [not column or text[column][row] == value for row in range(len(paths))]
    pairs = [
        (path, label) for path, label, taken in zip(paths, text[options.label_column], chosen, strict=True) if taken
    ]
    if not pairs:
        raise UserError(f"{options.table}: no row has {options.where}; correct --where")
    if not any(locate_image(options.images, path).exists() for path, _ in pairs):
        raise UserError(
            f"{options.images}: has none of the {len(pairs)} images of {options.table}, such as '{pairs[0][0]}'; name "
            "the folder that these paths start from with --images"
        )
    return pairs


def find_task(labels: Sequence[str], classes: Mapping[str, Sequence[str]], wanted: str | None) -> str:
    """The task that labels are for.

    Args:
        labels: class names.
        classes: those of every task of the network.
        wanted: the task, if it is known.

    Raises:
        ValueError: there is no such task, or a label is none of its classes, or no task or several
            have such classes.
    """
    if wanted is not None and wanted not in classes:
        raise UserError(f"--task: the network has no task '{wanted}'{suggest(wanted, classes)}")
    matching = [task for task, names in classes.items() if set(labels) <= set(names) and wanted in (None, task)]
    if len(matching) > 1:
        raise UserError(f"the labels are classes of {list_names(matching)}; choose one with --task")
    if matching:
        return matching[0]
    task = wanted or max(classes, key=lambda name: len(set(labels) & set(classes[name])))
    unknown = next(label for label in labels if label not in classes[task])
    raise UserError(
        f"the label '{unknown}' is no class of the task '{task}'{suggest(unknown, classes[task])}; "
        "rename it, or choose another task with --task"
    )


def format_scores(classes: Sequence[str], by_class: Sequence[Mapping[str, float]]) -> str:
    """A table of the classes' scores in percent."""
    shares = ("precision", "recall", "f1")
    rows = [
        [name, str(one["n_samples"]), *(f"{100 * one[key]:.1f}" for key in shares)]
        for name, one in zip(classes, by_class, strict=True)
    ]
    return format_table(["class", "images", *shares], rows)


if __name__ == "__main__":
    run_stage(main)
