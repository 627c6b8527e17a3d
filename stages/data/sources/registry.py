"""The readers by the name that `source` gives them; a new one is a module and a name here."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.data.sources.base import STRICT, Manifest, Tolerance
from stages.data.sources.published import IncompleteError
from stages.data.sources.reader import TERMS, Reader

READERS = (
    *("image_folder", "table", "synthetic_faces"),
    *("aflw", "deepfashion", "expw", "fairface", "ferplus", "peta", "sfew"),
)
"""Modules of this package, in the order of the docs."""


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
    reader = find_reader(settings.get("source"))
    try:
        return reader.read(settings, Path(data_root), tolerance)
    except IncompleteError as error:
        raise UserError(
            f"{error}; get {reader.publisher.dataset} from its publisher ({reader.publisher.page}) and unpack all of "
            "it, or correct `path` or `data_root`"
        ) from None


def read_dataset(settings: Mapping[str, Any], name: str) -> Manifest:
    """A dataset of an experiment.

    Args:
        settings: of the experiment, defaults filled in.
        name: of the dataset.

    Raises:
        ValueError: it cannot be read; the message names it.
    """
    images = settings["images"]
    tolerance = Tolerance(images["outside_data_root"] == "allow", images["on_error"] == "skip")
    try:
        return read_source(settings["datasets"][name], settings["data_root"], tolerance)
    except UserError as error:
        raise UserError(f"dataset {name}: {error}") from None


def find_reader(name: str) -> "Reader":
    """The reader of a source; of the readers' modules only its own is imported.

    Raises:
        ValueError: there is none.
    """
    # What identifies a dataset's images is the code that is used by its name: neither all of READERS, but for the
    # message, nor, the type being quoted, what readers say of themselves.
    path = f"stages.data.sources.{name}"
    reader = getattr(import_module(path), "READER", None) if str(name).isidentifier() and find_spec(path) else None
    if reader is None:
        raise UserError(f"unknown source '{name}'; set `source` to {', '.join(READERS)}")
    return reader


def list_readers() -> dict[str, Reader]:
    """All readers by name."""
    return {name: find_reader(name) for name in READERS}


def describe_source(name: str) -> str:
    """Where the images of a source come from and what that means for a network, for people."""
    reader = find_reader(name)
    if reader.publisher is None:
        return reader.origin
    return f"{reader.publisher.dataset}, from {reader.publisher.page}. {TERMS}"


def is_cropped(settings: Mapping[str, Any]) -> bool:
    """Whether a dataset's samples are boxes cut out of its images."""
    return find_reader(settings["source"]).cropped(settings)
