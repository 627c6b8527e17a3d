"""The tasks that the settings of a dataset name labels for, and where each of these is."""

from collections.abc import Mapping
from typing import Any


def list_labels(settings: Mapping[str, Any]) -> dict[str, str]:
    """The label of every task that a dataset is labelled for: a column, or what else its source calls it.

    Args:
        settings: of one dataset; `task` is short for `labels` with one task.
    """
    if "labels" in settings:
        return dict(settings["labels"])
    return {settings["task"]: settings.get("columns", {}).get("label", settings["task"])}


def list_audits(settings: Mapping[str, Any]) -> dict[str, str]:
    """The label of every task for which a dataset carries labels that are never trained on."""
    return {**settings.get("columns", {}).get("audit", {}), **settings.get("audit", {})}


def list_held_back(settings: Mapping[str, Any]) -> list[str]:
    """The tasks for which a dataset holds back labels that are known."""
    return list(dict.fromkeys([*list_audits(settings), *settings.get("known", {})]))
