"""Which files and settings decide what a dataset is, for planning: nothing heavy is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.task_labels import list_audits, list_labels
from stages.data.sources.registry import find_reader


def list_label_files(settings: Mapping[str, Any], data_root: str | Path) -> list[Path]:
    """The files whose content says which image has which label, sorted; none where folders do.

    Args:
        settings: of one dataset.
        data_root: folder that the paths in the settings are relative to.
    """
    path = Path(data_root) / settings.get("path", "")
    if path.is_file():
        return [path]
    found = []
    for patterns in find_reader(settings["source"]).label_files(settings):
        found += next((files for pattern in patterns if (files := list(path.glob(pattern)))), [])
    return sorted(found)


def decisive_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a dataset that decide its images and labels.

    Without `path` and `images`, which say where it lies, and without `audit`, which is held back.
    """
    decisive = {name: value for name, value in settings.items() if name not in ("path", "images", "audit", "tasks")}
    if "columns" in settings:
        decisive["columns"] = {name: column for name, column in settings["columns"].items() if name != "audit"}
    if tasks := {task: settings["tasks"][task] for task in list_labels(settings) if task in settings.get("tasks", {})}:
        decisive["tasks"] = tasks
    return decisive


def place_images(settings: Mapping[str, Any]) -> str:
    """The folder below `data_root` in which a dataset's images lie: with the same labels, another holds others."""
    return find_reader(settings["source"]).place_images(settings)


def audit_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a dataset's audit labels beside `decisive_settings`: by task its column, and its classes' names."""
    of_tasks = settings.get("tasks", {})
    return {
        task: [column, of_tasks[task]] if task in of_tasks else column for task, column in list_audits(settings).items()
    }
