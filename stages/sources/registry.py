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
