"""What the stages share that take images as they are, not prepared.

Their decoding processes import the stage anew, so that nothing here, and nothing at the top of those
stages, imports torch.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.command.stage import positive_int, show_progress
from stages.core.errors import UserError
from stages.data.sources.base import FileLoader, Sample
from stages.data.sources.decoding import Decoder, decode_batches

STATUS_SKIPPED = 3
"""Exit status where some images could not be used."""


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """--batch-size, --max-pixels, --workers."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--batch-size", type=positive_int, default=64, help="images at a time")
    parser.add_argument("--max-pixels", type=positive_int, default=89478485, help="larger images are bad images")
    parser.add_argument(
        "--workers", type=positive_int, default=n_cores, help="decoding processes; no part of the result"
    )


def check_output(path: str, suffixes: Sequence[str]) -> None:
    """Refuse a name that could not be written to, before anything is computed.

    Raises:
        ValueError: it ends otherwise, is a folder, or lies in what is no folder.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise UserError(f"{path}: must end in {' or '.join(suffixes)}; correct --output")
    if Path(path).is_dir():
        raise UserError(f"{path}: is a folder; name a file with --output")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: its folder cannot be made ({error.strerror}); correct --output") from None


def read_batches(
    options: argparse.Namespace, specification, folder: Path, samples: Sequence[Sample], skipped: list[tuple[str, str]]
) -> Iterator[tuple[list[Sample], np.ndarray]]:
    """Images in the form that a network was trained on; those that cannot be used are listed on standard error.

    Args:
        options: those of `add_decoding_options`.
        specification: `NetworkSpecification` of the network.
        folder: that the samples' paths start from.
        samples: in the order wanted.
        skipped: gets path and reason of every image that cannot be used.

    Yields:
        Samples and their images, uint8 (B, H, W, C), B at least 1.
    """

    def skip(sample: Sample, reason: str) -> None:
        path = _make_text(sample.path)
        print(f"{Path(sys.argv[0]).stem}: {folder / path}: {reason}", file=sys.stderr)
        skipped.append((path, reason))

    named = [sample for sample in samples if _make_text(sample.path) == sample.path]
    for sample in samples:
        if _make_text(sample.path) != sample.path:
            skip(sample, "has a name that is not UTF-8; rename it")
    height, width, channels = specification.image_shape
    decoder = Decoder(FileLoader(folder), height, width, channels, specification.fit, options.max_pixels)
    batches = decode_batches(decoder, named, options.workers, options.batch_size)
    n_batches = -(-len(named) // options.batch_size)
    for found, images, bad in show_progress(batches, description="images", total=n_batches):
        for sample, reason in bad:
            skip(sample, reason)
        if found:
            yield found, images
    if len(skipped) == len(samples):
        raise UserError(f"{folder}: none of the images can be used")
    if skipped:
        print(f"{len(skipped)} of {len(samples)} images could not be used, see above", file=sys.stderr)


def _make_text(path: str) -> str:
    """A file's name as text, bytes that are none as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()
