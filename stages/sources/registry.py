"""The readers by the name that `source` gives them; a new one is a module and a name here."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.sources.base import STRICT, Manifest, Tolerance

READERS = ("image_folder", "synthetic_faces", "table", "aflw", "deepfashion", "expw", "ferplus", "peta", "sfew")
"""Modules of this package. Each is imported only when it is asked for: what was read does not depend on the others."""


def read_source(settings: Mapping[str, Any], data_root: str | Path, tolerance: Tolerance = STRICT) -> Manifest:
    """List a dataset; no image is opened.

    Args:
        settings: of one dataset: `source`, `task`, and the keys of that source.
        data_root: folder that the paths in the settings are relative to.
        tolerance: of what would otherwise be an error.

    Raises:
        ValueError: there is no such source, or the dataset breaks one of its rules; the message is
            one line that says what, where and how to mend it.
    """
    name = settings.get("source")
    if name not in READERS:
        raise ValueError(f"unknown source '{name}'; set `source` to {', '.join(READERS)}")
    return find_reader(name).read(settings, Path(data_root), tolerance)


def find_reader(name: str) -> ModuleType:
    """The module of a source."""
    return importlib.import_module(f"stages.sources.{name}")


def describe_source(name: str) -> str:
    """Where the images of a source come from and what that means for a network, for people."""
    if name == "synthetic_faces":
        return "drawn by this project's code."
    publisher = getattr(find_reader(name), "PUBLISHER", None)
    whose = f"{publisher.dataset}, from {publisher.page}" if publisher else "from a folder or table; whose, is not said"
    return f"{whose}. The terms of the images decide what the network may be used for."


def is_cropped(settings: Mapping[str, Any]) -> bool:
    """Whether a dataset's samples are boxes cut out of its images."""
    return settings["source"] in ("aflw", "expw") or (
        settings["source"] == "deepfashion" and settings.get("crop", True)
    )
