"""Say for every image of a folder what a finished network sees in it, for all tasks.

The network's file carries what is needed: classes, image size, normalisation, backbone. Images that
cannot be used are listed and left out; the exit status is then 3.
"""

import sys
from pathlib import Path

from stages.command import run_stage, show_progress, stage_parser
from stages.core.training import choose_device, place_network, predict_batch, prepare_torch
from stages.image_options import add_decoding_options, open_decoder
from stages.options import Stopwatch, add_compute_options
from stages.sources.base import FileLoader
from stages.sources.decoding import decode_batches
from stages.sources.unlabeled import find_images
from stages.storage.checkpoints import load_network
from stages.storage.predictions import open_predictions
from stages.storage.tables import Provenance

STATUS_SKIPPED = 3
"""Exit status where some images have no prediction."""


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network.safetensors of a run")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images, or one image")
    parser.add_argument("--output", required=True, metavar="PARQUET|CSV", help="one row per image")
    parser.add_argument("--features", action="store_true", help="add the feature vector f of every task (Parquet)")
    add_decoding_options(parser)
    add_compute_options(parser)
    options = parser.parse_args(argv)
    if options.features and not options.output.endswith(".parquet"):
        raise ValueError(f"{options.output}: feature vectors need Parquet; let --output end in .parquet")
    stopwatch = Stopwatch()
    folder, samples = find_images(options.images)
    prepare_torch(options.threads, seed=0)
    device = choose_device(options.device)
    network = place_network(load_network(options.network), device)
    classes = network.specification.classes
    decoder = open_decoder(options, network.specification, FileLoader(folder))
    provenance = Provenance("predict", {"features": options.features}, [options.network])
    with open_predictions(options.output, classes, provenance) as writer:
        batches = decode_batches(decoder, samples, options.workers, options.batch_size)
        n_batches = -(-len(samples) // options.batch_size)
        for found, images, bad in show_progress(batches, description="prediction", total=n_batches):
            for sample, reason in bad:
                print(f"predict: {folder / sample.path}: {reason}", file=sys.stderr)
                writer.skipped.append((sample.path, reason))
            if found:
                features, probabilities = predict_batch(network, images, device)
                writer.write([one.path for one in found], probabilities, features if options.features else {})
    rate = writer.n_rows / max(stopwatch.seconds, 0.01)
    print(f"{options.output}: {writer.n_rows} images, {len(classes)} tasks ({stopwatch.seconds} s, {rate:.0f} per s)")
    if writer.skipped:
        print(f"predict: {len(writer.skipped)} of {len(samples)} images could not be used, see above", file=sys.stderr)
    return STATUS_SKIPPED if writer.skipped else 0


if __name__ == "__main__":
    run_stage(main)
