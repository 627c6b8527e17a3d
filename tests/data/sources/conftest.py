"""Images drawn for datasets in their publishers' layouts."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw(tmp_path):
    """Write images whose pixel in column x and row y is (x, y, 7), so that a crop shows where it was cut."""

    def write(*names, width=40, height=30):
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        pixels = np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8)
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name)

    return write


@pytest.fixture
def find_box():
    """Left, top, right and bottom of what was cut out of a drawn image."""

    def find(image):
        pixels = np.asarray(image)
        (left, top, _), (right, bottom, _) = pixels[0, 0].tolist(), pixels[-1, -1].tolist()
        assert image.size == (right + 1 - left, bottom + 1 - top)
        return left, top, right + 1, bottom + 1

    return find
