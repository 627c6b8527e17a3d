"""Checking an experiment's settings before anything runs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stages.core.suggestions import suggest
from stages.core.weight_names import is_file
from stages.settings.errors import SettingsError, describe_errors
from stages.settings.experiment import Experiment
from stages.settings.methods import Method
from stages.settings.section import Name
from stages.settings.shipped import find_shipped

EXPERIMENT = TypeAdapter(Experiment)
METHODS = TypeAdapter(dict[Name, Method], config=ConfigDict(strict=True))
METHODS_FILE = "workflow/methods.yaml"
PATHS = (("data_root",), ("storage", "image_cache"), ("network", "pretrained"))
"""Keys whose values are paths, from the folder of the config; the last may also be a name of torchvision's."""
RESERVED_TASKS = ("features",)
"""Names of folders that stand beside a task's in an epoch."""
RESERVED_METHODS = ("initial", "initial_separate")
"""Names of folders that stand beside a method's."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, keys, strict=True):
            if isinstance(name, str) and keys.count(name) > 1:
                line = key.start_mark.line + 1
                raise SettingsError(f"line {line}: the key '{name}' stands twice in its section; keep one")
        return super().construct_mapping(node, deep)


def load_experiment(
    paths: Iterable[str | Path], settings: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of an experiment and the methods, checked, defaults filled in.

    Args:
        paths: config files, which are only looked through for keys that stand twice.
        settings: what they and the command line say together.
        source: files to name in messages.

    Raises:
        SettingsError: the first thing that is wrong.
    """
    for path in paths:
        _read(path, str(path))
    methods = check_methods(_read(find_shipped(METHODS_FILE), METHODS_FILE), METHODS_FILE)
    return check_experiment(settings, methods, source), methods


def find_paths(settings: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Every setting that is a path: the section that holds it, and its keys."""
    for keys in PATHS:
        section = settings if len(keys) == 1 else settings[keys[0]]
        path = section[keys[-1]]
        if path is not None and (keys[-1] != "pretrained" or is_file(path)):
            yield section, keys


def parse_yaml(text: str, source: str) -> Any:
    """The content of YAML.

    Args:
        text: what was written.
        source: file to name in messages.

    Raises:
        SettingsError: it is no YAML, or a key stands twice in a section.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{source}: is no YAML: {' '.join(str(error).split())}") from None


def _read(path: str | Path, source: str) -> Any:
    return parse_yaml(Path(path).read_text(encoding="utf-8"), source)


def check_keys(settings: Any, kind: TypeAdapter, source: str) -> dict[str, Any]:
    """Settings with defaults filled in, checked against their models.

    Args:
        settings: as read from YAML.
        kind: `EXPERIMENT` or `METHODS`.
        source: file to name in messages.

    Raises:
        SettingsError: the first thing that is wrong, and how many more there are.
    """
    known = {}
    try:
        # Not to be warned of integers among the numbers.
        return kind.dump_python(kind.validate_python(settings, context=known), warnings=False)
    except ValidationError as error:
        raise SettingsError(f"{source}: {describe_errors(error.errors(include_url=False), settings, known)}") from None


def check_experiment(settings: Mapping[str, Any], methods: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings with defaults filled in.

    Args:
        settings: as read from YAML.
        methods: rows of workflow/methods.yaml.
        source: file to name in messages.

    Raises:
        SettingsError: a key is unknown or has a wrong value, a method is unknown, or the datasets are
            not labelled for different tasks.
    """
    settings = check_keys(settings, EXPERIMENT, source)
    comparison = settings["comparison"]
    named = {
        "methods": settings["methods"],
        "comparison.methods": comparison["methods"] or [],
        "comparison.reference": [comparison["reference"]],
    }
    for key, names in named.items():
        for method in names:
            if method not in methods:
                raise SettingsError(f"{source}: {key}: unknown method {method!r}{suggest(method, methods)}")
    if comparison["methods"] and comparison["reference"] not in comparison["methods"]:
        raise SettingsError(
            f"{source}: comparison.methods: lacks the reference '{comparison['reference']}'; "
            "add it or choose another comparison.reference"
        )
    tasks = [dataset["task"] for dataset in settings["datasets"].values()]
    if len(set(tasks)) < len(tasks):
        twice = next(task for task in tasks if tasks.count(task) > 1)
        raise SettingsError(
            f"{source}: datasets: two are labelled for the task '{twice}', but each must bring a task of its own; "
            "merge them into one dataset or name the tasks apart"
        )
    for task in tasks:
        if task in RESERVED_TASKS:
            raise SettingsError(f"{source}: datasets: a task cannot be called '{task}'; choose another name")
    part_seeds = {dataset.get("seed", 0) for dataset in settings["datasets"].values() if "part" in dataset}
    if len(part_seeds) > 1:
        raise SettingsError(
            f"{source}: datasets: those with a `part` have different seeds, {sorted(part_seeds)}, by which their parts "
            "would share images; give them one seed"
        )
    channels = settings["images"]["channels"]
    for key in ("mean", "std"):
        if settings["images"][key] and len(settings["images"][key]) != channels:
            raise SettingsError(
                f"{source}: images.{key}: has {len(settings['images'][key])} values, but images.channels is {channels}"
            )
    return settings


def check_methods(methods: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The methods, each a row of settings.

    Args:
        methods: rows of workflow/methods.yaml, as read from it.
        source: file to name in messages.

    Raises:
        SettingsError: a key is unknown or has a wrong value, an alternating method has no selection, a
            setting has no use for a method's schedule or criteria, or a method has the name of a folder.
    """
    methods = check_keys(methods, METHODS, source)
    for name, row in methods.items():
        if name in RESERVED_METHODS:
            raise SettingsError(f"{source}: a method cannot be called '{name}'; choose another name")
        if reason := _find_useless(row):
            raise SettingsError(f"{source}: {name}.{reason}")
    return methods


def _find_useless(row: Mapping[str, Any]) -> str | None:
    """A setting that a method lacks or has no use for, and why."""
    schedule, selection = row["schedule"], row.get("selection")
    of_labels = [key for key in ("distance", "temperature", "interpolation", "quantile", "refinement") if key in row]
    if schedule == "alternating" and selection is None:
        return "selection: is missing; an alternating method needs label vectors"
    if schedule == "single":
        for key in ("selection", *of_labels):
            if key in row:
                return f"{key}: a single method has no use for it; remove it or set schedule to alternating or mixed"
        if "regularization" in row:
            return "regularization: joins tasks, which the schedule single keeps apart"
    if "augmentation" in row and selection is None and "label_transfer" not in row:
        return "augmentation: has no use where all labels are given; remove it or add a selection"
    if selection is None and of_labels:
        return f"{of_labels[0]}: has no use without a selection; remove it or add one"
    if "distance" in row and not (isinstance(selection, list) and "distribution" in selection):
        return "distance: has no use without the criterion distribution"
    if "label_transfer" in row:
        if schedule != "mixed":
            return f"label_transfer: needs the schedule mixed, not {schedule}"
        if selection is not None:
            return "label_transfer: gives the labels that selection would make; remove one of them"
    return None
