"""A made-up experiment on the disk: two datasets and what the epochs of its runs say of them, without any training.

For tests and benchmarks of what shows samples. Each dataset is labelled for one task; a tenth of the first has labels
for the task of the second as well, and labels of half the samples that lack them are held back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.storage.contracts import AUDIT_LABELS, FEATURES, LABELS, MANIFEST, METRICS, WEIGHTS
from stages.storage.files import digest_file
from stages.storage.tables import Provenance, write_table

MADE_UP = Provenance("made_up", {}, [])
TEMPERATURE = 2.0


def write_experiment(
    folder: Path,
    sizes: Mapping[str, int],
    classes: Mapping[str, Sequence[str]],
    *,
    methods: Sequence[str] = ("mtl_sa", "mtl_wf"),
    n_epochs: int = 4,
    shape: tuple[int, int, int] = (12, 16, 3),
    dim: int = 16,
    path_format: str = "{number:06d}.png",
) -> list[str]:
    """Write it; returns the options that both stages have in common.

    Args:
        folder: where to.
        sizes: samples by dataset.
        classes: by task; the n-th dataset is labelled for the n-th of them.
        methods: `mtl_wf` uses no criteria, so that most of its weights are null; it has fewer features, too.
        n_epochs: that train on the datasets in turn.
        shape: height, width and channels of the images.
        dim: of the features.
        path_format: of the images' names.
    """
    rng = np.random.default_rng(0)
    truth = {name: {task: rng.integers(0, len(classes[task]), n) for task in classes} for name, n in sizes.items()}
    given = {name: _write_split(folder, name, truth[name], classes, sizes, shape, path_format) for name in sizes}
    for method in methods:
        run = folder / "seed-0" / method
        _write_metrics(run, list(classes), n_epochs)
        for epoch in range(1, n_epochs + 1):
            name = list(sizes)[(epoch - 1) % len(sizes)]
            for task, own in zip(classes, sizes, strict=True):
                if own == name:
                    continue
                scales = {"name": name, "task": task, "epoch": epoch}
                soft = {}
                for other in [name, own] if method == "mtl_sa" else [name]:
                    path = run / f"epoch-{epoch:03d}/features/{other}.parquet"
                    labels = truth[other][task], given[other][task]
                    soft[other] = _write_features(path, *labels, classes, dim, **(scales | {"name": other}))
                unlabeled = given[name][task] < 0
                place = run / f"epoch-{epoch:03d}/{task}/{name}"
                _write_weights(place, soft[name], unlabeled, classes[task], method, name, rng)
    data = [folder / "data" / name for name in sizes]
    layout = f"{folder}/seed-{{seed}}/{{method}}/epoch-{{epoch}}"
    return [
        *("--tables", *(f"{path}/train.parquet" for path in data)),
        *("--images", *(f"{path}/train.npy" for path in data)),
        *("--audits", *(f"{path}/audit/train.parquet" for path in data)),
        *("--augmented", f"{layout}/{{task}}/{{dataset}}", "--features", f"{layout}/features/{{dataset}}.parquet"),
        *("--epochs", str(n_epochs)),
    ]


def _write_split(folder, name, truth, classes, sizes, shape, path_format):
    number, n = list(sizes).index(name), sizes[name]
    path = folder / "data" / name
    path.mkdir(parents=True)
    rng = np.random.default_rng(number)
    images = np.lib.format.open_memmap(path / "train.npy", "w+", np.uint8, (n, *shape))
    for start in range(0, n, 4096):
        part = images[start : start + 4096]
        part[:] = rng.integers(0, 90, (len(part), *shape), dtype=np.uint8)
        part += rng.integers(0, 160, (len(part), 1, 1, shape[2]), dtype=np.uint8)
    images.flush()
    own, other = list(classes)[number], list(classes)[1 - number]
    given = {own: truth[own], other: np.full(n, -1)}
    if number == 0:
        given[other][::10] = truth[other][::10]
    held_back = np.where((given[other] < 0) & (np.arange(n) % 2 == 1), truth[other], -1)
    names = {task: np.array([*classes[task], None], dtype=object) for task in classes}
    columns = {
        "sample_id": np.arange(n),
        "path": np.array([path_format.format(number=row) for row in range(n)], dtype=object),
        **{f"label_{task}": names[task][labels] for task, labels in given.items() if (labels >= 0).any()},
    }
    known = [task for task in classes if f"label_{task}" in columns]
    metadata = {"dataset": name, "tasks": known, "split": "train", "image_shape": list(shape), "skipped": []}
    metadata |= {"classes": {task: list(classes[task]) for task in known}}
    metadata |= {"images_digest": digest_file(path / "train.npy")}
    write_table(path / "train.parquet", MANIFEST, columns, metadata=metadata, provenance=MADE_UP)
    audit = {"sample_id": columns["sample_id"], f"audit_{other}": names[other][held_back]}
    metadata = {"dataset": name, "split": "train"}
    write_table(path / "audit/train.parquet", AUDIT_LABELS, audit, metadata=metadata, provenance=MADE_UP)
    return given


def _write_features(path, labels, given, classes, dim, *, name, task, epoch):
    """Unit vectors around a centre for each class, and soft labels that become surer with the epochs."""
    rng = np.random.default_rng([epoch, len(labels)])
    n_classes = len(classes[task])
    scores = rng.normal(size=(len(labels), n_classes)) + (1 + 0.3 * epoch) * np.eye(n_classes)[labels]
    soft = np.exp(scores)
    soft = (soft / soft.sum(axis=1, keepdims=True)).astype(np.float32)
    centres = np.random.default_rng(9).normal(size=(n_classes, dim)).astype(np.float32)
    features = np.maximum(centres[labels] + rng.normal(size=(len(labels), dim)).astype(np.float32), 0)
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-6
    columns = {"sample_id": np.arange(len(labels)), f"features_{task}": features, f"soft_label_{task}": soft}
    columns[f"label_{task}"] = given
    metadata = {"dataset": name, "dim": dim, "dtype": "float32", "normalize": "l2"}
    metadata |= {"classes": {task: list(classes[task])}}
    write_table(path, FEATURES, columns, metadata=metadata, provenance=MADE_UP)
    return soft


def _write_weights(place, soft, unlabeled, names, method, dataset, rng):
    """Weights of the samples without a label, in weights.parquet; label vectors of all, in labels.parquet."""
    weighed = np.flatnonzero(unlabeled)
    sure = soft[weighed].max(axis=1).astype(np.float64)
    density, distance = rng.random(len(weighed)), 5 * rng.random(len(weighed))
    weights = {
        "confidence_weight": sure,
        "density_weight": density,
        "confident_weight": sure * density,
        "sample_distance": distance,
        "distribution_weight": np.exp(-0.1 * distance),
        "selection_weight": sure * density * np.exp(-0.1 * distance),
    }
    weights["selection_weight"] /= weights["selection_weight"].max()
    if method == "mtl_wf":
        nothing = np.full(len(weighed), np.nan)
        weights = dict.fromkeys(weights, nothing) | {"confidence_weight": sure, "selection_weight": 0 * sure}
    pseudo = soft.argmax(axis=1)
    columns = {
        "sample_id": weighed,
        "pseudo_label": pseudo[weighed].astype(np.int32),
        "pseudo_class": np.array(names, dtype=object)[pseudo[weighed]],
        **weights,
    }
    metadata = {"dataset": dataset, "classes": list(names), "selection": []}
    write_table(place / "weights.parquet", WEIGHTS, columns, metadata=metadata, provenance=MADE_UP)
    tempered = soft ** (1 / TEMPERATURE)
    tempered /= tempered.sum(axis=1, keepdims=True)
    w = np.zeros((len(soft), 1))
    w[weighed, 0] = weights["selection_weight"]
    labels = {
        "sample_id": np.arange(len(soft)),
        "given": ~unlabeled,
        "soft_label": tempered,
        "pseudo_label": pseudo.astype(np.int32),
        "training_label": (w * np.eye(len(names))[pseudo] + (1 - w) * tempered).astype(np.float32),
    }
    metadata = {"dataset": dataset, "classes": list(names), "temperature": TEMPERATURE}
    metadata |= {"strength": 1, "student_temperature": 1, "normalization": "joint"}
    write_table(place / "labels.parquet", LABELS, labels, metadata=metadata, provenance=MADE_UP)


def _write_metrics(run, tasks, n_epochs):
    rows = [(epoch, task) for epoch in range(n_epochs + 1) for task in tasks]
    columns = {
        "epoch": np.array([epoch for epoch, _ in rows], dtype=np.int32),
        "task": np.array([task for _, task in rows], dtype=object),
        "dataset": np.full(len(rows), None, dtype=object),
        "split": np.full(len(rows), "test", dtype=object),
        "accuracy": np.full(len(rows), 0.5),
        "macro_f1": np.full(len(rows), 0.5),
        "n_samples": np.full(len(rows), 10),
        "trained_dataset": np.full(len(rows), None, dtype=object),
    }
    metadata = {"select": "validation", "selected_epoch": n_epochs}
    write_table(run / "metrics.parquet", METRICS, columns, metadata=metadata, provenance=MADE_UP)
