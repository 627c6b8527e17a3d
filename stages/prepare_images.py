"""Decode a dataset's images once, to one shape, into a memory map and a manifest per split."""

import json
from contextlib import ExitStack

from stages.command import run_stage, show_progress, stage_parser
from stages.core.contracts import MANIFEST
from stages.core.images import FITS
from stages.sources.base import SPLITS, Tolerance, list_columns
from stages.sources.decoding import Decoder, check_skipped, decode_in_order
from stages.sources.label_files import decisive_settings
from stages.sources.registry import read_source
from stages.sources.streams import open_image_stream
from stages.storage.files import digest_file
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--dataset", required=True, help="its name")
    parser.add_argument("--settings", required=True, metavar="JSON", help="the dataset's settings")
    parser.add_argument("--data-root", default=".", metavar="DIR", help="folder that paths in the settings start from")
    parser.add_argument("--height", type=int, required=True, help="of the prepared images, in pixels")
    parser.add_argument("--width", type=int, required=True, help="of the prepared images, in pixels")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="grey or colour")
    parser.add_argument("--fit", choices=FITS, default="stretch", help="how images get the shape")
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="what bad images and entries of lists do"
    )
    parser.add_argument(
        "--outside-data-root",
        choices=("refuse", "allow"),
        default="refuse",
        help="images that lists name outside --data-root and the dataset's own folders",
    )
    parser.add_argument("--max-pixels", type=int, default=89478485, help="larger images are bad images")
    parser.add_argument("--workers", type=int, default=1, help="decoding processes; no part of the result")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits to prepare")
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifest of each split")
    parser.add_argument("--images", nargs="+", required=True, metavar="NPY", help="images of each split")
    options = parser.parse_args(argv)
    if not len(options.splits) == len(options.tables) == len(options.images):
        raise ValueError("--splits, --tables and --images must name equally many")
    settings = json.loads(options.settings)
    image_shape = (options.height, options.width, options.channels)
    conversion = {name: getattr(options, name) for name in ("height", "width", "channels", "fit", "max_pixels")}
    tolerance = Tolerance(options.outside_data_root == "allow", options.on_error == "skip")
    try:
        manifest = read_source(settings, options.data_root, tolerance)
        chosen = [(number, one) for number, one in enumerate(manifest.samples) if one.split in options.splits]
        decoded = decode_in_order(Decoder(manifest.load, **conversion), [one for _, one in chosen], options.workers)
        rows = {split: [] for split in options.splits}
        skipped = {split: [] for split in options.splits}
        with ExitStack() as stack:
            streams = {
                split: stack.enter_context(open_image_stream(path, image_shape))
                for split, path in zip(options.splits, options.images, strict=True)
            }
            progress = show_progress(decoded, description=options.dataset, total=len(chosen), unit="image")
            for (number, sample), image in zip(chosen, progress, strict=True):
                if isinstance(image, str):
                    skipped[sample.split].append([sample.path, image])
                else:
                    streams[sample.split].append(image)
                    rows[sample.split].append((number, sample))
            check_skipped(skipped, [sample for _, sample in chosen], stop=options.on_error == "stop")
    except ValueError as error:
        raise ValueError(f"dataset {options.dataset}: {error}") from None
    if n_skipped := sum(map(len, skipped.values())):
        n_images = n_skipped + sum(map(len, rows.values()))
        print(
            f"dataset {options.dataset}: left out {n_skipped} of {n_images} images; the manifests' metadata list them"
        )
    for split, path_table, path_images in zip(options.splits, options.tables, options.images, strict=True):
        write_table(
            path_table,
            MANIFEST,
            list_columns(rows[split], settings["task"]),
            metadata={
                "dataset": options.dataset,
                "tasks": [settings["task"]],
                "split": split,
                "classes": {settings["task"]: list(manifest.classes)},
                "image_shape": list(image_shape),
                "images_digest": digest_file(path_images),
                "skipped": skipped[split],
            },
            provenance=Provenance(
                "prepare_images",
                {"settings": decisive_settings(settings), **conversion, "on_error": options.on_error},
                [],
            ),
        )


if __name__ == "__main__":
    run_stage(main)
