"""What is wrong with settings, in one line."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from stages.core.errors import UserError
from stages.core.suggestions import suggest

TYPES = {
    "int_type": "integer",
    "float_type": "number",
    "finite_number": "number",
    "bool_type": "boolean",
    "string_type": "string",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
}
"""What messages call the type that a value lacks, by pydantic's name of the error."""

Known = Mapping[int, Mapping[str, FieldInfo]]


class SettingsError(UserError):
    """A setting is wrong; the message is one line that names the key and says how to mend it."""


def describe_errors(errors: list[ErrorDetails], settings: Any, known: Known) -> str:
    """The first thing that is wrong, and how many more there are.

    Args:
        errors: what pydantic found, one or more.
        settings: what it looked at.
        known: fields that every section may have by key, by the `id` of the section in `settings`.
    """
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _describe(min(errors, key=_rank), settings, known) + more


def _rank(error: ErrorDetails) -> tuple[bool, bool]:
    """Unknown keys first: a misspelt key also leaves a required one missing."""
    return error["type"] != "union_tag_invalid", error["type"] != "extra_forbidden"


def _describe(error: ErrorDetails, settings: Any, known: Known) -> str:
    # Pydantic's path also says which of several models was tried.
    path, section, place = [], None, settings
    for part in error["loc"]:
        if part in place if isinstance(place, Mapping) else isinstance(place, list) and isinstance(part, int):
            path.append(part)
            section, place = place, place[part]
    value, context, last = error["input"], error.get("ctx", {}), error["loc"][-1:]
    if error["type"] == "invalid_key" or (last == ("[key]",) and error["type"] == "string_type"):
        where = f"{_join(path[:-1])}: " if path[:-1] else ""
        return f"{where}the key {value!r} is not text; write it in quotes"
    if error["type"] == "missing":
        path += last
    if error["type"].startswith("union_tag"):
        path += _read_choices(context["discriminator"])
        value = context.get("tag")
    where = _join(path) or "the top level"
    match error["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{suggest(str(last[0]), known[id(section)])}"
        case "missing" | "union_tag_not_found":
            return f"{where}: is missing"
        case "union_tag_invalid" | "literal_error":
            choices = _read_choices(context.get("expected") or context["expected_tags"])
            return f"{where}: {str(value)!r} is not allowed{suggest(str(value), choices)}"
        case "greater_than_equal":
            return f"{where}: {value} is too small; the least is {context['ge']:g}"
        case "greater_than":
            return f"{where}: {value} is too small; it must be above {context['gt']:g}"
        case "less_than_equal":
            return f"{where}: {value} is too large; the most is {context['le']:g}"
        case "less_than":
            return f"{where}: {value} is too large; it must be below {context['lt']:g}"
        case "too_short" if isinstance(value, Mapping):
            least = context["min_length"]
            return f"{where}: {len(value)} given, but at least {least} {'is' if least == 1 else 'are'} needed"
        case "too_short" | "string_too_short":
            return f"{where}: is too short; at least {context['min_length']} needed"
        case "too_long":
            return f"{where}: is too long; at most {context['max_length']} allowed"
        case "string_pattern_mismatch":
            allowed = context["pattern"]
            return f"{where}: {value!r} has characters that file and column names should not have (allowed: {allowed})"
        case name if name in TYPES:
            field = known.get(id(section), {}).get(path[-1]) if path else None
            null = " or null" if field and NoneType in get_args(field.annotation) else ""
            hint = "; write 0.0001, not 1e-4" if TYPES[name] == "number" and isinstance(value, str) else ""
            return f"{where}: {value!r} is not of type {TYPES[name]}{null}{hint}"
        case _:
            return f"{where}: {error['msg']}"


def _join(path: list[Any]) -> str:
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)


def _read_choices(text: str) -> list[str]:
    """The names in pydantic's lists, such as `'a', 'b' or 'c'`."""
    return [name.strip("'") for name in text.replace(" or ", ", ").split(", ")]
