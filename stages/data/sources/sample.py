"""One image of a dataset, as its reader found it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    Attributes:
        path: POSIX path below the dataset's image folder, unique in the dataset.
        labels: class name by task that the dataset has labels for; None where it is not known.
        split: one of `SPLITS`.
        audit: class name by task, known but never trained on; None where it is not known.
    """

    path: str
    labels: Mapping[str, str | None]
    split: str
    audit: Mapping[str, str | None] = field(default_factory=dict)
