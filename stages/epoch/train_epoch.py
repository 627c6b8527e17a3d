"""Train one epoch: on one dataset (equations 5 and 9) or on a share of all of them mixed.

A sample trains a task on its given label, else on the label vector that was materialized for it, where
the method makes any. The optimizer goes on from the checkpoint.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from stages.command.distributed import is_launcher, join_processes, launch_processes
from stages.command.options import Stopwatch, add_split_options, confirm_splits, open_splits
from stages.command.stage import run_stage, stage_parser
from stages.core.average import MovingAverage
from stages.core.errors import UserError
from stages.core.losses import LabelTransferTerm, RegularizationTerm, Term
from stages.core.network import MultiTaskNetwork, add_label_transfer
from stages.core.optimizers import Optimizer
from stages.core.regularization import Regularization
from stages.core.seeds import derive_seed
from stages.core.training import SCHEDULES, PassLosses, choose_device, place_network, prepare_torch
from stages.epoch.training_pass import (
    add_training_options,
    describe_training,
    make_batches,
    output_paths,
    prepare_copy,
    run_pass,
    start_average,
    start_optimizer,
)
from stages.storage.checkpoints import load_network, load_optimizer, save_checkpoint
from stages.storage.contracts import MANIFEST
from stages.storage.datasets import PreparedSplit
from stages.storage.labels import MadeLabels, read_labels
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> int | None:
    parser = stage_parser(__doc__)
    parser.add_argument("--schedule", choices=SCHEDULES, default="alternating", help="of the method")
    add_split_options(parser)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="weights to go on from")
    parser.add_argument("--optimizer", required=True, metavar="SAFETENSORS", help="state of training to go on from")
    parser.add_argument("--card", required=True, metavar="JSON", help="checkpoint.json of both")
    parser.add_argument(
        "--equalized",
        nargs="*",
        default=[],
        metavar="PARQUET",
        help="manifests of datasets whose mean size is what the epoch draws, in the place of its own",
    )
    parser.add_argument("--labels", nargs="*", default=[], metavar="TASK=PARQUET", help="made where labels lack")
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
    if is_launcher(options):
        return launch_processes(__spec__.name, argv, options)
    stopwatch = Stopwatch()
    processes = join_processes(options)
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
    network, optimizer, average = resume_training(options, splits, device)
    prepare_copy(network, processes, seed=options.seed, epoch=options.epoch)
    path_labels = [tuple(entry.split("=", 1)) for entry in options.labels]
    classes = network.specification.classes
    labels = read_labels(path_labels, splits, classes)
    if options.schedule == "alternating":
        check_complete(splits, labels, classes)
    terms: list[Term] = [LabelTransferTerm(processes)] if network.specification.label_transfer else []
    if regularization.active:
        terms.append(RegularizationTerm(regularization, processes))
    # With K datasets an epoch is a K-th of a pass, so that K epochs see every sample once whatever
    # the schedule.
    place = (options.epoch - 1) % len(splits)
    n_samples, losses = 0, PassLosses({}, {})
    for whom, trained in group_tasks(options.schedule, splits, classes).items():
        batches = make_batches(
            options,
            splits,
            labels,
            trained,
            processes,
            epoch=options.epoch - place,
            purpose=whom,
            share=(place, len(splits)),
            length=count_mean(options.equalized),
        )
        description = f"epoch {options.epoch}"
        part = run_pass(
            options, network, optimizer, average, batches, device, processes, description=description, terms=terms
        )
        n_samples += batches.n_samples
        losses = PassLosses(losses.tasks | part.tasks, part.terms)
    if processes.rank > 0:
        return None
    confirm_splits(splits)
    given = {task for split in splits for task in split.classes}
    materialized = {task for of_dataset in labels.values() for task, made in of_dataset.items() if made.strength > 0}
    kinds = {
        task: "both" if task in given & materialized else "given" if task in given else "materialized"
        for task in losses.tasks
    }
    parameters = {"epoch": options.epoch, "schedule": options.schedule, "regularization": asdict(regularization)}
    inputs = [
        *options.tables,
        *options.equalized,
        options.network,
        options.optimizer,
        *(path for _, path in path_labels),
    ]
    dataset = splits[0].name if len(splits) == 1 else None
    save_checkpoint(
        output_paths(options),
        network,
        optimizer,
        average,
        provenance=describe_training(options, "train_epoch", parameters, inputs, device),
        epoch=options.epoch,
        dataset=dataset,
        losses=losses,
        labels=kinds,
        n_samples=n_samples,
        seed=options.seed,
        threads=options.threads,
        seconds=stopwatch.seconds,
    )
    for path in options.discard:
        Path(path).unlink(missing_ok=True)
    summary = ", ".join(
        f"{task} {loss.cross_entropy:.3f}"
        + (f" (distilled, KL {loss.divergence:.3f})" if kinds[task] != "given" else "")
        for task, loss in losses.tasks.items()
    )
    print(
        f"epoch {options.epoch:3d}  {dataset or 'mixed'}, {n_samples} samples: {summary or 'nothing to train'}  "
        f"({stopwatch.seconds:.1f} s)"
    )
    return None


def resume_training(
    options: argparse.Namespace, splits: Sequence[PreparedSplit], device: torch.device
) -> tuple[MultiTaskNetwork, Optimizer, MovingAverage | None]:
    """Network, optimizer and moving average of the checkpoint, with label transfer networks where they are to begin.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another network.
    """
    network = load_network(options.network, splits, options.card)
    known = set(network.state_dict())
    if options.label_transfer == "True" and not network.specification.label_transfer:
        # Their first weights are those that the seed gives after a whole network's: what it was loaded into, once.
        MultiTaskNetwork(network.specification)
        network = add_label_transfer(network)
    network = place_network(network, device)
    optimizer = start_optimizer(options, network)
    average = start_average(options, network)
    load_optimizer(options.optimizer, optimizer, average, fresh=set(network.state_dict()) - known, card=options.card)
    return network, optimizer, average


def count_mean(path_tables: Sequence[str]) -> int | None:
    """The mean number of samples of manifests; None where none is named."""
    sizes = [len(read_table(path, MANIFEST, ["sample_id"])) for path in path_tables]
    return round(sum(sizes) / len(sizes)) if sizes else None


def group_tasks(
    schedule: str, splits: Sequence[PreparedSplit], classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Sequence[str]]]:
    """The tasks that are trained together, with their classes, by what their pass is called in its seeds.

    Where networks are single, each task that a dataset has labels for is a pass of its own, over the samples
    labelled for it.
    """
    if schedule != "single":
        return {"": dict(classes)}
    tasks = [task for split in splits for task in split.classes]
    return {f" for {task}" if len(tasks) > 1 else "": {task: classes[task]} for task in tasks}


def check_complete(
    splits: Sequence[PreparedSplit],
    labels: Mapping[str, Mapping[str, MadeLabels]],
    classes: Mapping[str, Sequence[str]],
) -> None:
    """Whether every sample of an alternating epoch has a label for every task, given or made.

    Raises:
        ValueError: one has not.
    """
    for split in splits:
        for task in set(classes) - set(labels[split.name]):
            if n_missing := int((split.index_labels(task, classes[task]) < 0).sum()):
                raise UserError(
                    f"--labels: names no labels of '{task}' for {split.name}, of which {n_missing} samples have none"
                )


if __name__ == "__main__":
    run_stage(main)
