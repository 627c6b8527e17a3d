"""The explorer as a folder: a page, the data as scripts and the thumbnails as sheets.

A page from file:// may neither fetch nor import, but may load classic scripts: each column of each epoch is
one, which hands its values over in base64. Names reach the page as JSON only, never as markup.
"""

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.projection import embed_neighborhoods, find_neighbors, project_principal
from stages.report.explorer.samples import (
    UNKNOWN,
    WEIGHT_SYMBOLS,
    Population,
    RunFiles,
    View,
    iterate_images,
    list_views,
    read_view,
)
from stages.report.explorer.thumbnails import COLUMNS, PER_SHEET, draw_sheet, plan_tiles
from stages.storage.contracts import WEIGHTS
from stages.storage.files import digest_file

STATIC = Path(__file__).parent / "static"
N_SHARES = 5
"""Classes of a soft label that are shown, the largest first; the rest is one grey part."""
N_NEIGHBORS = 8


class Writer:
    """Writes scripts that hand one column each to the page.

    Args:
        folder: of the page.
        sizes: samples of each dataset; columns hold all of them, dataset after dataset.
    """

    def __init__(self, folder: Path, sizes: Sequence[int]) -> None:
        self._folder = folder
        self._bounds = np.cumsum([0, *sizes])

    def write_call(self, name: str, *arguments: Any) -> None:
        """A script that calls a function of the page."""
        path = self._folder / "data" / f"{name}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        # ASCII only: no character of a name can be taken for the end of a line or of a string.
        listed = ",".join(json.dumps(argument, separators=(",", ":")) for argument in arguments)
        path.write_text(f"explorer.take({json.dumps(name)},{listed});\n", encoding="ascii")

    def write_column(self, name: str, values: np.ndarray) -> None:
        """Values of all samples, (n,) or (n, width); datasets that have none are left out."""
        known = ~np.isnan(values) if values.dtype.kind == "f" else values > (UNKNOWN if values.dtype.kind == "i" else 0)
        known = known.reshape(len(values), -1).any(axis=1)
        datasets = [
            number
            for number, (start, stop) in enumerate(zip(self._bounds[:-1], self._bounds[1:], strict=True))
            if known[start:stop].any()
        ]
        parts = [values[self._bounds[number] : self._bounds[number + 1]] for number in datasets]
        content = base64.b64encode(b"".join(np.ascontiguousarray(part).astype(_little(part)) for part in parts))
        kind = f"{values.dtype.kind}{values.dtype.itemsize}"
        width = 1 if values.ndim == 1 else values.shape[1]
        self.write_call(name, kind, width, datasets, content.decode())


def _little(values: np.ndarray) -> np.dtype:
    return values.dtype.newbyteorder("<")


def write_explorer(
    folder: Path,
    population: Population,
    runs: Sequence[RunFiles],
    *,
    experiment: str,
    n_epochs: int,
    chosen_epochs: Mapping[str, int],
    thumbnail: int,
    max_embedded: int,
    seed: int,
) -> None:
    """Write the page and all of its data into an empty folder.

    Args:
        folder: that exists.
        population: the samples.
        runs: whose epochs are shown.
        experiment: its name.
        n_epochs: the last epoch.
        chosen_epochs: that validation chose, by `method/seed`.
        thumbnail: longest side of a thumbnail, in pixels.
        max_embedded: samples that t-SNE places, in the last epoch of each run and task; 0 leaves it out.
        seed: of the choice of these samples, and of t-SNE.
    """
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    writer = Writer(folder, population.sizes)
    writer.write_column("ids", _shrink(population.sample_ids))
    for number, (start, stop) in enumerate(zip(population.offsets[:-1], population.offsets[1:], strict=True)):
        writer.write_call(f"paths-{number}", population.paths[start:stop].tolist())
    for number, task in enumerate(population.classes):
        writer.write_column(f"given-{number}", _shrink(population.given[task]))
        writer.write_column(f"held-{number}", _shrink(population.held_back[task]))
    shown = []
    for number, run in enumerate(runs):
        views = list_views(population, run, n_epochs)
        tables = {
            task: [
                _write_view(
                    writer,
                    f"run-{number}/epoch-{epoch}/{list(population.classes).index(task)}",
                    read_view(population, run, epoch, task),
                    max_embedded if epoch == epochs[-1] else None,
                    seed,
                )
                for epoch in epochs
            ]
            for task, epochs in views.items()
        }
        chosen = chosen_epochs.get(f"{run.method}/{run.seed}")
        shown.append({"method": run.method, "seed": run.seed, "chosen": chosen, "views": tables})
    sheets = write_sheets(folder / "sheets", population, thumbnail)
    descriptions = {column.name: column.description for column in WEIGHTS.columns}
    writer.write_call(
        "index",
        {
            "experiment": experiment,
            "n_all": population.n_all,
            "datasets": [
                {"name": split.name, "n": size} for split, size in zip(population.splits, population.sizes, strict=True)
            ],
            "tasks": [{"name": task, "classes": names} for task, names in population.classes.items()],
            "weights": [
                {"key": key, "symbol": symbol, "title": descriptions[key]} for key, symbol in WEIGHT_SYMBOLS.items()
            ],
            "runs": shown,
            "sheets": sheets,
        },
    )


def _write_view(writer: Writer, place: str, view: View, max_embedded: int | None, seed: int) -> dict[str, Any]:
    """Write the columns of an epoch and task; returns what the page has to know of them."""
    columns = [*view.weights]
    for name, values in view.weights.items():
        writer.write_column(f"{place}/{name}", values)
    writer.write_column(f"{place}/pseudo", _shrink(view.pseudo_labels))
    writer.write_column(f"{place}/soft", rank_shares(view.soft_labels))
    if len(view.featured):
        columns += ["pca_x", "pca_y"]
        _write_plane(writer, f"{place}/pca", project_principal(view.features), view.featured, len(view.pseudo_labels))
    if len(view.featured) and max_embedded is not None:
        columns += ["neighbor_distance"]
        rows, distances = find_neighbors(view.features, N_NEIGHBORS)
        neighbors = np.full((len(view.pseudo_labels), N_NEIGHBORS), UNKNOWN, dtype=np.int32)
        neighbors[view.featured] = np.where(rows < 0, UNKNOWN, view.featured[rows])
        nearest = np.full(len(neighbors), np.nan, dtype=np.float32)
        nearest[view.featured] = distances[:, 0]
        writer.write_column(f"{place}/neighbors", neighbors)
        writer.write_column(f"{place}/neighbor_distance", nearest)
    if len(view.featured) > 3 and max_embedded:
        columns += ["tsne_x", "tsne_y"]
        chosen = np.sort(np.random.default_rng(seed).permutation(len(view.featured))[:max_embedded])
        plane = embed_neighborhoods(view.features[chosen], seed)
        _write_plane(writer, f"{place}/tsne", plane, view.featured[chosen], len(view.pseudo_labels))
    return {"epoch": view.epoch, "datasets": view.datasets, "columns": columns}


def _write_plane(writer: Writer, name: str, plane: np.ndarray, places: np.ndarray, n_samples: int) -> None:
    for axis, values in zip("xy", plane.T, strict=True):
        column = np.full(n_samples, np.nan, dtype=np.float32)
        column[places] = values
        writer.write_column(f"{name}_{axis}", column)


def rank_shares(soft_labels: np.ndarray) -> np.ndarray:
    """The largest shares of soft labels, (n, C) with NaN for none, as pairs of class and 255ths (n, 2k); 0 for none."""
    k = min(N_SHARES, soft_labels.shape[1])
    known = ~np.isnan(soft_labels).any(axis=1)
    ranked = np.argsort(-soft_labels[known], axis=1, kind="stable")[:, :k]
    pairs = np.zeros((len(soft_labels), 2 * k), dtype=np.uint8 if soft_labels.shape[1] <= 256 else np.uint16)
    pairs[known, 0::2] = ranked
    pairs[known, 1::2] = np.rint(255 * np.take_along_axis(soft_labels[known], ranked, axis=1))
    return pairs


def _shrink(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that the page reads."""
    largest = int(np.abs(values).max(initial=0))
    return values.astype("i1" if largest < 128 else "i2" if largest < 2**15 else "i4" if largest < 2**31 else "f8")


def write_sheets(folder: Path, population: Population, thumbnail: int) -> dict[str, Any]:
    """Write the thumbnails, `PER_SHEET` at a time; returns how they lie."""
    folder.mkdir()
    tiles = plan_tiles(*population.splits[0].images.shape[1:3], thumbnail)
    counts = [0] * len(population.splits)
    for dataset, images in iterate_images(population, PER_SHEET):
        (folder / f"{dataset}-{counts[dataset]}.jpg").write_bytes(draw_sheet(images, tiles))
        counts[dataset] += 1
    for split in population.splits:
        split.confirm()
    return {"columns": COLUMNS, "per_sheet": PER_SHEET, **asdict(tiles)}


def digest_files(folder: Path) -> dict[str, str]:
    """Digests of all files of a folder by their path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}
