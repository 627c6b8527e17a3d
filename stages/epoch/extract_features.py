"""Run the network of the previous epoch over a dataset whose features the weights need.

Writes, per task, the feature vector f that enters the task's classifier, the soft label, its softmax
(section 4.1), and the given label, if there is one, in row groups as they come.
"""

import numpy as np

from stages.command.distributed import add_devices_option, is_launcher, join_processes, launch_processes
from stages.command.options import Stopwatch, add_compute_options
from stages.command.stage import positive_int, run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.training import (
    choose_device,
    name_prediction_precision,
    normalise_features,
    place_network,
    predict_batches,
    prepare_torch,
)
from stages.storage.checkpoints import load_last_weights, load_network
from stages.storage.contracts import FEATURES
from stages.storage.datasets import open_split
from stages.storage.tables import Provenance, open_writer


def main(argv: list[str] | None = None) -> int | None:
    parser = stage_parser(__doc__)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="checkpoint of the previous epoch")
    parser.add_argument("--card", required=True, metavar="JSON", help="its checkpoint.json")
    parser.add_argument(
        "--last-weights",
        nargs="*",
        default=[],
        metavar="SAFETENSORS",
        help="optimizer.safetensors of the checkpoint, for its last weights in the place of their average",
    )
    parser.add_argument("--table", required=True, metavar="PARQUET", help="manifest of the dataset's training split")
    parser.add_argument("--images", required=True, metavar="NPY", help="its images")
    parser.add_argument("--tasks", nargs="+", required=True, help="whose features are wanted")
    parser.add_argument("--normalize", choices=("l2", "none"), default="l2", help="scale of the features")
    parser.add_argument(
        "--label-source",
        choices=("classifier", "transfer"),
        default="classifier",
        help="who gives the soft labels: the classifiers or the label transfer networks",
    )
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images at a time")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="features and soft labels")
    add_compute_options(parser)
    add_devices_option(parser)
    options = parser.parse_args(argv)
    if is_launcher(options):
        return launch_processes(__spec__.name, argv, options)
    stopwatch = Stopwatch()
    processes = join_processes(options)
    split = open_split(options.table, options.images)
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    network = load_network(options.network, [split], options.card)
    for path in options.last_weights:
        load_last_weights(path, network, options.card)
    network = place_network(network, device)
    classes = network.specification.classes
    transferred = options.label_source == "transfer"
    if transferred and not network.specification.label_transfer:
        raise UserError(f"{options.network}: has no label transfer networks yet; raise label_transfer.warmup")
    if unknown := [task for task in options.tasks if task not in classes]:
        raise UserError(f"{options.network}: has no task {unknown}; its tasks are {list(classes)}")
    metadata = {
        "dataset": split.name,
        "dim": network.specification.head_features,
        "dtype": "float32",
        "normalize": options.normalize,
        "classes": {task: classes[task] for task in options.tasks},
    }
    parameters = {name: getattr(options, name) for name in ("tasks", "normalize", "label_source", "batch_size")}
    provenance = Provenance(
        "extract_features",
        parameters,
        [options.network, *options.last_weights, options.table],
        device=device.type,
        precision=name_prediction_precision(device),
    )
    batches = predict_batches(
        network,
        split.images,
        batch_size=options.batch_size,
        device=device,
        tasks=options.tasks,
        transferred=transferred,
        processes=processes,
    )
    if processes.rank > 0:
        return sum(0 for _ in batches)
    labels = {task: split.index_labels(task, classes[task]).astype(np.int32) for task in options.tasks}
    n_batches = -(-len(split.images) // options.batch_size)
    with open_writer(options.output, FEATURES, metadata=metadata, provenance=provenance) as writer:
        for rows, features, soft_labels in show_progress(batches, description=split.name, total=n_batches):
            columns = {"sample_id": split.sample_ids[rows]}
            for task in options.tasks:
                columns[f"features_{task}"] = normalise_features(features[task], options.normalize)
                columns[f"soft_label_{task}"] = soft_labels[task]
                columns[f"label_{task}"] = labels[task][rows]
            writer.write(columns)
        split.confirm()
    print(f"features of {len(split.images)} samples of {split.name}  ({stopwatch.seconds:.1f} s)")
    return None


if __name__ == "__main__":
    run_stage(main)
