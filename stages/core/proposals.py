"""A first config for new data: what its images suggest, written into the default config and its comments."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

LARGEST_SIDE, SMALLEST_SIDE, SIDE_STEP = 224, 32, 16
LARGEST_TINY = 64
"""Pixels up to which vgg_tiny will do."""
LEAST_ELONGATED = 1.5
"""From this ratio of the sides on images are not made square."""
COMMENT_COLUMN = 31
FACT_WIDTH = 110
DATASET_COMMENTS = {
    "task": "your name for what the labels say",
    "validation": "share of the training images kept to choose an epoch",
}

Change = tuple[Any, str | None]
"""A value, and its comment where it is not to be that of the default config."""


def propose_settings(medians: Sequence[tuple[int, int]], *, grey: bool, n_train: Sequence[int]) -> dict[str, Change]:
    """Settings by key, such as `images.height`, that depend on the data.

    Args:
        medians: median width and height of each dataset's images, in pixels.
        grey: whether all images are grey.
        n_train: training samples of each dataset.
    """
    width, height = min(medians, key=math.prod)
    ratio = math.exp(sum(math.log(high / wide) for wide, high in medians) / len(medians))
    elongation = max(ratio, 1 / ratio)
    short = min(width, height)
    long = short * (elongation if elongation >= LEAST_ELONGATED else 1)
    scale = min(1, LARGEST_SIDE / long)
    short, long = (max(SMALLEST_SIDE, int(side * scale) // SIDE_STEP * SIDE_STEP) for side in (short, long))
    tiny = long <= LARGEST_TINY
    changes = {
        "images.height": (long if ratio > 1 else short, f"pixels; the smallest images' median is {width} x {height}"),
        "images.width": (short if ratio > 1 else long, None),
        "images.channels": (1 if grey and tiny else 3, None),
        "training.epochs": (6 * len(medians), None),
        "training.initial_epochs": (3, None),
        "training.learning_rate": (0.001 if tiny else 0.0001, None),
        "training.augmentation.shift": (short // SIDE_STEP, None),
        "mixture.components": (min(5, *n_train), None),
        "network.backbone": ("vgg_tiny", None),
    }
    if not tiny:
        changes["network.backbone"] = ("vgg16", "or another of torchvision's, such as resnet18; wants a GPU")
        hint = (
            "better: VGG16_Weights.IMAGENET1K_V1 (ImageNet, 528 MB to download), or a local .pth or .safetensors file"
        )
        changes["network.pretrained"] = (None, hint)
    return changes


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
        raise ValueError(f"the default config has no key {', '.join(sorted(missing))}; describe_data needs it there")
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
