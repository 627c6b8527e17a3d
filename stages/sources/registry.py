"""The readers by the name that `source` gives them; a new one is a module and a line here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.sources import (
    aflw,
    deepfashion,
    expw,
    ferplus,
    image_folder,
    peta,
    sfew,
    synthetic_faces,
    table,
)
from stages.sources.base import Manifest

LABEL_FILES = {
    "aflw": ("aflw.sqlite",),
    "deepfashion": tuple(f"{folder}/*.txt" for folder in deepfashion.FOLDERS),
    "expw": ("label/label.lst",),
    "ferplus": ("fer2013new.csv",),
    "peta": ("*/archive/Label.txt",),
}
"""Where a published dataset has its labels, below `path`."""

READERS = {
    "image_folder": image_folder.read,
    "synthetic_faces": synthetic_faces.read,
    "table": table.read,
    "aflw": aflw.read,
    "deepfashion": deepfashion.read,
    "expw": expw.read,
    "ferplus": ferplus.read,
    "peta": peta.read,
    "sfew": sfew.read,
}

PUBLISHERS = {
    "aflw": aflw.PUBLISHER,
    "deepfashion": deepfashion.PUBLISHER,
    "expw": expw.PUBLISHER,
    "ferplus": ferplus.PUBLISHER,
    "peta": peta.PUBLISHER,
    "sfew": sfew.PUBLISHER,
}


def read_source(settings: Mapping[str, Any], data_root: str | Path) -> Manifest:
    """List a dataset; no image is opened.

    Args:
        settings: of one dataset: `source`, `task`, and the keys of that source.
        data_root: folder that the paths in the settings are relative to.

    Raises:
        ValueError: there is no such source, or the dataset breaks one of its rules; the message is
            one line that says what, where and how to mend it.
    """
    name = settings.get("source")
    if name not in READERS:
        raise ValueError(f"unknown source '{name}'; set `source` to {', '.join(READERS)}")
    return READERS[name](settings, Path(data_root))


def list_label_files(settings: Mapping[str, Any], data_root: str | Path) -> list[Path]:
    """The files whose content says which image has which label, sorted; none where folders do.

    Args:
        settings: of one dataset.
        data_root: see `read_source`.
    """
    path = Path(data_root) / settings.get("path", "")
    if settings["source"] == "table":
        return [path] if path.is_file() else []
    return sorted(file for pattern in LABEL_FILES.get(settings["source"], ()) for file in path.glob(pattern))


def describe_source(name: str) -> str:
    """Where the images of a source come from and what that means for a network, for people."""
    if name == "synthetic_faces":
        return "drawn by this project's code."
    publisher = PUBLISHERS.get(name)
    whose = f"{publisher.dataset}, from {publisher.page}" if publisher else "from a folder or table; whose, is not said"
    return f"{whose}. The terms of the images decide what the network may be used for."


def is_cropped(settings: Mapping[str, Any]) -> bool:
    """Whether a dataset's samples are boxes cut out of its images."""
    return settings["source"] in ("aflw", "expw") or (
        settings["source"] == "deepfashion" and settings.get("crop", True)
    )
