"""Tiny prepared datasets and the stages' calls on them, shared by the tests."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from stages.storage.contracts import AUDIT_LABELS, MANIFEST
from stages.storage.files import digest_file
from stages.storage.tables import Provenance, write_table

# How long an example takes says more of what else the machine does.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

IMAGE_SHAPE = (8, 8, 1)
EXPRESSIONS = ["angry", "happy", "sad"]
POSES = ["frontal", "left"]


@dataclass(frozen=True)
class Split:
    """A prepared split on the disk."""

    table: Path
    images: Path
    labels: np.ndarray
    pixels: np.ndarray
    audit: Path
    """Labels held back, where there are any."""


def write_split(folder, dataset, task, classes, n_samples, *, seed=0, audit=None, split="train", first_id=0):
    """Random images whose brightness depends on the class, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % len(classes)
    rng.shuffle(labels)
    pixels = rng.integers(0, 120, (n_samples, *IMAGE_SHAPE)) + labels[:, None, None, None] * 60
    made = write_manifest(folder, dataset, {task: labels}, {task: classes}, pixels, split=split, first_id=first_id)
    if audit:
        names = {other: np.array(names)[rng.integers(0, len(names), n_samples)] for other, names in audit.items()}
        write_audit(made.audit, dataset, np.arange(n_samples) + first_id, names, split=split)
    return replace(made, labels=labels)


def write_manifest(folder, dataset, labels, classes, pixels, *, split="train", first_id=0):
    """Images with labels for several tasks: class indices by task, -1 where they are not known."""
    pixels, n_samples = pixels.clip(0, 255).astype(np.uint8), len(pixels)
    path_images, path_table = folder / dataset / f"{split}.npy", folder / dataset / f"{split}.parquet"
    path_images.parent.mkdir(parents=True, exist_ok=True)
    np.save(path_images, pixels)
    columns = {
        "sample_id": np.arange(n_samples) + first_id,
        "path": np.array([f"{number}.png" for number in range(n_samples)], dtype=object),
        **{f"label_{task}": np.array([*names, None], dtype=object)[labels[task]] for task, names in classes.items()},
    }
    metadata = {
        "dataset": dataset,
        "tasks": list(classes),
        "split": split,
        "classes": classes,
        "image_shape": list(IMAGE_SHAPE),
        "images_digest": digest_file(path_images),
        "skipped": [],
    }
    write_table(path_table, MANIFEST, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return Split(path_table, path_images, labels, pixels, folder / dataset / "audit" / f"{split}.parquet")


def write_audit(path, dataset, sample_ids, names, *, split="train"):
    """Labels held back: class names by task, None where they are not known."""
    columns = {"sample_id": sample_ids, **{f"audit_{task}": np.array(names[task], dtype=object) for task in names}}
    metadata = {"dataset": dataset, "split": split}
    write_table(path, AUDIT_LABELS, columns, metadata=metadata, provenance=Provenance("test", {}, []))


def weigh(folder, unlabeled, labeled, task, number):
    """Density, mixtures, distances, weights and labels of one epoch."""
    from stages.epoch import estimate_density, fit_mixture, materialize_labels, weigh_distribution

    files = {name: str(folder / f"{name}.parquet") for name in ("density", "responsibilities", "transport")}
    files |= {name: str(folder / f"{name}.parquet") for name in ("weights", "labels")}
    files |= {name: str(folder / "mixture" / f"{name}.parquet") for name in ("unlabeled", "labeled")}
    unlabeled = str(unlabeled)
    estimate_density.main(
        [
            *("--features", unlabeled, "--task", task, "--cutoff-quantile", "0.6", "--seed", "0"),
            *("--threads", "1", "--output", files["density"]),
        ]
    )
    fit_mixture.main(
        [
            *("--task", task, "--unlabeled", unlabeled, "--labeled", *map(str, labeled)),
            *("--components", "2", "--seed", "0", "--epoch", str(number), "--threads", "1"),
            *("--output-unlabeled", files["unlabeled"], "--output-labeled", files["labeled"]),
            *("--output-responsibilities", files["responsibilities"]),
        ]
    )
    weigh_distribution.main(
        [
            *("--unlabeled", files["unlabeled"], "--labeled", files["labeled"]),
            *("--decay", "0.1", "--output", files["transport"]),
        ]
    )
    materialize_labels.main(
        [
            *("--task", task, "--features", unlabeled, "--density", files["density"]),
            *("--responsibilities", files["responsibilities"], "--transport", files["transport"]),
            *("--selection", '["confidence", "density", "distribution"]', "--temperature", "2"),
            *("--output-weights", files["weights"], "--output-labels", files["labels"]),
        ]
    )
    return files


@dataclass(frozen=True)
class Run:
    """A folder with two prepared datasets and a joint checkpoint; calls stages as the rules do."""

    folder: Path
    faces: Split
    heads: Split
    test_faces: Split
    test_heads: Split

    def checkpoint(self, name):
        folder = self.folder / name
        return {
            "network": folder / "network.safetensors",
            "optimizer": folder / "optimizer.safetensors",
            "card": folder / "checkpoint.json",
        }

    def outputs(self, name):
        files = self.checkpoint(name)
        return [part for key, path in files.items() for part in (f"--output-{key}", str(path))]

    def initialize(self, name="initial", *options):
        from stages.epoch.initialize_network import main

        main(
            [
                *("--tables", str(self.faces.table), str(self.heads.table)),
                *("--images", str(self.faces.images), str(self.heads.images)),
                *("--backbone", "vgg_tiny", "--head-features", "6", "--mean", "0.5", "--std", "0.5"),
                *(
                    "--passes",
                    "2",
                    "--batch-size",
                    "8",
                    "--learning-rate",
                    "0.003",
                    "--threads",
                    "1",
                    "--device",
                    "cpu",
                ),
                *self.outputs(name),
                *options,
            ]
        )

    def extract(self, checkpoint, epoch, *, trained="faces"):
        from stages.epoch.extract_features import main

        own, other = {"faces": "expression", "heads": "pose"}, {"faces": "pose", "heads": "expression"}
        tasks = [(other if name == trained else own)[name] for name in ("faces", "heads")]
        outputs = [self.folder / epoch / "features" / f"{name}.parquet" for name in ("faces", "heads")]
        files = self.checkpoint(checkpoint)
        for split, task, output in zip((self.faces, self.heads), tasks, outputs, strict=True):
            main(
                [
                    *("--network", str(files["network"]), "--card", str(files["card"])),
                    *("--table", str(split.table), "--images", str(split.images)),
                    *("--tasks", task, "--batch-size", "7", "--threads", "1", "--device", "cpu"),
                    *("--output", str(output)),
                ]
            )
        return dict(zip(("faces", "heads"), outputs, strict=True))

    def weigh(self, epoch, features, *, trained, task, labeled, number):
        """Density, mixtures, distances, weights and labels of one epoch."""
        return weigh(self.folder / epoch / task, features[trained], [features[labeled]], task, number)

    def train(self, name, previous, *, trained, labels, epoch, options=()):
        from stages.epoch.train_epoch import main

        split, files = getattr(self, trained), self.checkpoint(previous)
        main(
            [
                *("--tables", str(split.table), "--images", str(split.images)),
                *("--network", str(files["network"]), "--optimizer", str(files["optimizer"])),
                *("--card", str(files["card"])),
                *("--labels", *(f"{task}={path}" for task, path in labels.items()), "--epoch", str(epoch)),
                *("--batch-size", "8", "--learning-rate", "0.003", "--threads", "1", "--device", "cpu"),
                *self.outputs(name),
                *options,
            ]
        )


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """In the background a shell lets SIGINT be ignored, and processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Two datasets, `faces` for expression and `heads` for pose, and their joint training."""
    folder = tmp_path_factory.mktemp("run")
    audits = {"faces": {"pose": POSES}, "heads": {"expression": EXPRESSIONS}}
    faces = write_split(folder, "faces", "expression", EXPRESSIONS, 30, seed=1, audit=audits["faces"])
    heads = write_split(folder, "heads", "pose", POSES, 38, seed=2, audit=audits["heads"])
    test_faces = write_split(folder, "faces", "expression", EXPRESSIONS, 12, seed=3, split="test", first_id=30)
    test_heads = write_split(folder, "heads", "pose", POSES, 10, seed=4, split="test", first_id=38)
    result = Run(folder, faces, heads, test_faces, test_heads)
    result.initialize()
    return result
