"""Train the shared starting point jointly on all datasets (epoch 0, Algorithm 1's initialisation).

Batches mix the datasets; each sample trains the tasks that it has labels for. With --separate there is
nothing to share: every task gets a network of its own, trained on the samples labelled for it
(single-task learning).
"""

from pathlib import Path

from stages.command.distributed import is_launcher, join_processes, launch_processes
from stages.command.options import Stopwatch, add_split_options, confirm_splits, open_splits
from stages.command.stage import run_stage, stage_parser
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.seeds import derive_seed
from stages.core.specification import FITS, join_classes
from stages.core.training import PassLosses, choose_device, place_network, prepare_torch
from stages.core.weight_names import find_normalisation, is_file
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
from stages.storage.checkpoints import save_checkpoint
from stages.storage.files import digest_file
from stages.storage.pretrained import load_pretrained


def main(argv: list[str] | None = None) -> int | None:
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
    if is_launcher(options):
        return launch_processes(__spec__.name, argv, options)
    stopwatch = Stopwatch()
    processes = join_processes(options)
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
        classes=join_classes((split.name, split.classes) for split in splits),
        cross_stitch_identity=options.cross_stitch_identity,
        mean=mean,
        std=std,
        fit=options.fit,
        separate=options.separate == "True",
    )
    weights = load_pretrained(options.backbone, pretrained) if pretrained else None
    network = place_network(MultiTaskNetwork(specification, weights), device)
    prepare_copy(network, processes, seed=options.seed, epoch=0)
    optimizer = start_optimizer(options, network)
    average = start_average(options, network)
    kind = "separate" if specification.separate else "joint"
    classes = specification.classes
    groups = {f" for {task}": {task: classes[task]} for task in classes} if specification.separate else {"": classes}
    task_losses = {}
    for number in range(options.passes):
        for whom, trained in groups.items():
            batches = make_batches(options, splits, {}, trained, processes, epoch=0, purpose=f" of pass {number}{whom}")
            description = f"{kind} training, pass {number + 1} of {options.passes}"
            place = (number, options.passes)
            losses = run_pass(
                options, network, optimizer, average, batches, device, processes, description=description, place=place
            )
            task_losses |= losses.tasks
    if processes.rank > 0:
        return None
    confirm_splits(splits)
    n_samples = make_batches(options, splits, {}, classes, processes, epoch=0).n_samples
    parameters = {
        "passes": options.passes,
        "pretrained": Path(options.pretrained).name,
        "pretrained_digest": digest_file(pretrained) if is_file(pretrained) else None,
        "cross_stitch_identity": options.cross_stitch_identity,
    }
    save_checkpoint(
        output_paths(options),
        network,
        optimizer,
        average,
        provenance=describe_training(options, "initialize_network", parameters, options.tables, device),
        epoch=0,
        dataset=None,
        losses=PassLosses(task_losses, {}),
        labels=dict.fromkeys(task_losses, "given"),
        n_samples=n_samples,
        seed=options.seed,
        threads=options.threads,
        seconds=stopwatch.seconds,
    )
    summary = ", ".join(f"{task} {loss.cross_entropy:.3f}" for task, loss in task_losses.items())
    print(f"epoch   0  {kind} training on {n_samples} samples: loss {summary}  ({stopwatch.seconds:.1f} s)")
    return None


if __name__ == "__main__":
    run_stage(main)
