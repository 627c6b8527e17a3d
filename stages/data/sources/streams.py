"""Images written one after the other to a .npy file that `np.load` can map."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stages.data.sources.base import Sample
from stages.data.sources.decoding import check_skipped
from stages.storage.files import replace_when_complete


class ImageStream:
    """Appends images to an open .npy file; how many there will be need not be known."""

    def __init__(self, file: BinaryIO, image_shape: tuple[int, int, int]) -> None:
        self._file = file
        self._image_shape = image_shape
        self.n_images = 0
        self._write_header()

    def append(self, image: np.ndarray) -> None:
        """Add one image, uint8 of the stream's shape."""
        self._file.write(np.ascontiguousarray(image).data)
        self.n_images += 1

    def finish(self) -> None:
        """Put the number of images into the header, for which NumPy leaves room."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        shape = (self.n_images, *self._image_shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@contextmanager
def open_image_stream(path: str | Path, image_shape: tuple[int, int, int]) -> Iterator[ImageStream]:
    """Yield an `ImageStream`; the file, as `np.save` writes it, appears when the block ends well."""
    with replace_when_complete(path) as path_temporary, path_temporary.open("wb") as file:
        stream = ImageStream(file, image_shape)
        yield stream
        stream.finish()


def write_images(
    paths: Mapping[str, str | Path],
    image_shape: tuple[int, int, int],
    samples: Sequence[Sample],
    decoded: Iterable[np.ndarray | str],
    *,
    stop: bool,
) -> dict[str, list[list[str]]]:
    """Write decoded images, in their order; no file appears unless all do.

    Args:
        paths: of the file of every split.
        image_shape: of the images.
        samples: all of them, good and bad.
        decoded: for each sample its image, or what is wrong with it.
        stop: whether one bad image is too many.

    Returns:
        Path and reason of every bad image, by split.

    Raises:
        ValueError: see `check_skipped`.
    """
    skipped = {split: [] for split in paths}
    with ExitStack() as stack:
        streams = {split: stack.enter_context(open_image_stream(path, image_shape)) for split, path in paths.items()}
        for sample, image in zip(samples, decoded, strict=True):
            if isinstance(image, str):
                skipped[sample.split].append([sample.path, image])
            else:
                streams[sample.split].append(image)
        check_skipped(skipped, samples, stop=stop)
    return skipped
