"""Images written one after the other to a .npy file that `np.load` can map."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
