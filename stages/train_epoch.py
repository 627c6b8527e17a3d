"""Train one alternating epoch on one dataset (equations 5 and 9).

The dataset's own task learns from its given labels, every other task from the label vectors that
were materialized for it. The optimizer goes on from the checkpoint.
"""

from collections.abc import Sequence

import numpy as np

from stages.command import run_stage, show_progress, stage_parser
from stages.core.adam import Adam
from stages.core.batches import EpochBatches, TrainingSet, one_hot
from stages.core.contracts import LABELS
from stages.core.seeds import derive_seed
from stages.core.training import choose_device, place_network, prepare_torch, train_pass
from stages.options import Stopwatch, add_training_options, read_augmentation, training_parameters
from stages.storage.checkpoints import load_network, load_optimizer, save_checkpoint
from stages.storage.datasets import PreparedSplit, open_split
from stages.storage.tables import Provenance, read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--table", required=True, metavar="PARQUET", help="manifest of the dataset to train on")
    parser.add_argument("--images", required=True, metavar="NPY", help="its images")
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="weights to go on from")
    parser.add_argument("--optimizer", required=True, metavar="SAFETENSORS", help="Adam's state to go on from")
    parser.add_argument("--labels", nargs="*", default=[], metavar="TASK=PARQUET", help="labels of the other tasks")
    parser.add_argument("--epoch", type=int, required=True, help="number of this epoch, from 1")
    add_training_options(parser)
    options = parser.parse_args(argv)
    stopwatch = Stopwatch()
    split = open_split(options.table, options.images)
    path_labels = dict(entry.split("=", 1) for entry in options.labels)
    prepare_torch(options.threads, derive_seed(options.seed, options.epoch, "training"))
    device = choose_device(options.device)
    network = place_network(load_network(options.network, [split]), device)
    optimizer = Adam(network, options.learning_rate)
    load_optimizer(options.optimizer, optimizer)
    classes = network.specification.classes
    if set(path_labels) != set(classes) - {split.task}:
        raise ValueError(
            f"--labels must name all tasks but the dataset's own, {sorted(set(classes) - {split.task})}, "
            f"not {sorted(path_labels)}"
        )
    targets = {split.task: one_hot(split.labels, len(split.classes))}
    for task, path in path_labels.items():
        targets[task] = read_labels(path, split, classes[task])
    batches = EpochBatches(
        [TrainingSet(split.images, split.sample_ids, targets)],
        batch_size=options.batch_size,
        augmentation=read_augmentation(options),
        order_seed=derive_seed(options.seed, options.epoch, "order"),
        augmentation_seed=derive_seed(options.seed, options.epoch, "augmentation"),
    )
    loader = batches.load(options.loader_workers, pin_memory=device.type == "cuda")
    losses = train_pass(network, optimizer, show_progress(loader, description=f"epoch {options.epoch}"), device)
    save_checkpoint(
        options,
        network,
        optimizer,
        provenance=Provenance(
            "train_epoch",
            {"epoch": options.epoch, **training_parameters(options)},
            [options.table, options.network, options.optimizer, *path_labels.values()],
        ),
        epoch=options.epoch,
        dataset=split.name,
        losses=losses,
        distilled=list(path_labels),
        n_samples=batches.n_samples,
        seconds=stopwatch.seconds,
    )
    summary = ", ".join(
        f"{task} {loss.cross_entropy:.3f}" + (f" (distilled, KL {loss.divergence:.3f})" if task in path_labels else "")
        for task, loss in losses.items()
    )
    print(
        f"epoch {options.epoch:3d}  {split.name}, {batches.n_samples} samples: {summary}  ({stopwatch.seconds:.1f} s)"
    )


def read_labels(path: str, split: PreparedSplit, classes: Sequence[str]) -> np.ndarray:
    """Training labels of one task for the split's samples, float32 (n, C).

    Raises:
        ValueError: they are for other samples or for other classes.
    """
    table = read_table(path, LABELS, ["sample_id", "training_label"])
    if table.metadata["dataset"] != split.name or not np.array_equal(table["sample_id"], split.sample_ids):
        raise ValueError(f"{path}: its samples are not those of {split.path_table}; delete it and run snakemake again")
    if table.metadata["classes"] != list(classes):
        raise ValueError(f"{path}: has the classes {table.metadata['classes']}, the network's task {list(classes)}")
    return table["training_label"]


if __name__ == "__main__":
    run_stage(main)
