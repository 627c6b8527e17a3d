"""Stages' tables of a run put side by side: a row for each sample, columns for each task."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.core.projection import project_principal
from stages.report.explorer.samples import (
    UNKNOWN,
    WEIGHT_SYMBOLS,
    Population,
    RunFiles,
    View,
    list_views,
    read_view,
)


def collect_columns(population: Population, run: RunFiles, n_epochs: int) -> dict[str, np.ndarray]:
    """All columns but the images."""
    names = np.array([split.name for split in population.splits], dtype=object)
    columns = {
        "dataset": np.repeat(names, population.sizes),
        "sample_id": population.sample_ids,
        "path": population.paths,
    }
    views = list_views(population, run, n_epochs)
    for task, classes in population.classes.items():
        columns[f"label_{task}"] = _name_classes(population.given[task], classes)
        columns[f"held_back_{task}"] = _name_classes(population.held_back[task], classes)
        said = merge_views(population, run, task, views.get(task, []))
        columns[f"pseudo_class_{task}"] = _name_classes(said.pop("pseudo_label"), classes)
        columns |= {f"{name}_{task}": values for name, values in said.items()}
    return columns


def merge_views(population: Population, run: RunFiles, task: str, epochs: Sequence[int]) -> Mapping[str, np.ndarray]:
    """What the last epochs say for a task: of each dataset that which weighed it last, of others the last of all."""
    n_samples, n_classes = len(population.paths), len(population.classes[task])
    merged: dict[str, np.ndarray] = {
        "epoch": np.full(n_samples, None, dtype=object),
        "pseudo_label": np.full(n_samples, UNKNOWN),
        **{name: np.full(n_samples, np.nan) for name in (*WEIGHT_SYMBOLS, "x", "y")},
        **{name: np.full((n_samples, n_classes), np.nan, "f4") for name in ("soft_label", "training_label")},
    }
    names = [split.name for split in population.splits]
    open_datasets = set(names)
    for epoch in reversed(epochs):
        view = read_view(population, run, epoch, task)
        last = epoch == epochs[-1]
        if not last and not open_datasets & set(view.datasets):
            continue
        for number, name in enumerate(names):
            if name in open_datasets and (last or name in view.datasets):
                _copy(view, merged, slice(*population.offsets[number : number + 2]))
        open_datasets -= set(view.datasets)
        if last:
            merged["x"][view.featured], merged["y"][view.featured] = project_principal(view.features).T
        if not open_datasets:
            break
    return merged


def _copy(view: View, merged: dict[str, np.ndarray], rows: slice) -> None:
    merged["pseudo_label"][rows] = view.pseudo_labels[rows]
    merged["soft_label"][rows] = view.soft_labels[rows]
    merged["training_label"][rows] = view.training_labels[rows]
    for name, values in view.weights.items():
        merged[name][rows] = values[rows]
    merged["epoch"][rows] = np.where(view.pseudo_labels[rows] == UNKNOWN, None, view.epoch)


def _name_classes(indices: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.array([*classes, None], dtype=object)[indices]
