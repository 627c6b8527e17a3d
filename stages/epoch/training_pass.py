"""What the two stages that train share: their options, the batches of a pass and the checkpoint it leaves."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from stages.command.distributed import add_devices_option
from stages.command.options import add_compute_options
from stages.command.stage import positive_int, show_progress
from stages.core.augmentation import Augmentation
from stages.core.average import MovingAverage
from stages.core.batches import SAMPLINGS, EpochBatches, TrainingSet
from stages.core.losses import Term
from stages.core.network import MultiTaskNetwork
from stages.core.optimizers import OPTIMIZERS, Optimizer
from stages.core.parallel import Processes, share_batch_norm
from stages.core.schedule import SHAPES, RateSchedule
from stages.core.seeds import derive_seed
from stages.core.targets import Targets, balance_classes, make_given
from stages.core.training import PassLosses, name_training_precision, train_pass
from stages.storage.checkpoints import CheckpointPaths
from stages.storage.datasets import PreparedSplit
from stages.storage.labels import MadeLabels
from stages.storage.provenance import Provenance


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What a pass of training needs beside its data."""
    parser.add_argument("--batch-size", type=positive_int, default=32, help="samples per step")
    parser.add_argument("--sampling", choices=SAMPLINGS, default="proportional", help="what mixed batches draw")
    parser.add_argument(
        "--task-weights", type=json.loads, default={}, metavar="JSON", help="of a task's loss, where it is not 1"
    )
    parser.add_argument("--class-weights", choices=("none", "balanced"), default="none", help="of given labels")
    parser.add_argument("--label-smoothing", type=float, default=0, help="of given labels, spread over all classes")
    parser.add_argument("--optimizer-name", choices=OPTIMIZERS, default="adam", help="what moves the weights")
    parser.add_argument("--weight-decay", type=float, default=0, help="of the layers' weights")
    parser.add_argument("--momentum", type=float, default=0, help="of sgd")
    parser.add_argument("--clip-norm", type=float, default=0, help="longest gradient; 0 leaves all as they are")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="the highest of the run")
    parser.add_argument("--rate-schedule", choices=SHAPES, default="constant", help="of the learning rate")
    parser.add_argument("--warmup", type=float, default=0, help="share of the run until the learning rate is reached")
    parser.add_argument(
        "--part",
        type=float,
        nargs=2,
        default=(0, 1),
        metavar=("START", "END"),
        help="shares of the run at which this training begins and ends, for the learning rate",
    )
    parser.add_argument("--average", type=float, default=0, help="decay of the weights' moving average; 0 takes none")
    parser.add_argument("--loader-workers", type=int, default=0, help="processes that load batches")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument(
        "--augmentation", type=_read_augmentation, default=Augmentation(), metavar="JSON", help="changes to the images"
    )
    parser.add_argument(
        "--strong-augmentation",
        type=_read_augmentation,
        metavar="JSON",
        help="further changes to images where they are trained on labels that were made",
    )
    parser.add_argument("--output-network", required=True, metavar="SAFETENSORS")
    parser.add_argument("--output-optimizer", required=True, metavar="SAFETENSORS")
    parser.add_argument("--output-card", required=True, metavar="JSON")
    add_compute_options(parser)
    add_devices_option(parser)


def make_batches(
    options: argparse.Namespace,
    splits: Sequence[PreparedSplit],
    labels: Mapping[str, Mapping[str, MadeLabels]],
    classes: Mapping[str, Sequence[str]],
    processes: Processes,
    *,
    epoch: int,
    purpose: str = "",
    share: tuple[int, int] = (0, 1),
    length: int | None = None,
) -> EpochBatches:
    """The batches of a pass over prepared splits.

    Args:
        options: of `add_training_options`.
        splits: the datasets to mix.
        labels: by dataset and task; they count where no label is given.
        classes: of the network, by task that is trained.
        processes: that train together; see `EpochBatches`.
        epoch: with which the pass begins, for the seeds.
        purpose: what tells the seeds of this pass from those of the epoch's others.
        share: see `EpochBatches`.
        length: see `EpochBatches`.
    """
    weights = {}
    if options.class_weights == "balanced":
        for task, names in classes.items():
            indices = np.concatenate([split.index_labels(task, names) for split in splits])
            weights[task] = balance_classes(indices, len(names))
    training_sets = [
        TrainingSet(
            split.images,
            split.sample_ids,
            collect_targets(
                split, labels.get(split.name, {}), classes, smoothing=options.label_smoothing, class_weights=weights
            ),
        )
        for split in splits
    ]
    return EpochBatches(
        training_sets,
        batch_size=options.batch_size,
        augmentation=options.augmentation,
        order_seed=derive_seed(options.seed, epoch, f"order{purpose}"),
        augmentation_seed=derive_seed(options.seed, epoch, f"augmentation{purpose}"),
        share=share,
        sampling=options.sampling,
        length=length,
        strong=options.strong_augmentation,
        strong_seed=derive_seed(options.seed, epoch, f"strong augmentation{purpose}"),
        processes=processes,
    )


def collect_targets(
    split: PreparedSplit,
    labels: Mapping[str, MadeLabels],
    classes: Mapping[str, Sequence[str]],
    *,
    smoothing: float,
    class_weights: Mapping[str, np.ndarray],
) -> dict[str, Targets]:
    """What the samples of a split are trained on, by task: their given labels, else those made for them.

    Those of strength 0 are left out.

    Args:
        split: of one dataset.
        labels: made ones by task.
        classes: of the network, by task that is trained.
        smoothing: of given labels.
        class_weights: of given labels, by task; without, all count alike.
    """
    targets = {}
    for task in dict.fromkeys([*split.classes, *labels]):
        if task in classes:
            indices = split.index_labels(task, classes[task])
            given = indices >= 0
            vectors = make_given(
                indices, len(classes[task]), smoothing=smoothing, class_weights=class_weights.get(task)
            )
            targets[task] = Targets(vectors, given, given)
            if task in labels and (made := labels[task]).strength > 0:
                vectors = np.where(given[:, None], vectors, made.vectors)
                known = np.full(len(given), True)
                targets[task] = Targets(
                    vectors, known, given, made.strength, made.student_temperature, made.normalization
                )
    return targets


def start_optimizer(options: argparse.Namespace, network: MultiTaskNetwork) -> Optimizer:
    """The optimizer that the options ask for, before its first step."""
    return OPTIMIZERS[options.optimizer_name](
        network,
        options.learning_rate,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        clip_norm=options.clip_norm,
    )


def start_average(options: argparse.Namespace, network: MultiTaskNetwork) -> MovingAverage | None:
    """The moving average of the network's weights that `--average` asks for, from where they are."""
    return MovingAverage(network, options.average) if options.average else None


def prepare_copy(network: MultiTaskNetwork, processes: Processes, *, seed: int, epoch: int) -> None:
    """Make a network, already on its device, one of the copies that processes train together.

    Args:
        network: as it is in all processes.
        processes: these; where it is one, nothing changes.
        seed: of the experiment.
        epoch: that it is trained in.
    """
    if processes.size > 1:
        share_batch_norm(network)
        # What layers draw, such as dropout, they draw for other rows in each.
        torch.manual_seed(derive_seed(seed, epoch, f"process {processes.rank}"))


def run_pass(
    options: argparse.Namespace,
    network: MultiTaskNetwork,
    optimizer: Optimizer,
    average: MovingAverage | None,
    batches: EpochBatches,
    device: torch.device,
    processes: Processes,
    *,
    description: str,
    terms: Sequence[Term] = (),
    place: tuple[int, int] = (0, 1),
) -> PassLosses:
    """`train_pass` with loader processes and a progress bar, which `description` stands before.

    The learning rate is that of the run's `--part`; `place` (i, n) says that the pass is the i-th of n in it, from 0.
    """
    (start, end), (index, n_passes) = options.part, place
    part = tuple(start + (end - start) * number / n_passes for number in (index, index + 1))
    schedule = RateSchedule(options.learning_rate, options.rate_schedule, options.warmup)
    rates = schedule.list_rates(len(batches), part)
    loader = batches.load(options.loader_workers, pin_memory=device.type == "cuda")
    if processes.rank == 0:
        loader = show_progress(loader, description=description)
    return train_pass(network, optimizer, loader, device, terms, options.task_weights, average, rates, processes)


def output_paths(options: argparse.Namespace) -> CheckpointPaths:
    """The files of the checkpoint that the `--output-...` options name."""
    return CheckpointPaths(options.output_network, options.output_optimizer, options.output_card)


def describe_training(
    options: argparse.Namespace, stage: str, parameters: Mapping[str, Any], inputs: Sequence[str], device: torch.device
) -> Provenance:
    """Where a checkpoint comes from.

    Args:
        options: of `add_training_options`; those that decide the result are recorded.
        stage: which one trained.
        parameters: its own.
        inputs: paths of the files it read.
        device: where it trained.
    """
    parameters = {
        **parameters,
        "batch_size": options.batch_size,
        "sampling": options.sampling,
        "class_weights": options.class_weights,
        "label_smoothing": options.label_smoothing,
        "optimizer": options.optimizer_name,
        "weight_decay": options.weight_decay,
        "momentum": options.momentum,
        "clip_norm": options.clip_norm,
        "learning_rate": options.learning_rate,
        "rate_schedule": options.rate_schedule,
        "warmup": options.warmup,
        "part": list(options.part),
        "average": options.average,
        "task_weights": options.task_weights,
        "augmentation": asdict(options.augmentation),
        "strong_augmentation": asdict(options.strong_augmentation) if options.strong_augmentation else None,
        "devices": options.devices,
    }
    return Provenance(stage, parameters, inputs, device=device.type, precision=name_training_precision(device))


def _read_augmentation(text: str) -> Augmentation | None:
    """That of the attributes in a JSON object; none where it is null."""
    settings = json.loads(text)
    return None if settings is None else Augmentation(**settings)
