"""Checking an experiment's settings before anything runs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stages.core.suggestions import suggest
from stages.core.task_labels import list_audits, list_labels
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

OF_DISTRIBUTION = ("distance", "decay", "decay_scale")
"""Keys of a method that only the criterion distribution has a use for."""
OF_LABELS = (
    *(*OF_DISTRIBUTION, "sharpness", "alignment", "temperature", "interpolation", "quantile", "refinement"),
    *("strength", "student_temperature", "normalization", "reliability", "balance"),
)
"""Keys of a method that have no use where a selection makes no labels."""


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
        SettingsError: a key is unknown or has a wrong value, a method is unknown, or keys contradict each other.
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
    check_datasets(settings, source)
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
    for dataset in settings["datasets"].values():
        if shared := list_shared(settings, dataset):
            dataset["tasks"] = shared
    return settings


def check_datasets(settings: Mapping[str, Any], source: str) -> None:
    """What keys of datasets and tasks must agree on.

    Raises:
        SettingsError: they do not.
    """
    lists: dict[str, dict[str, Any]] = {}
    for name, dataset in settings["datasets"].items():
        if reason := _find_contradiction(dataset):
            raise SettingsError(f"{source}: datasets.{name}{reason}")
        for task in list_labels(dataset):
            lists.setdefault(task, {})
            if task in RESERVED_TASKS:
                raise SettingsError(f"{source}: datasets.{name}: a task cannot be called '{task}'; choose another name")
            if "classes" in dataset:
                lists[task][name] = dataset["classes"]
    if not lists:
        raise SettingsError(f"{source}: datasets: none has labels; name at least one `task`")
    audited = [task for dataset in settings["datasets"].values() for task in list_audits(dataset)]
    for task, shared in settings["tasks"].items():
        if task not in (*lists, *audited):
            raise SettingsError(f"{source}: tasks.{task}: no dataset has labels for it{suggest(task, lists)}")
        if "classes" in shared and lists.get(task):
            raise SettingsError(
                f"{source}: tasks.{task}.classes: datasets.{next(iter(lists[task]))} has `classes`, too; keep one"
            )
    for task, found in lists.items():
        (first, classes), *others = [*found.items(), *[(None, None)] * (not found)]
        for other, different in others:
            if list(different) != list(classes):
                raise SettingsError(
                    f"{source}: datasets: {first} and {other} list different `classes` for '{task}'; write one list in "
                    f"tasks.{task}.classes, and none there"
                )


def list_shared(settings: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset must know of its tasks: what `tasks` says of them, and whether other datasets have them, too."""
    shared = {}
    for task in [*list_labels(dataset), *list_audits(dataset)]:
        of_task = {key: value for key, value in settings["tasks"].get(task, {}).items() if key != "weight"}
        if sum(task in list_labels(other) for other in settings["datasets"].values()) > 1:
            of_task["shared"] = True
        if of_task:
            shared[task] = of_task
    return shared


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


def _find_contradiction(dataset: Mapping[str, Any]) -> str | None:
    """What is wrong with the labels of a dataset's settings: the key below it, and why."""
    columns = dataset.get("columns", {})
    if ("task" in dataset) == ("labels" in dataset):
        if "task" in dataset:
            return ": has both `task` and `labels`; `task` is short for one label: remove it"
        return ".task: is missing; name what its labels say, or write `labels` by task, {} if it has none"
    tasks = list_labels(dataset)
    if "task" in dataset and dataset["source"] in ("table", "fairface") and "label" not in columns:
        return ".columns.label: is missing"
    if "labels" in dataset and "label" in columns:
        return ".columns.label: has no use beside `labels`, which name their own columns; remove it"
    if dataset["source"] == "image_folder" and ("split" in dataset) != bool(tasks):
        return ".split: is missing" if tasks else ".split: has no use without labels: all images are training images"
    for key in ("classes", "drop"):
        if key in dataset and len(tasks) != 1:
            return f".{key}: is for a dataset with one task; write it in tasks.TASK.{key}"
    for task in dataset.get("known", {}):
        if task not in tasks:
            return f".known.{task}: is no task that it has labels for{suggest(task, tasks)}"
    for task, column in list_audits(dataset).items():
        if tasks.get(task) == column and task in tasks:
            return (
                f".audit.{task}: '{column}' is also what the task is trained on; hold back a part of it by "
                f"known: {{{task}: 0.5}}, or name another column"
            )
    return None


def _find_useless(row: Mapping[str, Any]) -> str | None:
    """A setting that a method lacks or has no use for, and why."""
    schedule, selection = row["schedule"], row.get("selection")
    of_labels = [key for key in OF_LABELS if key in row]
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
    criteria = selection if isinstance(selection, list) else []
    if "sharpness" in row and not criteria:
        return "sharpness: has no use with a constant weight"
    for key in OF_DISTRIBUTION:
        if key in row and "distribution" not in criteria:
            return f"{key}: has no use without the criterion distribution"
    if "label_transfer" in row:
        if schedule != "mixed":
            return f"label_transfer: needs the schedule mixed, not {schedule}"
        if selection is not None:
            return "label_transfer: gives the labels that selection would make; remove one of them"
    return None
