"""Options of the stages that take images as they are, not prepared."""

import argparse
import os
from collections.abc import Callable

from stages.core.network import NetworkSpecification
from stages.sources.decoding import Decoder


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """--batch-size, --max-pixels, --workers."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time")
    parser.add_argument("--max-pixels", type=int, default=89478485, help="larger images are bad images")
    parser.add_argument("--workers", type=int, default=n_cores, help="decoding processes; no part of the result")


def open_decoder(options: argparse.Namespace, specification: NetworkSpecification, load: Callable) -> Decoder:
    """A decoder that gives images the form that a network was trained on.

    Args:
        options: those of `add_decoding_options`.
        specification: of the network.
        load: of a manifest.
    """
    height, width, channels = specification.image_shape
    return Decoder(load, height, width, channels, specification.fit, options.max_pixels)
