"""Images that are rows of a CSV file, as FER2013 keeps them, read one by one."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import UserError
from stages.core.suggestions import suggest
from stages.data.sources.base import Sample

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class PixelSample(Sample):
    """An image of a CSV file.

    Attributes:
        offset: byte at which its row begins.
        place: where the row is, for messages.
    """

    offset: int
    place: str


@dataclass(frozen=True)
class PixelLoader:
    """Reads square grey images from a column of a CSV file.

    Attributes:
        path: of the file.
        column: index of the column that holds the grey values, row by row, with blanks between them.
        side: of the images, in pixels.
    """

    path: Path
    column: int
    side: int

    def __call__(self, sample: PixelSample, size: int) -> "Image.Image":
        """Read one image.

        Raises:
            ValueError: its pixels are not as many grey values as they should be.
        """
        from PIL import Image

        with self.path.open("rb") as file:
            file.seek(sample.offset)
            row = _split_row(file.readline())
        try:
            return Image.frombytes("L", (self.side, self.side), bytes(map(int, row[self.column].split())))
        except (ValueError, IndexError):
            wanted = f"{self.side} x {self.side} numbers from 0 to 255"
            raise UserError(f"{sample.place}: the pixels are not {wanted}; get the file again") from None

    def find_file(self, sample: PixelSample) -> Path:
        """The file that all images are read from."""
        return self.path


def find_column(path: Path, name: str) -> int:
    """The index of a column.

    Raises:
        ValueError: there is no such column.
    """
    with path.open("rb") as file:
        header = [column.strip() for column in _split_row(file.readline())]
    if name not in header:
        raise UserError(f"{path}: has no column '{name}'{suggest(name, header)}; get the file again")
    return header.index(name)


def read_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The rows of a CSV file that has no line breaks within its fields.

    Yields:
        The byte at which the row begins, where it is, for messages, and its fields by name; those
        that it lacks are empty.

    Raises:
        ValueError: a column is missing.
    """
    columns = {name: find_column(path, name) for name in names}
    with path.open("rb") as file:
        offset = len(file.readline())
        for number, line in enumerate(file, start=2):
            fields = _split_row(line)
            found = {name: fields[at].strip() if at < len(fields) else "" for name, at in columns.items()}
            yield offset, f"{path}, line {number}", found
            offset += len(line)


def _split_row(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8-sig", errors="replace")], skipinitialspace=True), [])
    except csv.Error:  # a field beyond all reason
        return []
