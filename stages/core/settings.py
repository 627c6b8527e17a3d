"""Checking an experiment's settings before anything runs."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import jsonschema
import yaml

from stages.core.suggestions import suggest


def _is_integer(_checker: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_checker: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer).redefine(
        "number", _is_number
    ),
)
"""JSON schema with stricter numbers: 10.0 is no integer, NaN and infinity are no numbers."""
RESERVED_TASKS = ("features",)
"""Names of folders that stand beside a task's in an epoch."""
RESERVED_METHODS = ("initial", "initial_separate")
"""Names of folders that stand beside a method's."""


class SettingsError(ValueError):
    """A setting is wrong; the message is one line that names the key and says how to mend it."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, keys, strict=True):
            if isinstance(name, str) and keys.count(name) > 1:
                line = key.start_mark.line + 1
                raise SettingsError(f"line {line}: the key '{name}' stands twice in its section; keep one")
        return super().construct_mapping(node, deep)


def check_unique_keys(text: str, source: str) -> None:
    """Raise a SettingsError about a key that stands twice in a section of YAML."""
    try:
        yaml.load(text, _UniqueKeyLoader)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None


def check_settings(settings: Mapping[str, Any], schema: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings with defaults filled in, checked against a JSON schema.

    Args:
        settings: as read from YAML.
        schema: JSON schema whose objects refuse unknown keys.
        source: file to name in messages.

    Raises:
        SettingsError: the first thing that is wrong, and how many more there are.
    """
    _check_keys(settings, source)
    settings = fill_defaults(settings, schema)
    errors = sorted(VALIDATOR(schema).iter_errors(settings), key=_rank)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise SettingsError(f"{source}: {_describe(errors[0])}{more}")
    return settings


def fill_defaults(settings: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of the settings in which keys that are left out have the schema's defaults."""
    if not isinstance(settings, Mapping):
        return copy.deepcopy(settings)
    properties = schema.get("properties", {})
    filled = {key: fill_defaults(value, properties.get(key, {})) for key, value in settings.items()}
    for key, definition in properties.items():
        if key not in filled and "default" in definition:
            filled[key] = fill_defaults(definition["default"], definition)
    return filled


def check_experiment(settings: Mapping[str, Any], methods: Mapping[str, Any], source: str) -> None:
    """What a schema cannot say: names that must exist or differ.

    Args:
        settings: checked by `check_settings`.
        methods: rows of workflow/methods.yaml.
        source: file to name in messages.

    Raises:
        SettingsError: a method is unknown, or the datasets are not labelled for different tasks.
    """
    comparison = settings["comparison"]
    named = {
        "methods": settings["methods"],
        "comparison.methods": comparison["methods"] or [],
        "comparison.reference": [comparison["reference"]],
    }
    for key, names in named.items():
        for method in names:
            if method not in methods:
                raise SettingsError(f"{source}: {key}: unknown method '{method}'{suggest(method, methods)}")
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


def check_methods(methods: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """What a schema cannot say of methods: settings that their schedule has no use for.

    Args:
        methods: rows of workflow/methods.yaml, checked by `check_settings`.
        source: file to name in messages.

    Raises:
        SettingsError: an alternating method has no selection, a setting has no use for a method's
            schedule or criteria, or a method has the name of a folder.
    """
    needs_selection = ("distance", "temperature", "interpolation", "quantile", "refinement")
    for name, row in methods.items():
        schedule = row["schedule"]
        if name in RESERVED_METHODS:
            raise SettingsError(f"{source}: a method cannot be called '{name}'; choose another name")
        if schedule == "alternating" and "selection" not in row:
            raise SettingsError(f"{source}: {name}.selection: is missing; an alternating method needs label vectors")
        if schedule != "alternating":
            for key in ("selection", *needs_selection):
                if key in row:
                    raise SettingsError(
                        f"{source}: {name}.{key}: a {schedule} method has no use for it; remove it or set "
                        "schedule to alternating"
                    )
        if "distance" in row and "distribution" not in _list_criteria(row):
            raise SettingsError(f"{source}: {name}.distance: has no use without the criterion distribution")
        if schedule != "mixed" and "label_transfer" in row:
            raise SettingsError(f"{source}: {name}.label_transfer: needs the schedule mixed, not {schedule}")
        if schedule == "single" and "regularization" in row:
            raise SettingsError(f"{source}: {name}.regularization: joins tasks, which the schedule single keeps apart")


def _list_criteria(row: Mapping[str, Any]) -> list[str]:
    selection = row.get("selection")
    return selection if isinstance(selection, list) else []


def _check_keys(settings: Any, source: str, path: str = "") -> None:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if not isinstance(key, str):
                where = f"{path}: " if path else ""
                raise SettingsError(f"{source}: {where}the key {key!r} is not text; write it in quotes")
            _check_keys(value, source, f"{path}.{key}" if path else key)


def _rank(error: jsonschema.ValidationError) -> tuple:
    """Unknown keys first: a misspelt key also leaves a required one missing."""
    # A wrong `source` also leaves other keys unknown.
    path = [str(part) for part in error.absolute_path]
    return (path[-1:] != ["source"], error.validator not in ("additionalProperties", "oneOf"), path)


def _pick_branch(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Of the alternatives that a value fails, the one that it was most likely meant for."""
    order = ("additionalProperties", "enum", "minimum", "maximum", "exclusiveMinimum", "uniqueItems", "required")
    return min(
        error.context, key=lambda one: (order.index(one.validator) if one.validator in order else len(order), one.path)
    )


def _describe(error: jsonschema.ValidationError) -> str:
    path = [str(part) for part in error.absolute_path]
    where = ".".join(path) or "the top level"
    value, rule = error.instance, error.validator_value
    match error.validator:
        case "oneOf":
            return _describe(_pick_branch(error))
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))
            unknown = next(key for key in value if key not in known)
            return f"{'.'.join([*path, str(unknown)])}: unknown key{suggest(str(unknown), known)}"
        case "required":
            missing = next(key for key in rule if key not in value)
            return f"{'.'.join([*path, missing])}: is missing"
        case "minimum":
            return f"{where}: {value} is too small; the least is {rule}"
        case "exclusiveMinimum":
            return f"{where}: {value} is too small; it must be above {rule}"
        case "maximum":
            return f"{where}: {value} is too large; the most is {rule}"
        case "enum":
            return f"{where}: '{value}' is not allowed{suggest(str(value), map(str, rule))}"
        case "type":
            wanted = " or ".join(rule) if isinstance(rule, list) else rule
            hint = "; write 0.0001, not 1e-4" if wanted == "number" and isinstance(value, str) else ""
            return f"{where}: {value!r} is not of type {wanted}{hint}"
        case "minProperties":
            return f"{where}: {len(value)} given, but at least {rule} are needed; one task alone has nothing to share"
        case "const":
            return f"{where}: '{value}' is not allowed{suggest(str(value), [str(rule)])}"
        case "minItems":
            return f"{where}: is too short; at least {rule} needed"
        case "pattern":
            return f"{where}: '{value}' has characters that file and column names should not have (allowed: {rule})"
        case "propertyNames":
            return f"{where}: {error.message}"
        case _:
            return f"{where}: {error.message.splitlines()[0]}"
