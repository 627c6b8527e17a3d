"""What readers of published datasets share: one message for what is missing, label files and splits."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.data.sources.base import Tolerance, locate_image, normalize_path

LARGEST_SHARE_MISSING = 0.01
"""With more of its images missing a dataset is taken for partly unpacked."""


class BadEntryError(UserError):
    """No sample can be made of an entry of a published list.

    Attributes:
        kind: what such entries are called where they are counted.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{message}; get the file again, or set images.on_error to skip to have such entries left out")
        self.kind = kind


@contextmanager
def count_bad_entries(counts: Counter, tolerance: Tolerance) -> Iterator[None]:
    """Count an entry that turns out to be bad instead of raising its error, where that is tolerated."""
    try:
        yield
    except BadEntryError as error:
        if not tolerance.bad_entries:
            raise
        counts[error.kind] += 1


class IncompleteError(UserError):
    """A published dataset is not there, or only in part; who asked for it adds where to get it."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: lacks {what}")


def find_file(folder: Path, *names: str) -> Path:
    """The first of `names` that is a file below `folder`.

    Raises:
        IncompleteError: none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise IncompleteError(folder, " or ".join(names))


def check_images(folder: Path, paths: Sequence[str], source: Path, roots: Sequence[Path] | None = ()) -> None:
    """Refuse a partly unpacked dataset; few missing images are left to `images.on_error`.

    Args:
        folder: that `paths` are below.
        paths: of all images that have a label, POSIX style.
        source: of the labels, for messages.
        roots: see `normalize_path`.

    Raises:
        IncompleteError: more than `LARGEST_SHARE_MISSING` of the images do not exist.
        ValueError: one lies elsewhere.
    """
    try:
        for path in paths:
            normalize_path(path, folder, roots)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
    missing = [path for path in paths if not locate_image(folder, path).is_file()]
    if len(missing) > LARGEST_SHARE_MISSING * len(paths):
        labelled = f"{len(missing)} of the {len(paths)} images labelled in {source}, such as '{missing[0]}'"
        raise IncompleteError(folder, labelled)


def read_lines(path: Path, fields: Sequence[str], *, n_header: int = 0) -> Iterator[tuple[str, list[str]]]:
    """The lines of a label file whose fields stand between blanks; only the first may hold some itself.

    Args:
        path: a text file; empty lines are ignored.
        fields: their names, for messages.
        n_header: lines to leave out.

    Yields:
        Where the line is, for messages, and its fields.

    Raises:
        ValueError: the file is not text, or a line has too few fields.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; unpack or download it again") from None
    for number, line in enumerate(lines[n_header:], start=n_header + 1):
        found = line.strip().rsplit(maxsplit=len(fields) - 1)
        if found and len(found) < len(fields):
            raise UserError(
                f"{path}, line {number}: has {len(found)} of the {len(fields)} fields {list_names(fields)}; "
                "unpack or download the file again"
            )
        if found:
            yield f"{path}, line {number}", found


def note_left_out(source: Path, counts: Mapping[str, int]) -> None:
    """Say on standard error, and so in the log of a stage, what a reader did not make samples of."""
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if listed:
        logging.getLogger(__name__).warning("%s: left out %s", source, listed)
