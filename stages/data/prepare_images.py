"""Decode a dataset's images once, to one shape, into a memory map and a manifest per split."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stages.command.stage import run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.specification import FITS
from stages.data.sources.base import SPLITS, Sample, Tolerance, digest_samples, list_columns
from stages.data.sources.decoding import Decoder, decode_in_order
from stages.data.sources.label_files import decisive_settings
from stages.data.sources.registry import read_source
from stages.data.sources.streams import write_images
from stages.storage.contracts import MANIFEST
from stages.storage.files import digest_file
from stages.storage.image_cache import restore_files, store_files
from stages.storage.tables import Provenance, write_table

CONVERSION = ("height", "width", "channels", "fit", "max_pixels")


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
    parser.add_argument("--cache", metavar="DIR", type=Path, help="folder in which experiments share decoded images")
    parser.add_argument(
        "--identity", metavar="TEXT", help="for --cache: what else decides the images, such as versions"
    )
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits to prepare")
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifest of each split")
    parser.add_argument("--images", nargs="+", required=True, metavar="NPY", help="images of each split")
    options = parser.parse_args(argv)
    if not len(options.splits) == len(options.tables) == len(options.images):
        raise UserError("--splits, --tables and --images must name equally many")
    if (options.cache is None) != (options.identity is None):
        raise UserError("--cache and --identity belong together; give both or neither")
    settings = json.loads(options.settings)
    conversion = {name: getattr(options, name) for name in CONVERSION}
    parameters = {"settings": decisive_settings(settings), **conversion, "on_error": options.on_error}
    tolerance = Tolerance(options.outside_data_root == "allow", options.on_error == "skip")
    try:
        manifest = read_source(settings, options.data_root, tolerance)
        chosen = [(number, one) for number, one in enumerate(manifest.samples) if one.split in options.splits]
        samples = [one for _, one in chosen]
        images = dict(zip(options.splits, options.images, strict=True))
        record = decode_or_restore(options, manifest.load, samples, images, parameters)
    except UserError as error:
        raise UserError(f"dataset {options.dataset}: {error}") from None
    skipped = record["skipped"]
    bad = {path for pairs in skipped.values() for path, _ in pairs}
    rows = {split: [one for one in chosen if one[1].split == split and one[1].path not in bad] for split in images}
    if n_skipped := sum(map(len, skipped.values())):
        n_images = n_skipped + sum(map(len, rows.values()))
        print(
            f"dataset {options.dataset}: left out {n_skipped} of {n_images} images; the manifests' metadata list them"
        )
    for split, path_table in zip(options.splits, options.tables, strict=True):
        write_table(
            path_table,
            MANIFEST,
            list_columns(rows[split], manifest.classes),
            metadata={
                "dataset": options.dataset,
                "tasks": list(manifest.classes),
                "split": split,
                "classes": {task: list(names) for task, names in manifest.classes.items()},
                "image_shape": [options.height, options.width, options.channels],
                "images_digest": record["digests"][f"{split}.npy"],
                "skipped": skipped[split],
            },
            provenance=Provenance("prepare_images", parameters, []),
        )


def decode_or_restore(
    options: argparse.Namespace,
    load: Callable[[Sample, int], Image.Image],
    samples: Sequence[Sample],
    images: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the images of every split, or link those of an earlier experiment that were made from the same files.

    Args:
        options: of the stage.
        load: of the manifest.
        samples: of the splits wanted.
        images: path to write to, by split.
        parameters: what decides the images, as it is recorded.

    Returns:
        `skipped`, path and reason of every bad image by split, and `digests` of the files.

    Raises:
        ValueError: see `check_skipped`.
    """
    files = {f"{split}.npy": path for split, path in images.items()}
    entry = None
    if options.cache:
        identity = json.dumps([options.identity, parameters, options.splits], sort_keys=True)
        entry = options.cache / digest_samples(samples, load, identity)
        if record := restore_files(entry, files):
            print(f"dataset {options.dataset}: its images were decoded before, see {entry}")
            return record
    decoder = Decoder(load, **{name: getattr(options, name) for name in CONVERSION})
    decoded = show_progress(
        decode_in_order(decoder, samples, options.workers),
        description=options.dataset,
        total=len(samples),
        unit="image",
    )
    image_shape = (options.height, options.width, options.channels)
    skipped = write_images(images, image_shape, samples, decoded, stop=options.on_error == "stop")
    record = {"skipped": skipped, "digests": {name: digest_file(path) for name, path in files.items()}}
    if entry:
        store_files(entry, files, record)
    return record


if __name__ == "__main__":
    run_stage(main)
