"""Options that several stages share, each defined once."""

import argparse
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from stages.command import positive_int
from stages.storage.datasets import PreparedSplit, open_split

if TYPE_CHECKING:
    from stages.core.augmentation import Augmentation


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """--device, --threads."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA if any")
    parser.add_argument(
        "--threads", type=positive_int, default=2, help="of the process; part of the result, to the last bit"
    )


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """--tables, --images: prepared splits, in the same order."""
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifests of the splits")
    parser.add_argument("--images", nargs="+", required=True, metavar="NPY", help="their images, in the same order")


def open_splits(options: argparse.Namespace) -> list[PreparedSplit]:
    """The splits of --tables and --images.

    Raises:
        ValueError: their numbers differ, or one cannot be opened.
    """
    if len(options.tables) != len(options.images):
        raise ValueError(f"--tables names {len(options.tables)} files and --images {len(options.images)}; pair them")
    return [open_split(table, images) for table, images in zip(options.tables, options.images, strict=True)]


def confirm_splits(splits: Iterable[PreparedSplit]) -> None:
    """Before a result is written: see `PreparedSplit.confirm`."""
    for split in splits:
        split.confirm()


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What a pass of training needs beside its data."""
    parser.add_argument("--batch-size", type=positive_int, default=32, help="samples per step")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of Adam")
    parser.add_argument("--loader-workers", type=int, default=0, help="processes that load batches")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument("--horizontal-flip", choices=("True", "False"), default="False", help="mirror half the images")
    parser.add_argument("--shift", type=int, default=0, help="largest shift in pixels")
    parser.add_argument("--brightness", type=float, default=0.0, help="largest relative change of brightness")
    parser.add_argument("--contrast", type=float, default=0.0, help="largest relative change of contrast")
    parser.add_argument("--output-network", required=True, metavar="SAFETENSORS")
    parser.add_argument("--output-optimizer", required=True, metavar="SAFETENSORS")
    parser.add_argument("--output-card", required=True, metavar="JSON")
    add_compute_options(parser)


def read_augmentation(options: argparse.Namespace) -> "Augmentation":
    """The augmentation of the training options."""
    # Imports torch, which the decoding processes of predict and evaluate can do without.
    from stages.core.augmentation import Augmentation

    return Augmentation(
        horizontal_flip=options.horizontal_flip == "True",
        shift=options.shift,
        brightness=options.brightness,
        contrast=options.contrast,
    )


def training_parameters(options: argparse.Namespace) -> dict:
    """The training options that decide the result, as they are recorded."""
    augmentation = asdict(read_augmentation(options))
    return {"batch_size": options.batch_size, "learning_rate": options.learning_rate, "augmentation": augmentation}


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed wall time, to a hundredth."""
        return round(time.perf_counter() - self._start, 2)
