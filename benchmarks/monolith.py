"""Algorithm 1 as one script: one process, everything in memory, no artifacts.

The obvious alternative to the pipeline. It calls the same functions of `stages/core/` on the same numbers, rounds
to float32 where the pipeline's tables do, and gives the same network to the bit (tests/workflow/test_monolith.py).
What it leaves out is what the pipeline adds: processes, tables, digests, checks, resuming, audits. It knows
the paper's case only: MTL-SA on datasets that are labelled for one task each, trained as benchmarks/configs/paper.yaml
says.

    python -m benchmarks.monolith CONFIG
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stages.command.stage import limit_threads
from stages.settings.checks import load_experiment


@dataclass
class Clock:
    """Wall seconds of the steps.

    Attributes:
        seconds: by epoch (None before joint training is over and 0 for its evaluation) and step, by the pipeline's
            name for it.
    """

    seconds: dict[tuple[int, str], float] = field(default_factory=dict)

    @contextmanager
    def time(self, epoch: int, step: str) -> Iterator[None]:
        """Add what the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[epoch, step] = self.seconds.get((epoch, step), 0) + time.perf_counter() - start


@dataclass(frozen=True)
class Split:
    """Images, uint8 (n, H, W, C), sample ids, int64 (n,), and class names, object (n,)."""

    images: Any
    sample_ids: Any
    names: Any


@dataclass(frozen=True)
class Outcome:
    """What a run ends with.

    Attributes:
        networks: weights by name, of every epoch from 0.
        chosen: the epoch that is best on validation.
        scores: test accuracy by task, of every epoch from 0.
    """

    networks: list[dict[str, Any]]
    chosen: int
    scores: list[dict[str, float]]


def run(settings: Mapping[str, Any], seed: int, clock: Clock) -> Outcome:
    """Train an experiment.

    Args:
        settings: checked, defaults filled in.
        seed: of the experiment.
        clock: is told what the steps take.

    Raises:
        ValueError: the experiment is none that this script knows.
    """
    training, names = settings["training"], list(settings["datasets"])
    tasks = {name: dataset.get("task") for name, dataset in settings["datasets"].items()}
    plain = training["sampling"] == "proportional" and training["steps"] == "dataset" and not training["average"]
    if settings["methods"] != ["mtl_sa"] or None in tasks.values() or not plain or training["schedule"] != "constant":
        raise ValueError("the script knows MTL-SA, one task for each dataset and the paper's training only")
    n_threads = settings["compute"]["threads"]
    limit_threads(n_threads)
    with clock.time(0, "imports"):
        import faiss  # noqa: F401
        import numpy as np
        import ot  # noqa: F401
        import sklearn.mixture  # noqa: F401

        from stages.core.augmentation import Augmentation
        from stages.core.batches import EpochBatches, TrainingSet
        from stages.core.comparison import find_best_epoch
        from stages.core.density import estimate_local_density
        from stages.core.metrics import count_confusion, score_confusion
        from stages.core.mixture import fit_mixture
        from stages.core.network import MultiTaskNetwork
        from stages.core.optimizers import OPTIMIZERS
        from stages.core.reliability import fit_temperature
        from stages.core.seeds import derive_seed
        from stages.core.selection import interpolate_labels, soften_labels, weigh_samples
        from stages.core.specification import NetworkSpecification, join_classes
        from stages.core.targets import Targets, make_given
        from stages.core.training import (
            choose_device,
            normalise_features,
            place_network,
            predict_batches,
            prepare_torch,
            train_pass,
        )
        from stages.core.transport import measure_component_distances, solve_transport
        from stages.core.weight_names import find_normalisation

    with clock.time(0, "prepare_images"):
        data, known = read_images(settings)
    classes = join_classes((name, known[name]) for name in names)

    def index(split: Split, task: str) -> np.ndarray:
        return np.array([list(classes[task]).index(name) for name in split.names], dtype=np.int64)

    def make_targets(name: str, labels: Mapping[str, np.ndarray]) -> TrainingSet:
        train, own = data[name]["train"], tasks[name]
        given = make_given(index(train, own), len(classes[own]), smoothing=training["label_smoothing"])
        targets = {own: Targets.for_all(given, given=True)}
        targets |= {task: Targets.for_all(vectors, given=False) for task, vectors in labels.items()}
        return TrainingSet(train.images, train.sample_ids, targets)

    def train(sets: list[TrainingSet], epoch: int, purpose: str = "") -> None:
        batches = EpochBatches(
            sets,
            batch_size=training["batch_size"],
            augmentation=Augmentation(**training["augmentation"]),
            order_seed=derive_seed(seed, epoch, f"order{purpose}"),
            augmentation_seed=derive_seed(seed, epoch, f"augmentation{purpose}"),
        )
        train_pass(network, optimizer, batches.load(0, pin_memory=False), device)

    def extract(name: str, task: str) -> tuple[np.ndarray, np.ndarray]:
        batches = predict_batches(
            network,
            data[name]["train"].images,
            batch_size=settings["features"]["batch_size"],
            device=device,
            tasks=[task],
        )
        normalize = settings["features"]["normalize"]
        parts = [(normalise_features(f[task], normalize), soft[task]) for _, f, soft in batches]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def evaluate() -> None:
        confusions = {split: {} for split in ("validation", "test")}
        held_out: dict[str, list] = {}
        for name in names:
            for split, found in confusions.items():
                part, task = data[name][split], tasks[name]
                labels, size = index(part, task), len(classes[task])
                batches = predict_batches(
                    network, part.images, batch_size=settings["features"]["batch_size"], device=device, tasks=[task]
                )
                for rows, _, probabilities in batches:
                    confusion = count_confusion(labels[rows], probabilities[task].argmax(axis=1), size)
                    found[task] = found.get(task, 0) + confusion
                    if split == "validation":
                        held_out.setdefault(task, []).append((probabilities[task], labels[rows]))
        for parts in held_out.values():
            fit_temperature(*map(np.concatenate, zip(*parts, strict=True)))
        for split, found in confusions.items():
            scores = {task: score_confusion(found[task])["accuracy"] for task in classes}
            {"validation": validation, "test": test}[split].append(scores)
        networks.append({key: value.detach().clone().contiguous() for key, value in network.state_dict().items()})

    networks, validation, test = [], [], []
    with clock.time(0, "initialize_network"):
        prepare_torch(n_threads, derive_seed(seed, 0, "initialization"))
        device = choose_device("cpu")
        images = settings["images"]
        shape = (images["height"], images["width"], images["channels"])
        backbone = settings["network"]["backbone"]
        mean, std = find_normalisation(backbone, None, shape[2], images["mean"], images["std"])
        identity = settings["network"]["cross_stitch_identity"]
        head_features = settings["network"]["head_features"]
        specification = NetworkSpecification(
            backbone, shape, head_features, classes, identity, mean, std, images["fit"]
        )
        network = place_network(MultiTaskNetwork(specification), device)
        optimizer = OPTIMIZERS[training["optimizer"]](
            network,
            training["learning_rate"],
            weight_decay=training["weight_decay"],
            clip_norm=training["clip_norm"] or 0,
        )
        for number in range(training["initial_epochs"]):
            train([make_targets(name, {}) for name in names], 0, f" of pass {number}")
    with clock.time(0, "evaluate_network"):
        evaluate()

    for epoch in range(1, training["epochs"] + 1):
        trained = names[(epoch - 1) % len(names)]
        labels = {}
        for task in dict.fromkeys(task for task in tasks.values() if task != tasks[trained]):
            with clock.time(epoch, "extract_features"):
                features, soft = extract(trained, task)
                labeled = [extract(name, task)[0] for name in names if tasks[name] == task]
            with clock.time(epoch, "estimate_density"):
                density = estimate_local_density(
                    features,
                    soft.argmax(axis=1).astype(np.int32),
                    len(classes[task]),
                    cutoff_quantile=settings["density"]["cutoff_quantile"],
                    n_threads=n_threads,
                    seed=seed,
                )
            with clock.time(epoch, "fit_mixture"):
                mixtures = {
                    domain: fit_mixture(
                        values,
                        n_components=min(settings["mixture"]["components"], len(values)),
                        covariance=settings["mixture"]["covariance"],
                        max_iterations=settings["mixture"]["max_iterations"],
                        tolerance=settings["mixture"]["tolerance"],
                        seed=derive_seed(seed, epoch, f"mixture of {domain} for {task}"),
                    )
                    for domain, values in (("unlabeled", features), ("labeled", np.concatenate(labeled)))
                }
            with clock.time(epoch, "weigh_distribution"):
                distances = measure_component_distances(
                    mixtures["unlabeled"].means, mixtures["labeled"].means, settings["transport"]["ground_distance"]
                )
                _, transport_distances = solve_transport(distances, mixtures["labeled"].mixing_weights)
            with clock.time(epoch, "materialize_labels"):
                selection = weigh_samples(
                    soft.astype(np.float64),
                    criteria=["confidence", "density", "distribution"],
                    density_weights=density.density_weight,
                    responsibilities=mixtures["unlabeled"].responsibilities,
                    transport_distances=transport_distances,
                    decay=settings["transport"]["decay"],
                )
                softened = soften_labels(soft, settings["labels"]["temperature"])
                made = interpolate_labels(softened, selection.pseudo_labels, selection.selection_weights)
                labels[task] = made.astype(np.float32)
        with clock.time(epoch, "train_epoch"):
            prepare_torch(n_threads, derive_seed(seed, epoch, "training"))
            train([make_targets(trained, labels)], epoch)
        with clock.time(epoch, "evaluate_network"):
            evaluate()
    chosen = find_best_epoch(np.array([[scores[task] for task in classes] for scores in validation]))
    return Outcome(networks, chosen, test)


def read_images(settings: Mapping[str, Any]) -> tuple[dict[str, dict[str, Split]], dict[str, dict[str, Any]]]:
    """All images by dataset and split, and class names by dataset and task.

    Raises:
        ValueError: a dataset or an image cannot be read.
    """
    import numpy as np

    from stages.data.sources.decoding import Decoder, decode_in_order
    from stages.data.sources.registry import read_dataset

    conversion = {key: settings["images"][key] for key in ("height", "width", "channels", "fit", "max_pixels")}
    data, classes = {}, {}
    for name, dataset in settings["datasets"].items():
        manifest = read_dataset(settings, name)
        decoded = list(decode_in_order(Decoder(manifest.load, **conversion), manifest.samples, 1))
        if bad := [image for image in decoded if isinstance(image, str)]:
            raise ValueError(f"{name}: an image {bad[0]}")
        classes[name] = {task: list(names) for task, names in manifest.classes.items()}
        data[name] = {}
        for split in ("train", "validation", "test"):
            rows = [number for number, sample in enumerate(manifest.samples) if sample.split == split]
            labels = [manifest.samples[row].labels[dataset["task"]] for row in rows]
            data[name][split] = Split(
                np.stack([decoded[row] for row in rows]), np.array(rows, dtype=np.int64), np.array(labels, dtype=object)
            )
    return data, classes


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a config file, checked, defaults filled in."""
    return load_experiment([path], yaml.safe_load(path.read_text(encoding="utf-8")), str(path))[0]


def main() -> None:
    """Print what the steps took and the scores, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    options = parser.parse_args()
    settings, clock = read_settings(options.config), Clock()
    outcome = run(settings, settings["seeds"][0], clock)
    steps = [[epoch, step, seconds] for (epoch, step), seconds in clock.seconds.items()]
    print(json.dumps({"steps": steps, "chosen": outcome.chosen, "test": outcome.scores}))


if __name__ == "__main__":
    main()
