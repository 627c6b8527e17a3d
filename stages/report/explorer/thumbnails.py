"""Images as JPEG: small, side by side on sheets, and single."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

COLUMNS = 10
PER_SHEET = COLUMNS * COLUMNS
"""Sorting scatters samples over sheets: with larger ones a page of the gallery would read far more."""
BLOCK = 16
"""JPEG mixes colours within squares of so many pixels; tiles keep to them, so that none bleeds into the next."""


@dataclass(frozen=True)
class Tiles:
    """How thumbnails lie on a sheet, in pixels.

    Attributes:
        height: of a thumbnail.
        width: of a thumbnail.
        pitch_y: from one to the next below it.
        pitch_x: from one to the next beside it.
    """

    height: int
    width: int
    pitch_y: int
    pitch_x: int


def plan_tiles(height: int, width: int, largest: int) -> Tiles:
    """Thumbnails of images of a size; no side is longer than `largest`, and small images keep theirs."""
    scale = min(1.0, largest / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    return Tiles(height, width, -(-height // BLOCK) * BLOCK, -(-width // BLOCK) * BLOCK)


def draw_sheet(images: np.ndarray, tiles: Tiles) -> bytes:
    """Up to `PER_SHEET` images, uint8 (n, height, width, channels), as one JPEG, row by row."""
    n_rows = -(-len(images) // COLUMNS)
    sheet = np.zeros((n_rows * tiles.pitch_y, COLUMNS * tiles.pitch_x, images.shape[3]), dtype=np.uint8)
    padding = ((0, tiles.pitch_y - tiles.height), (0, tiles.pitch_x - tiles.width), (0, 0))
    for number, pixels in enumerate(images):
        if pixels.shape[:2] != (tiles.height, tiles.width):
            image = _make_image(pixels).resize((tiles.width, tiles.height), Image.Resampling.LANCZOS)
            pixels = np.asarray(image).reshape(tiles.height, tiles.width, -1)
        top, left = number // COLUMNS * tiles.pitch_y, number % COLUMNS * tiles.pitch_x
        sheet[top : top + tiles.pitch_y, left : left + tiles.pitch_x] = np.pad(pixels, padding, mode="edge")
    return encode_jpeg(sheet, quality=85)


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """One image, uint8 (height, width, channels), as JPEG."""
    buffer = io.BytesIO()
    _make_image(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _make_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
