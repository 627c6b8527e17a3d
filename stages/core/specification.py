"""What a network is, as its file says it; nothing here needs torch."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from stages.core.errors import UserError

FITS = ("stretch", "crop", "pad")
"""How images of another shape are fitted, see `convert_image`."""


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_number(value: Any) -> bool:
    # So that float32 holds it and its inverse.
    return type(value) in (int, float) and abs(value) < 1e30


def _are_classes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and not any("." in task for task in value)
        and all(isinstance(names, list) and len(names) > 0 for names in value.values())
        and all(isinstance(name, str) for names in value.values() for name in names)
        and all(len(set(names)) == len(names) for names in value.values())
    )


_RULES = {
    "backbone": lambda value: isinstance(value, str) and value.isprintable(),
    "image_shape": lambda value: isinstance(value, list) and len(value) == 3 and all(map(_is_count, value)),
    "head_features": _is_count,
    "classes": _are_classes,
    "cross_stitch_identity": _is_number,
    "mean": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "std": lambda value: isinstance(value, list) and all(_is_number(one) and one > 1e-30 for one in value),
    "fit": lambda value: value in FITS,
    "separate": lambda value: isinstance(value, bool),
    "label_transfer": lambda value: isinstance(value, bool),
}
"""What each value of a specification may be, as JSON has it."""


@dataclass(frozen=True)
class NetworkSpecification:
    """Everything needed to build the network and to feed it.

    Attributes:
        backbone: name of the shared convolutional layers.
        image_shape: height and width in pixels, and channels.
        head_features: d, length of the vector f that enters each classifier.
        classes: class names in index order, by task.
        cross_stitch_identity: initial weight of a head's own layer in the cross-stitch unit.
        mean: subtracted from pixel values in [0, 1], one number per channel.
        std: by which the difference is divided, one number per channel.
        fit: how images of another shape are fitted, see `convert_image`.
        separate: whether every task has convolutional layers of its own and no cross-stitch unit
            joins the heads: K single-task networks in one file.
        label_transfer: whether every task has a label transfer network.
    """

    backbone: str
    image_shape: tuple[int, int, int]
    head_features: int
    classes: Mapping[str, Sequence[str]]
    cross_stitch_identity: float
    mean: Sequence[float]
    std: Sequence[float]
    fit: str = "stretch"
    separate: bool = False
    label_transfer: bool = False

    @classmethod
    def parse(cls, content: Any) -> "NetworkSpecification":
        """The specification that a network's file names, where it may be anything that JSON can say.

        Raises:
            ValueError: a value is missing, unknown, or none that a network can have.
        """
        content = content if isinstance(content, dict) else {}
        known = {field.name: field.default for field in fields(cls)}
        if unknown := sorted(content.keys() - known):
            raise UserError(f"it has the unknown key {reprlib.repr(unknown[0])}")
        if missing := [name for name, default in known.items() if name not in content and default is MISSING]:
            raise UserError(f"it lacks the key '{missing[0]}'")
        for name, value in content.items():
            if not _RULES[name](value):
                raise UserError(f"its {name} cannot be {reprlib.repr(value)}")
        return cls(**{**content, "image_shape": tuple(content["image_shape"])})

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order of their heads."""
        return list(self.classes)


def join_classes(lists: Iterable[tuple[str, Mapping[str, Sequence[str]]]]) -> dict[str, list[str]]:
    """Class names in index order by task, of all datasets that have labels for it.

    Where their lists differ it is the longest, if that has all names, else all names sorted.

    Args:
        lists: by dataset, whose names are for messages, class names by task.

    Raises:
        ValueError: two lists have the same names in another order.
    """
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for dataset, by_task in lists:
        for task, names in by_task.items():
            found.setdefault(task, {}).setdefault(tuple(names), dataset)
    joined = {}
    for task, by_names in found.items():
        longest = max(by_names, key=len)
        for names in by_names:
            if set(names) == set(longest) and names != longest:
                raise UserError(
                    f"datasets {by_names[longest]} and {by_names[names]} have the classes of '{task}' in different "
                    f"orders; give one in tasks.{task}.classes"
                )
        everything = set().union(*by_names)
        joined[task] = list(longest) if everything == set(longest) else sorted(everything)
    return joined
