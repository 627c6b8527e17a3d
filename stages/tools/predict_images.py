"""Say for every image of a folder what a finished network sees in it, for all tasks.

The network's file carries what is needed: classes, image size, normalisation, backbone. Images that
cannot be used are listed and left out; the exit status is then 3.
"""

from pathlib import Path

from stages.command.options import Stopwatch, add_compute_options
from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.storage.predictions import SUFFIXES, open_predictions
from stages.storage.tables import Provenance
from stages.tools.image_batches import STATUS_SKIPPED, add_decoding_options, check_output, read_batches
from stages.tools.unlabeled import find_images


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(
        __doc__, example="mtl-sa predict --network network.safetensors --images photos --output predictions.csv"
    )
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network.safetensors of a run")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images, or one image")
    parser.add_argument("--output", required=True, metavar="PARQUET|CSV", help="one row per image")
    parser.add_argument("--features", action="store_true", help="add the feature vector f of every task (Parquet)")
    add_decoding_options(parser)
    add_compute_options(parser)
    options = parser.parse_args(argv)
    check_output(options.output, SUFFIXES)
    if options.features and not options.output.lower().endswith(".parquet"):
        raise UserError(f"{options.output}: feature vectors need Parquet; let --output end in .parquet")
    stopwatch = Stopwatch()
    folder, samples = find_images(options.images)
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
    classes = network.specification.classes
    provenance = Provenance(
        "predict",
        {"features": options.features},
        [options.network],
        device=device.type,
        precision=name_prediction_precision(device),
    )
    with open_predictions(options.output, classes, provenance) as writer:
        for found, images in read_batches(options, network.specification, folder, samples, writer.skipped):
            features, probabilities = predict_batch(network, images, device)
            writer.write([one.path for one in found], probabilities, features if options.features else {})
    rate = writer.n_rows / max(stopwatch.seconds, 0.01)
    print(f"{options.output}: {writer.n_rows} images, {len(classes)} tasks ({stopwatch.seconds} s, {rate:.0f} per s)")
    return STATUS_SKIPPED if writer.skipped else 0


if __name__ == "__main__":
    run_stage(main)
