"""Train one epoch: on one dataset (equations 5 and 9) or on a share of all of them mixed.

A dataset's own task learns from its given labels, the other tasks from the label vectors that were
materialized for it, where the method has any. The optimizer goes on from the checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stages.command import run_stage, show_progress, stage_parser
from stages.core.adam import Adam
from stages.core.batches import EpochBatches, TrainingSet, one_hot
from stages.core.contracts import LABELS
from stages.core.network import MultiTaskNetwork, add_label_transfer
from stages.core.regularization import Regularization
from stages.core.schedule import SCHEDULES
from stages.core.seeds import derive_seed
from stages.core.training import choose_device, name_training_precision, place_network, prepare_torch, train_pass
from stages.options import (
    Stopwatch,
    add_split_options,
    add_training_options,
    confirm_splits,
    open_splits,
    read_augmentation,
    training_parameters,
)
from stages.storage.checkpoints import load_network, load_optimizer, save_checkpoint
from stages.storage.datasets import PreparedSplit
from stages.storage.tables import Provenance, read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--schedule", choices=SCHEDULES, default="alternating", help="of the method")
    add_split_options(parser)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="weights to go on from")
    parser.add_argument("--optimizer", required=True, metavar="SAFETENSORS", help="Adam's state to go on from")
    parser.add_argument("--card", required=True, metavar="JSON", help="checkpoint.json of both")
    parser.add_argument("--labels", nargs="*", default=[], metavar="TASK=PARQUET", help="labels of the other tasks")
    parser.add_argument("--epoch", type=int, required=True, help="number of this epoch, from 1")
    parser.add_argument("--label-transfer", choices=("True", "False"), default="False", help="train such networks too")
    parser.add_argument("--laplacian", type=float, default=0, help="weight of the batch graph's roughness")
    parser.add_argument("--l21", type=float, default=0, help="weight of the classifiers' l2,1 norms")
    parser.add_argument(
        "--joint-nuclear", type=float, default=0, help="weight of the stacked classifiers' nuclear norm"
    )
    parser.add_argument("--task-nuclear", type=float, default=0, help="weight of the classifiers' nuclear norms")
    parser.add_argument("--neighbors", type=int, default=5, help="of a sample in the batch graph")
    parser.add_argument("--discard", nargs="*", default=[], metavar="PATH", help="deleted once the epoch is trained")
    add_training_options(parser)
    options = parser.parse_args(argv)
    stopwatch = Stopwatch()
    splits = open_splits(options)
    regularization = Regularization(
        laplacian=options.laplacian,
        l21=options.l21,
        joint_nuclear=options.joint_nuclear,
        task_nuclear=options.task_nuclear,
        n_neighbors=options.neighbors,
    )
    prepare_torch(options.threads, derive_seed(options.seed, options.epoch, "training"))
    device = choose_device(options.device)
    network = load_network(options.network, splits, options.card)
    known = set(dict(network.named_parameters()))
    if options.label_transfer == "True" and not network.specification.label_transfer:
        # Their first weights are those that the seed gives after a whole network's: what it was loaded into, once.
        MultiTaskNetwork(network.specification)
        network = add_label_transfer(network)
    network = place_network(network, device)
    optimizer = Adam(network, options.learning_rate)
    load_optimizer(options.optimizer, optimizer, fresh=set(optimizer.state) - known, card=options.card)
    classes = network.specification.classes
    path_labels = [tuple(entry.split("=", 1)) for entry in options.labels]
    if options.schedule == "alternating":
        check_tasks([task for task, _ in path_labels], splits[0].task, classes)
    labels = read_labels(path_labels, splits, classes)
    training_sets = [
        TrainingSet(
            split.images,
            split.sample_ids,
            {split.task: one_hot(split.labels, len(split.classes)), **labels[split.name]},
            split.task,
        )
        for split in splits
    ]
    # With K datasets an epoch is a K-th of a pass, so that K epochs see every sample once whatever
    # the schedule.
    place = (options.epoch - 1) % len(splits)
    batches = EpochBatches(
        training_sets,
        batch_size=options.batch_size,
        augmentation=read_augmentation(options),
        order_seed=derive_seed(options.seed, options.epoch - place, "order"),
        augmentation_seed=derive_seed(options.seed, options.epoch - place, "augmentation"),
        share=(place, len(splits)),
    )
    loader = batches.load(options.loader_workers, pin_memory=device.type == "cuda")
    progress = show_progress(loader, description=f"epoch {options.epoch}")
    losses = train_pass(network, optimizer, progress, device, regularization)
    confirm_splits(splits)
    given = {split.task for split in splits}
    materialized = {task for targets in labels.values() for task in targets}
    kinds = {
        task: "both" if task in given & materialized else "given" if task in given else "materialized"
        for task in losses.tasks
    }
    save_checkpoint(
        options,
        network,
        optimizer,
        provenance=Provenance(
            "train_epoch",
            {
                "epoch": options.epoch,
                "schedule": options.schedule,
                "regularization": asdict(regularization),
                **training_parameters(options),
            },
            [*options.tables, options.network, options.optimizer, *(path for _, path in path_labels)],
            device=device.type,
            precision=name_training_precision(device),
        ),
        epoch=options.epoch,
        dataset=splits[0].name if len(splits) == 1 else None,
        losses=losses,
        labels=kinds,
        n_samples=batches.n_samples,
        seconds=stopwatch.seconds,
    )
    for path in options.discard:
        Path(path).unlink(missing_ok=True)
    summary = ", ".join(
        f"{task} {loss.cross_entropy:.3f}"
        + (f" (distilled, KL {loss.divergence:.3f})" if kinds[task] != "given" else "")
        for task, loss in losses.tasks.items()
    )
    trained = splits[0].name if len(splits) == 1 else "mixed"
    print(f"epoch {options.epoch:3d}  {trained}, {batches.n_samples} samples: {summary}  ({stopwatch.seconds:.1f} s)")


def read_labels(
    entries: Sequence[tuple[str, str]], splits: Sequence[PreparedSplit], classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, np.ndarray]]:
    """Materialized labels by dataset and task, float32 (n, C).

    Args:
        entries: task and path of every table; the table says which dataset it is for.
        splits: the datasets of the epoch.
        classes: of the network, by task.

    Raises:
        ValueError: a table is for other samples or for other classes.
    """
    by_name = {split.name: split for split in splits}
    labels: dict[str, dict[str, np.ndarray]] = {name: {} for name in by_name}
    for task, path in entries:
        table = read_table(path, LABELS, ["sample_id", "training_label"])
        split = by_name.get(table.metadata["dataset"])
        if split is None or not np.array_equal(table["sample_id"], split.sample_ids):
            tables = ", ".join(one.path_table for one in splits)
            raise ValueError(f"{path}: its samples are not those of {tables}; delete it and run snakemake again")
        if table.metadata["classes"] != list(classes.get(task, [])):
            known = list(classes.get(task, []))
            raise ValueError(f"{path}: has the classes {table.metadata['classes']}, the network's task {known}")
        labels[split.name][task] = table["training_label"]
    return labels


def check_tasks(tasks: Sequence[str], own: str, classes: Mapping[str, Sequence[str]]) -> None:
    """Whether an alternating epoch has labels for all tasks but the dataset's own.

    Raises:
        ValueError: it has not.
    """
    if set(tasks) != set(classes) - {own}:
        raise ValueError(
            f"--labels must name all tasks but the dataset's own, {sorted(set(classes) - {own})}, not {sorted(tasks)}"
        )


if __name__ == "__main__":
    run_stage(main)
