"""Whether an experiment can run: its data, whether it fits together, and the disk."""

import os
import shutil
from pathlib import Path

from stages.core.backbones import build_backbone, check_backbone, count_network_parameters, describe_backbone
from stages.core.errors import UserError
from stages.core.specification import join_classes
from stages.core.suggestions import list_names, suggest
from stages.core.task_labels import list_labels
from stages.core.weight_names import find_normalisation, is_file
from stages.data.sources.labels import check_case
from stages.data.sources.registry import read_dataset
from stages.data.sources.sample import SPLITS
from stages.storage.pretrained import fetch_pretrained, load_pretrained
from stages.tools.disk import DatasetSize, estimate_disk, format_bytes

HELD_OUT = SPLITS[1:]


def check_run(settings: dict, methods: list, n_seeds: int, results: Path) -> None:
    """Check all that an experiment needs, and say what disk it will take.

    Args:
        settings: of the experiment, defaults filled in.
        methods: rows of those to run.
        n_seeds: runs of each method.
        results: where the artifacts will lie.

    Raises:
        ValueError: the first thing that will not do.
    """
    manifests = {name: read_dataset(settings, name) for name in settings["datasets"]}
    samples = {name: manifest.samples for name, manifest in manifests.items()}
    classes = join_classes((name, manifest.classes) for name, manifest in manifests.items())
    check_labels(settings, samples, classes)
    check_audits(samples, classes)
    note_sizes(settings, methods, samples, classes)
    note_warmups(methods, settings["training"]["epochs"])
    images, network = settings["images"], settings["network"]
    image_shape = (images["height"], images["width"], images["channels"])
    backbone, pretrained = network["backbone"], network["pretrained"]
    check_backbone(backbone, image_shape, pretrained=bool(pretrained))
    find_normalisation(backbone, pretrained, images["channels"], images["mean"], images["std"])
    started = any(results.glob("seed-*/initial*/network.safetensors"))
    if is_file(pretrained):
        build_backbone(backbone, image_shape, load_pretrained(backbone, pretrained))
    elif pretrained and not started:
        # Here, because the machines that train may have no network; torch keeps the file.
        fetch_pretrained(backbone, pretrained)
    n_classes = {task: len(names) for task, names in classes.items()}
    sizes = describe_backbone(backbone, image_shape)
    n_parameters, n_separate_parameters = (
        count_network_parameters(sizes, network["head_features"], n_classes, separate=separate)
        for separate in (False, True)
    )
    parts = estimate_disk(
        measure_datasets(settings, samples, classes),
        n_classes,
        image_shape=image_shape,
        head_features=network["head_features"],
        n_parameters=n_parameters,
        n_separate_parameters=n_separate_parameters,
        n_components=settings["mixture"]["components"],
        n_epochs=settings["training"]["epochs"],
        n_seeds=n_seeds,
        methods=methods,
        keep_features=settings["storage"]["keep_features"],
        n_moments=(1 if settings["training"]["optimizer"] == "sgd" else 2) + (settings["training"]["average"] > 0),
        **count_kept(settings["storage"], settings["training"]["epochs"]),
    )
    check_disk(results, parts)


def count_kept(storage: dict, n_epochs: int) -> dict[str, int]:
    """Of how many epochs of a run the networks and the states of Adam stay."""
    networks, states = storage["keep_networks"], storage["keep_optimizers"]
    if networks == "all":
        n_networks = n_epochs
    else:
        # The last and the chosen one always stay.
        n_networks = min(n_epochs, 2 + (n_epochs // networks["every"] if networks != "last" else 0))
    return {"n_networks": n_networks, "n_states": n_epochs if states == "all" else min(states, n_epochs)}


def measure_datasets(settings: dict, samples: dict, classes: dict) -> list[DatasetSize]:
    """The sizes of the datasets, for the disk.

    Args:
        settings: of the experiment.
        samples: by dataset.
        classes: by task.
    """
    n_epochs, sizes = settings["training"]["epochs"], []
    n_all = sum(one.split == "train" for found in samples.values() for one in found)
    for position, (name, found) in enumerate(samples.items()):
        train = [one for one in found if one.split == "train"]
        n_turns = len(range(position, n_epochs, len(samples)))
        if settings["schedule"]["turns"] == "by_size":
            n_turns = round(n_epochs * len(train) / n_all)
        lacking = {task: sum(not one.labels.get(task) for one in train) for task in classes}
        lacking = {task: n for task, n in lacking.items() if n}
        sizes.append(DatasetSize(len(found), len(train), n_turns, lacking, list_labels(settings["datasets"][name])))
    return sizes


def check_labels(settings: dict, samples: dict, classes: dict) -> None:
    """Whether every task can be learned, chosen by and scored; what is odd, but may be meant, is said.

    Args:
        settings: of the experiment.
        samples: by dataset.
        classes: of all datasets, by task.

    Raises:
        ValueError: a task has no labels in a split, a dataset has no training label for one of its tasks, or classes
            have no training label or differ in case only.
    """
    for task, names in classes.items():
        explicit = "classes" in settings["tasks"].get(task, {})
        owners = [name for name, dataset in settings["datasets"].items() if task in list_labels(dataset)]
        found = {
            name: {
                split: {one.labels[task] for one in samples[name] if one.split == split} - {None} for split in SPLITS
            }
            for name in owners
        }
        if not explicit:
            check_case(names, f"task {task}, in {' and '.join(owners)}")
        for name in owners:
            if not found[name]["train"]:
                raise UserError(
                    f"dataset {name}: no training sample has a label for '{task}'; leave it out of `labels`"
                )
        learned, *scored = (set().union(*(found[name][split] for name in owners)) for split in SPLITS)
        for split, labels in zip(HELD_OUT, scored, strict=True):
            if not labels:
                raise UserError(f"task {task}: no sample of a {split} split has a label; it could not be scored")
            if unknown := sorted(labels - learned):
                raise UserError(
                    f"task {task}: no training sample has the label {list_names(unknown)}, but some of {split} do; add "
                    f"some to train, or drop it: tasks.{task}.drop"
                )
        if len(names) < 2 or len(learned) < 2:
            raise UserError(f"task {task}: its labels are all '{learned.pop()}'; a task needs two or more classes")
        if never := [one for one in names if one not in learned]:
            print(f"task {task}: no sample has the label {list_names(never)}; nothing but pseudo labels could say it")
        for name in owners if len(owners) > 1 else ():
            if missing := sorted(learned - found[name]["train"]):
                print(f"dataset {name}: has no training sample of {list_names(missing)} for '{task}'; others have")
    lacking = [name for name, found in samples.items() for task in classes for one in found if not one.labels.get(task)]
    if not lacking:
        print("every sample has a label for every task: nothing is weighed, and all methods train on given labels")


def check_audits(samples: dict, classes: dict) -> None:
    """Whether labels that are held back can be compared with pseudo labels.

    Raises:
        ValueError: none is known, or one is no class of its task.
    """
    for name, found in samples.items():
        train = [sample for sample in found if sample.split == "train"]
        for task in {task for sample in train for task in sample.audit} & set(classes):
            labels = {sample.audit.get(task) for sample in train} - {None}
            if not labels:
                raise UserError(f"dataset {name}: no training sample has an audit label for '{task}'; leave it out")
            if unknown := sorted(labels - set(classes[task])):
                raise UserError(
                    f"dataset {name}: the audit label '{unknown[0]}' is no class of the task '{task}'"
                    f"{suggest(unknown[0], classes[task])}"
                )


def note_sizes(settings: dict, methods: list, samples: dict, classes: dict) -> None:
    """Say which mixtures will have fewer components than were asked for."""
    n_components = settings["mixture"]["components"]
    selections = [method.get("selection") for method in methods]
    if not any(isinstance(selection, list) and "distribution" in selection for selection in selections):
        return
    for task in classes:
        train = {name: [one for one in found if one.split == "train"] for name, found in samples.items()}
        sizes = {f"of {name} without": sum(not one.labels.get(task) for one in of) for name, of in train.items()}
        sizes["with"] = sum(bool(one.labels.get(task)) for of in train.values() for one in of)
        for whom, n in sizes.items():
            if 0 < n < n_components:
                print(f"mixture.components: only {n} are used where samples {whom} a label for '{task}' are so few")


def note_warmups(methods: list, n_epochs: int) -> None:
    """Say which label transfer networks will never be used."""
    for method in methods:
        warmup = method.get("label_transfer", {}).get("warmup", 0)
        if warmup >= n_epochs:
            print(
                f"{method['paper_name']}: label_transfer.warmup is {warmup} and training.epochs {n_epochs}, so that no "
                "label is transferred; raise training.epochs"
            )


def check_disk(results: Path, parts: dict[str, int]) -> None:
    """Say what the run takes.

    Raises:
        ValueError: there is less room than that.
    """
    present = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    needed = max(0, sum(parts.values()) - present)
    existing = next(folder for folder in (results, *results.resolve().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(
            f"{results}: {existing} cannot be written to; ask for permission, or run in another folder (--directory)"
        )
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{results}: this run needs about {format_bytes(needed)} more, but only {format_bytes(free)} are "
            f"free; free some space, lower training.epochs or set storage.keep_features to false "
            f"(features are {format_bytes(parts['features'])} of it)"
        )
    listed = ", ".join(f"{kind} {format_bytes(n_bytes)}" for kind, n_bytes in parts.items())
    print(f"{results}: will take about {format_bytes(sum(parts.values()))} ({listed}); {format_bytes(free)} free")
