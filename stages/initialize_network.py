"""Train the shared starting point jointly on all datasets (epoch 0, Algorithm 1's initialisation).

Batches mix the datasets; each sample trains its own task only. With --separate there is nothing to
share: every task gets a network of its own, trained on its own dataset (single-task learning).
"""

from pathlib import Path

from stages.command import run_stage, show_progress, stage_parser
from stages.core.adam import Adam
from stages.core.batches import EpochBatches, TrainingSet, one_hot
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.pretrained import load_pretrained
from stages.core.seeds import derive_seed
from stages.core.specification import FITS
from stages.core.training import (
    PassLosses,
    choose_device,
    name_training_precision,
    place_network,
    prepare_torch,
    train_pass,
)
from stages.core.weight_names import find_normalisation, is_file
from stages.options import (
    Stopwatch,
    add_split_options,
    add_training_options,
    confirm_splits,
    open_splits,
    read_augmentation,
    training_parameters,
)
from stages.storage.checkpoints import save_checkpoint
from stages.storage.files import digest_file
from stages.storage.tables import Provenance


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    add_split_options(parser)
    parser.add_argument("--backbone", default="vgg16", help="shared convolutional layers")
    parser.add_argument("--pretrained", default="none", help="torchvision weights enum name, local file or none")
    parser.add_argument("--head-features", type=int, default=128, help="d, features per task")
    parser.add_argument("--cross-stitch-identity", type=float, default=0.9, help="initial share of a task's own layer")
    parser.add_argument("--mean", type=float, nargs="*", help="of pixel values in [0, 1]; without, as pretrained")
    parser.add_argument("--std", type=float, nargs="*", help="of pixel values; without, as pretrained")
    parser.add_argument("--fit", choices=FITS, default="stretch", help="how the images got their shape")
    parser.add_argument("--separate", choices=("True", "False"), default="False", help="one network per task")
    parser.add_argument("--passes", type=int, default=1, help="passes over all datasets")
    add_training_options(parser)
    options = parser.parse_args(argv)
    stopwatch = Stopwatch()
    splits = open_splits(options)
    prepare_torch(options.threads, derive_seed(options.seed, 0, "initialization"))
    device = choose_device(options.device)
    image_shape = splits[0].images.shape[1:]
    pretrained = None if options.pretrained == "none" else options.pretrained
    mean, std = find_normalisation(options.backbone, pretrained, image_shape[2], options.mean, options.std)
    specification = NetworkSpecification(
        backbone=options.backbone,
        image_shape=image_shape,
        head_features=options.head_features,
        classes={split.task: split.classes for split in splits},
        cross_stitch_identity=options.cross_stitch_identity,
        mean=mean,
        std=std,
        fit=options.fit,
        separate=options.separate == "True",
    )
    weights = load_pretrained(options.backbone, pretrained) if pretrained else None
    network = place_network(MultiTaskNetwork(specification, weights), device)
    optimizer = Adam(network, options.learning_rate)
    training_sets = [
        TrainingSet(split.images, split.sample_ids, {split.task: one_hot(split.labels, len(split.classes))}, split.task)
        for split in splits
    ]
    kind = "separate" if specification.separate else "joint"
    groups = [[one] for one in training_sets] if specification.separate else [training_sets]
    task_losses = {}
    for number in range(options.passes):
        for group in groups:
            purpose = f"pass {number}" + (f" for {group[0].task}" if specification.separate else "")
            batches = EpochBatches(
                group,
                batch_size=options.batch_size,
                augmentation=read_augmentation(options),
                order_seed=derive_seed(options.seed, 0, f"order of {purpose}"),
                augmentation_seed=derive_seed(options.seed, 0, f"augmentation of {purpose}"),
            )
            loader = batches.load(options.loader_workers, pin_memory=device.type == "cuda")
            description = f"{kind} training, pass {number + 1} of {options.passes}"
            losses = train_pass(network, optimizer, show_progress(loader, description=description), device)
            task_losses |= losses.tasks
    confirm_splits(splits)
    n_samples = sum(len(split.labels) for split in splits)
    save_checkpoint(
        options,
        network,
        optimizer,
        provenance=Provenance(
            "initialize_network",
            {
                "passes": options.passes,
                "pretrained": Path(options.pretrained).name,
                "pretrained_digest": digest_file(pretrained) if is_file(pretrained) else None,
                "cross_stitch_identity": options.cross_stitch_identity,
                **training_parameters(options),
            },
            options.tables,
            device=device.type,
            precision=name_training_precision(device),
        ),
        epoch=0,
        dataset=None,
        losses=PassLosses(task_losses, {}, None),
        labels=dict.fromkeys(task_losses, "given"),
        n_samples=n_samples,
        seconds=stopwatch.seconds,
    )
    summary = ", ".join(f"{task} {loss.cross_entropy:.3f}" for task, loss in task_losses.items())
    print(f"epoch   0  {kind} training on {n_samples} samples: loss {summary}  ({stopwatch.seconds:.1f} s)")


if __name__ == "__main__":
    run_stage(main)
