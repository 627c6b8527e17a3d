"""The text of a config for new data: the default config, its comments kept, with other values and other datasets.

Line by line, without ruamel.yaml: where comments stand and what they say would still be ours to set.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stages.core.errors import UserError
from stages.tools.proposals import Change

COMMENT_COLUMN = 31
FACT_WIDTH = 110
DATASET_COMMENTS = {
    "task": "your name for what the labels say",
    "labels": "column by task, your name for what its labels say; an empty cell is an unknown label",
    "classes": "by class its names in the data",
    "validation": "share of the training images kept to choose an epoch",
}


def fill_template(template: str, changes: Mapping[str, Change], datasets: Sequence[str]) -> str:
    """The default config with other values and other datasets, but without what stands above its first key.

    Args:
        template: text of config.yaml: one key per line, two blanks per level, comments behind the values.
        changes: by key, such as `images.height`.
        datasets: lines to stand below `datasets:`.

    Raises:
        ValueError: the template lacks one of the keys.
    """
    lines, parents, missing = [], [], {"datasets", *changes}
    for line in template.split("\n\n", 1)[1].splitlines():
        if parents[:1] == ["datasets"] and line.startswith(" "):
            continue
        if match := re.fullmatch(r"( *)(\w+):.*?(# .*)?", line):
            indent, name, comment = match.groups()
            parents = [*parents[: len(indent) // 2], name]
            key = ".".join(parents)
            missing.discard(key)
            if key in changes:
                value, other_comment = changes[key]
                comment = f"# {other_comment}" if other_comment else comment
                line = _format_line(f"{indent}{name}: {_format_value(value)}", comment)
        lines.append(line)
        if parents == ["datasets"]:
            lines += datasets
            parents = ["datasets", ""]
    if missing:
        raise UserError(f"the default config has no key {', '.join(sorted(missing))}; describe_data needs it there")
    return "\n".join(lines) + "\n"


def render_dataset(name: str, settings: Mapping[str, Any], facts: Sequence[str]) -> list[str]:
    """A dataset's lines below `datasets:`, with facts as comments."""
    lines = [f"  {name}:"]
    for fact in facts:
        lines += [f"    # {line}" for line in textwrap.wrap(make_line(fact), FACT_WIDTH)]
    for key, value in settings.items():
        comment = DATASET_COMMENTS.get(key)
        lines.append(_format_line(f"    {key}: {_format_value(value)}", comment and f"# {comment}"))
    return lines


def make_line(text: str) -> str:
    """`text` as a comment can hold it: what is no printable character becomes a blank."""
    return "".join(one if one.isprintable() else " " for one in text)


def _format_line(line: str, comment: str | None) -> str:
    return f"{line:<{COMMENT_COLUMN - 1}} {comment or ''}".rstrip()


def _format_value(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").strip()
