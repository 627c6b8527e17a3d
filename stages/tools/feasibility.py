"""Whether an experiment can run: its data, whether it fits together, and the disk."""

import shutil
from pathlib import Path

from stages.core.backbones import build_backbone, check_backbone, count_network_parameters, describe_backbone
from stages.core.errors import UserError
from stages.core.suggestions import suggest
from stages.core.weight_names import find_normalisation, is_file
from stages.data.sources.base import SPLITS, Tolerance
from stages.data.sources.registry import read_source
from stages.storage.pretrained import fetch_pretrained, load_pretrained
from stages.tools.disk import estimate_disk, format_bytes


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
    samples, classes = read_datasets(settings)
    check_samples(settings, methods, samples, classes)
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
    n_classes = {name: len(names) for name, names in classes.items()}
    sizes = describe_backbone(backbone, image_shape)
    n_parameters, n_separate_parameters = (
        count_network_parameters(sizes, network["head_features"], n_classes, separate=separate)
        for separate in (False, True)
    )
    parts = estimate_disk(
        {
            name: {split: sum(one.split == split for one in found) for split in SPLITS}
            for name, found in samples.items()
        },
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


def read_datasets(settings: dict) -> tuple[dict, dict]:
    """Samples and class names of every dataset.

    Raises:
        ValueError: one cannot be read; the message names the dataset.
    """
    images = settings["images"]
    tolerance = Tolerance(images["outside_data_root"] == "allow", images["on_error"] == "skip")
    samples, classes = {}, {}
    for name, dataset in settings["datasets"].items():
        try:
            manifest = read_source(dataset, Path(settings["data_root"]), tolerance)
        except UserError as error:
            raise UserError(f"dataset {name}: {error}") from None
        samples[name], classes[name] = manifest.samples, manifest.classes
    return samples, classes


def check_samples(settings: dict, methods: list, samples: dict, classes: dict) -> None:
    """What settings and samples must agree on.

    Raises:
        ValueError: there are fewer samples than mixture components, or audit labels that are no
            classes of their task.
    """
    n_components = settings["mixture"]["components"]
    selections = [method.get("selection") for method in methods]
    uses_mixtures = any(isinstance(selection, list) and "distribution" in selection for selection in selections)
    classes_of_task = {dataset["task"]: classes[name] for name, dataset in settings["datasets"].items()}
    for name, found in samples.items():
        train = [sample for sample in found if sample.split == "train"]
        if uses_mixtures and len(train) < n_components:
            raise UserError(
                f"mixture.components is {n_components}, but dataset {name} has {len(train)} training samples; "
                f"set it to {len(train)} or less"
            )
        for task in {task for sample in train for task in sample.audit} & set(classes_of_task):
            labels = {sample.audit.get(task) for sample in train} - {None}
            if not labels:
                raise UserError(f"dataset {name}: no training sample has an audit label for '{task}'; leave it out")
            if unknown := sorted(labels - set(classes_of_task[task])):
                raise UserError(
                    f"dataset {name}: the audit label '{unknown[0]}' is no class of the task '{task}'"
                    f"{suggest(unknown[0], classes_of_task[task])}"
                )


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
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{results}: this run needs about {format_bytes(needed)} more, but only {format_bytes(free)} are "
            f"free; free some space, lower training.epochs or set storage.keep_features to false "
            f"(features are {format_bytes(parts['features'])} of it)"
        )
    listed = ", ".join(f"{kind} {format_bytes(n_bytes)}" for kind, n_bytes in parts.items())
    print(f"{results}: will take about {format_bytes(sum(parts.values()))} ({listed}); {format_bytes(free)} free")
