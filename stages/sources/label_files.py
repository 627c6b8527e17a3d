"""Which files and settings decide what a dataset is, for planning: nothing beyond the standard library is imported."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

DEEPFASHION_FOLDERS = ("Anno", "Anno_coarse")
DEEPFASHION_LISTS = ("list_category_cloth.txt", "list_category_img.txt", "list_bbox.txt")
LABEL_FILES = {
    "aflw": [("aflw.sqlite",)],
    "deepfashion": [tuple(f"{folder}/{name}" for folder in DEEPFASHION_FOLDERS) for name in DEEPFASHION_LISTS],
    "expw": [("label/label.lst",)],
    "ferplus": [("fer2013new.csv",)],
    "peta": [("*/archive/Label.txt",)],
}
"""Where a published dataset has its labels, below `path`: patterns of which the first that is there is read."""


def list_label_files(settings: Mapping[str, Any], data_root: str | Path) -> list[Path]:
    """The files whose content says which image has which label, sorted; none where folders do.

    Args:
        settings: of one dataset.
        data_root: folder that the paths in the settings are relative to.
    """
    path = Path(data_root) / settings.get("path", "")
    if settings["source"] == "table":
        return [path] if path.is_file() else []
    found = []
    for patterns in LABEL_FILES.get(settings["source"], ()):
        found += next((files for pattern in patterns if (files := list(path.glob(pattern)))), [])
    if settings["source"] == "deepfashion" and not settings.get("crop", True):
        found = [file for file in found if file.name != "list_bbox.txt"]
    return sorted(found)


def decisive_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a dataset that decide its images and labels.

    Without `path` and `images`, which say where it lies, and without `columns.audit`, which is held back.
    """
    decisive = {name: value for name, value in settings.items() if name not in ("path", "images")}
    if "columns" in settings:
        decisive["columns"] = {name: column for name, column in settings["columns"].items() if name != "audit"}
    return decisive


def place_images(settings: Mapping[str, Any]) -> str:
    """The folder below `data_root` in which a dataset's images lie: with the same labels, another holds others."""
    if settings["source"] == "table":
        return settings.get("images", PurePath(settings["path"]).parent.as_posix())
    return settings.get("path", "")


def audit_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a dataset's audit labels beside `decisive_settings`: column by task."""
    return dict(settings.get("columns", {}).get("audit", {}))
