"""Samples that show one box of an image, such as one face of several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import UserError
from stages.data.sources.base import Sample, locate_image, open_image
from stages.data.sources.published import BadEntryError

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, from the upper left corner of the stored image."""


@dataclass(frozen=True, kw_only=True)
class CropSample(Sample):
    """A box of an image.

    Attributes:
        file: POSIX path of the image below the dataset's folder; `path` may add what tells its boxes apart.
        box: what the sample shows of it.
        place: where the box is written, for messages.

    Raises:
        BadEntryError: the box is empty, or left of or above every image.
    """

    file: str
    box: Box
    place: str

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (left < right and top < bottom):
            raise BadEntryError("boxes without area", f"{self.place}: the box {_describe_box(self.box)} is empty")
        if right <= 0 or bottom <= 0:
            raise BadEntryError("boxes outside their images", f"{self.place}: {_describe_outside(self.box)}")


@dataclass(frozen=True)
class CropLoader:
    """Opens the boxes of images below a folder, each with a margin as far as the image goes.

    Attributes:
        folder: of the dataset.
        margin: share of the box's width and height that is added on each side.
    """

    folder: Path
    margin: float = 0.0

    def __call__(self, sample: CropSample, size: int) -> "Image.Image":
        """Cut out one box.

        Raises:
            ValueError: the box lies outside the image.
        """
        left, top, right, bottom = sample.box
        aside, above = self.margin * (right - left), self.margin * (bottom - top)
        with open_image(self.find_file(sample)) as image:
            if left >= image.width or top >= image.height:
                outside = _describe_outside(sample.box, f" of {image.width} x {image.height} pixels")
                raise UserError(f"{sample.place}: {outside}")
            return image.crop(
                (
                    max(0, math.floor(left - aside)),
                    max(0, math.floor(top - above)),
                    min(image.width, math.ceil(right + aside)),
                    min(image.height, math.ceil(bottom + above)),
                )
            )

    def find_file(self, sample: CropSample) -> Path:
        """The file that a box is cut out of."""
        return locate_image(self.folder, sample.file)


def parse_box(fields: Sequence[str], place: str) -> Box:
    """Left, top, right and bottom of a box.

    Raises:
        BadEntryError: they are no numbers.
    """
    try:
        left, top, right, bottom = map(float, fields)
    except ValueError:
        message = f"{place}: the box {' '.join(fields)} is not four numbers"
        raise BadEntryError("boxes that are not four numbers", message) from None
    return left, top, right, bottom


def _describe_box(box: Box) -> str:
    """Its edges, for messages."""
    return "(left {:g}, top {:g}, right {:g}, bottom {:g})".format(*box)


def _describe_outside(box: Box, size: str = "") -> str:
    """The message about a box that shows nothing of its image."""
    return f"the box {_describe_box(box)} lies outside the image{size}"
