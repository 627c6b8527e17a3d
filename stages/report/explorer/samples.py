"""The training samples of an experiment, and what the epochs of a run have left about them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.errors import UserError
from stages.storage.contracts import AUDIT_LABELS, FEATURES, LABELS, MANIFEST, WEIGHTS
from stages.storage.datasets import PreparedSplit, open_split
from stages.storage.tables import Table, read_metadata, read_table

WEIGHT_SYMBOLS = {
    "selection_weight": "w",
    "confidence_weight": "w^c",
    "density_weight": "w^d",
    "confident_weight": "w^s",
    "distribution_weight": "w^g",
    "sample_distance": "d̂",
}
"""The columns of weights.parquet that are shown, in this order, with the paper's symbols."""
UNKNOWN = -1
"""No class: the label is not known, or there is no prediction."""


@dataclass(frozen=True)
class Population:
    """The samples that are shown, dataset after dataset; n of them.

    Attributes:
        splits: the datasets.
        rows: of each dataset the rows that are shown.
        paths: of the images, object (n,).
        classes: names by task.
        given: index of the label that is trained on, int32 (n,) by task, or `UNKNOWN`.
        held_back: of a label that is known and not trained on, int32 (n,) by task, or `UNKNOWN`.
        n_all: samples there are, shown or not.
    """

    splits: Sequence[PreparedSplit]
    rows: Sequence[np.ndarray]
    paths: np.ndarray
    classes: Mapping[str, list[str]]
    given: Mapping[str, np.ndarray]
    held_back: Mapping[str, np.ndarray]
    n_all: int

    @property
    def sizes(self) -> list[int]:
        """Samples shown of each dataset."""
        return [len(rows) for rows in self.rows]

    @property
    def offsets(self) -> np.ndarray:
        """Where each dataset begins, and after the last n."""
        return np.cumsum([0, *self.sizes])

    @property
    def sample_ids(self) -> np.ndarray:
        """Numbers of the samples within their datasets, int64 (n,)."""
        return np.concatenate([split.sample_ids[rows] for split, rows in zip(self.splits, self.rows, strict=True)])

    def locate(self, dataset: int, table: Table, path: str) -> tuple[np.ndarray, np.ndarray]:
        """Which rows of a table are shown, and the place of each among all samples.

        Raises:
            ValueError: the table is about other samples.
        """
        split, rows = self.splits[dataset], self.rows[dataset]
        if table.metadata["dataset"] != split.name or not np.isin(table["sample_id"], split.sample_ids).all():
            raise UserError(f"{path}: its samples are not those of {split.path_table}; run snakemake again")
        _, of_table, places = np.intersect1d(
            table["sample_id"], split.sample_ids[rows], assume_unique=True, return_indices=True
        )
        return of_table, places + self.offsets[dataset]


def open_population(
    tables: Sequence[str], images: Sequence[str], audits: Sequence[str], max_samples: int | None = None
) -> Population:
    """The samples of training splits with their labels, given and held back.

    Args:
        tables: manifests.
        images: in the same order.
        audits: tables of labels held back.
        max_samples: of all datasets together; more are thinned out evenly by a fixed seed. None keeps all.

    Raises:
        ValueError: a file is missing or damaged, or they do not belong together.
    """
    splits = [open_split(table, npy) for table, npy in zip(tables, images, strict=True)]
    manifests = [read_table(path, MANIFEST) for path in tables]
    held_back = {table.metadata["dataset"]: table for table in (read_table(path, AUDIT_LABELS) for path in audits)}
    classes: dict[str, list[str]] = {}
    for manifest in manifests:
        for task, names in manifest.metadata["classes"].items():
            classes[task] = list(dict.fromkeys([*classes.get(task, []), *names]))
    n_all = sum(map(len, manifests))
    rows = _choose_rows([len(manifest) for manifest in manifests], max_samples)
    joined: dict[str, dict[str, np.ndarray]] = {"label": {}, "audit": {}}
    for task, names in classes.items():
        for kind, found in joined.items():
            sources = manifests if kind == "label" else [held_back.get(split.name) for split in splits]
            parts = [
                _index_classes(source, f"{kind}_{task}", names, split.sample_ids)[kept]
                for source, split, kept in zip(sources, splits, rows, strict=True)
            ]
            found[task] = np.concatenate(parts)
    paths = np.concatenate([manifest["path"][kept] for manifest, kept in zip(manifests, rows, strict=True)])
    return Population(splits, rows, paths, classes, joined["label"], joined["audit"], n_all)


def _choose_rows(sizes: Sequence[int], max_samples: int | None) -> list[np.ndarray]:
    n_all = sum(sizes)
    chosen = np.ones(n_all, dtype=bool)
    if max_samples is not None and n_all > max_samples:
        chosen[:] = False
        chosen[np.random.default_rng(0).choice(n_all, max_samples, replace=False)] = True
    return [np.flatnonzero(part) for part in np.split(chosen, np.cumsum(sizes)[:-1])]


def _index_classes(table: Table | None, column: str, names: Sequence[str], sample_ids: np.ndarray) -> np.ndarray:
    """Class indices of a column of names, for all samples of a dataset; `UNKNOWN` where there is none."""
    labels = np.full(len(sample_ids), UNKNOWN, dtype=np.int32)
    if table is not None and column in table.columns:
        index = {name: number for number, name in enumerate(names)}
        places = np.searchsorted(sample_ids, table["sample_id"])
        labels[places] = [index.get(name, UNKNOWN) for name in table[column]]
    return labels


@dataclass(frozen=True)
class RunFiles:
    """Where the tables of one run lie.

    Attributes:
        method: of the run.
        seed: of the run.
        augmented: folder of an augmentation, with `{seed}`, `{method}`, `{epoch}`, `{task}` and `{dataset}` in it.
        features: features of a dataset, likewise.
    """

    method: str
    seed: str
    augmented: str
    features: str

    def find_augmented(self, epoch: int, task: str, dataset: str, table: str) -> str:
        """A table of one augmentation."""
        place = {"seed": self.seed, "method": self.method, "epoch": f"{epoch:03d}"}
        return f"{self.augmented.format(task=task, dataset=dataset, **place)}/{table}.parquet"

    def find_features(self, epoch: int, dataset: str) -> str:
        """The features of a dataset in an epoch."""
        place = {"seed": self.seed, "method": self.method, "epoch": f"{epoch:03d}"}
        return self.features.format(dataset=dataset, **place)


@dataclass(frozen=True)
class View:
    """What an epoch says of the n samples for a task of C classes, before it trains.

    Attributes:
        epoch: its number.
        task: whose labels it makes.
        datasets: names of those that it makes them for.
        weights: float32 (n,) by column, NaN where there is none; columns without any are left out.
        pseudo_labels: class indices, int32 (n,), or `UNKNOWN`.
        soft_labels: float32 (n, C) before any temperature, NaN where there is none.
        training_labels: float32 (n, C), NaN where there is none.
        features: float32 (m, d), of the samples whose features are still there.
        featured: their places, (m,).
    """

    epoch: int
    task: str
    datasets: Sequence[str]
    weights: Mapping[str, np.ndarray]
    pseudo_labels: np.ndarray
    soft_labels: np.ndarray
    training_labels: np.ndarray
    features: np.ndarray
    featured: np.ndarray


def list_views(population: Population, run: RunFiles, n_epochs: int) -> dict[str, list[int]]:
    """The epochs that made labels of each task, by task."""
    views = {
        task: [
            epoch
            for epoch in range(1, n_epochs + 1)
            if any(Path(run.find_augmented(epoch, task, split.name, "weights")).exists() for split in population.splits)
        ]
        for task in population.classes
    }
    return {task: epochs for task, epochs in views.items() if epochs}


def read_view(population: Population, run: RunFiles, epoch: int, task: str) -> View:
    """Read the tables of one epoch and task.

    Raises:
        ValueError: one of them is damaged, or about other samples or classes.
    """
    n_samples, names = len(population.paths), population.classes[task]
    weights = {column: np.full(n_samples, np.nan, dtype=np.float32) for column in WEIGHT_SYMBOLS}
    pseudo_labels = np.full(n_samples, UNKNOWN, dtype=np.int32)
    soft_labels = np.full((n_samples, len(names)), np.nan, dtype=np.float32)
    training_labels = np.full_like(soft_labels, np.nan)
    features, featured, datasets = [], [], []
    for dataset, split in enumerate(population.splits):
        path = run.find_augmented(epoch, task, split.name, "weights")
        if Path(path).exists():
            datasets.append(split.name)
            table = read_table(path, WEIGHTS, ["sample_id", "pseudo_label", *WEIGHT_SYMBOLS])
            of_table, places = population.locate(dataset, table, path)
            order = match_classes(table.metadata["classes"], names, path)
            pseudo_labels[places] = order[table["pseudo_label"][of_table]]
            for column, values in weights.items():
                values[places] = table[column][of_table]
            path = run.find_augmented(epoch, task, split.name, "labels")
            table = read_table(path, LABELS, ["sample_id", "soft_label", "training_label"])
            # Of samples with a label of their own it speaks as well.
            unlabeled = population.given[task] == UNKNOWN
            of_table, places = population.locate(dataset, table, path)
            of_table, places = of_table[unlabeled[places]], places[unlabeled[places]]
            order = match_classes(table.metadata["classes"], names, path)
            tempered = table["soft_label"][of_table].astype(np.float64) ** table.metadata["temperature"]
            soft_labels[np.ix_(places, order)] = tempered / tempered.sum(axis=1, keepdims=True)
            training_labels[np.ix_(places, order)] = table["training_label"][of_table]
        path = run.find_features(epoch, split.name)
        if Path(path).exists() and task in read_metadata(path)["classes"]:
            table = read_table(path, FEATURES, ["sample_id", f"features_{task}", f"soft_label_{task}"])
            of_table, places = population.locate(dataset, table, path)
            order = match_classes(table.metadata["classes"][task], names, path)
            soft_labels[np.ix_(places, order)] = table[f"soft_label_{task}"][of_table]
            features.append(table[f"features_{task}"][of_table])
            featured.append(places)
    # What has a label gets no pseudo label; the prediction shows where the two differ.
    predicted = (pseudo_labels == UNKNOWN) & ~np.isnan(soft_labels).any(axis=1)
    pseudo_labels[predicted] = soft_labels[predicted].argmax(axis=1)
    return View(
        epoch=epoch,
        task=task,
        datasets=datasets,
        weights={column: values for column, values in weights.items() if not np.isnan(values).all()},
        pseudo_labels=pseudo_labels,
        soft_labels=soft_labels,
        training_labels=training_labels,
        features=np.concatenate(features) if features else np.empty((0, 1), dtype=np.float32),
        featured=np.concatenate(featured) if featured else np.empty(0, dtype=np.int64),
    )


def match_classes(found: Sequence[str], names: Sequence[str], path: str) -> np.ndarray:
    """The index among `names` of every class of a table.

    Raises:
        ValueError: one is not among them.
    """
    index = {name: number for number, name in enumerate(names)}
    if unknown := [name for name in found if name not in index]:
        raise UserError(f"{path}: no manifest knows its class '{unknown[0]}'; run snakemake again")
    return np.array([index[name] for name in found], dtype=np.int64)


def iterate_images(population: Population, n_at_a_time: int) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the dataset and its next images, uint8 (m, height, width, channels), read as they are needed."""
    for dataset, (split, rows) in enumerate(zip(population.splits, population.rows, strict=True)):
        for start in range(0, len(rows), n_at_a_time):
            yield dataset, split.images[rows[start : start + n_at_a_time]]
