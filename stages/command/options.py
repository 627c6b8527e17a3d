"""Options that several stages share, each defined once."""

import argparse
import time
from collections.abc import Iterable

from stages.command.stage import positive_int
from stages.core.errors import UserError
from stages.storage.datasets import PreparedSplit, open_split


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
        raise UserError(f"--tables names {len(options.tables)} files and --images {len(options.images)}; pair them")
    return [open_split(table, images) for table, images in zip(options.tables, options.images, strict=True)]


def confirm_splits(splits: Iterable[PreparedSplit]) -> None:
    """Before a result is written: see `PreparedSplit.confirm`."""
    for split in splits:
        split.confirm()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed wall time, to a hundredth."""
        return round(time.perf_counter() - self._start, 2)
