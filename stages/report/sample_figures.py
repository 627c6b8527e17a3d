"""Images of samples in rows, each with a line or two below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.report.style import COLORS, DARK, GREY, HEIGHT, make_figure, save_figure, shorten, use_style

VERDICTS = {1: ("right", COLORS[2], "-"), 0: ("wrong", COLORS[5], "--"), -1: ("", GREY, "-")}
"""What is known of a pseudo label: its word, and the frame of the image."""


@dataclass(frozen=True)
class Strip:
    """Images beside each other.

    Attributes:
        title: above them.
        images: uint8 of shape (n, H, W, C).
        texts: n lines below them.
        verdicts: n keys of `VERDICTS`.
    """

    title: str
    images: np.ndarray
    texts: Sequence[str]
    verdicts: Sequence[int]


def draw_strips(path: str | Path, strips: Sequence[Strip], columns: int = 10) -> None:
    """Draw rows of images.

    Args:
        path: the file to write.
        strips: one row each.
        columns: images that a row has room for.
    """
    with use_style():
        tallest = max((one.images.shape[1] / one.images.shape[2] for one in strips), default=1)
        figure = make_figure(min(HEIGHT, len(strips) * (0.85 + 0.95 * tallest) + 0.1))
        rows = np.atleast_1d(figure.subfigures(len(strips), 1))
        for strip, row in zip(strips, rows, strict=True):
            row.suptitle(strip.title, fontsize=10, fontweight="bold")
            for number, panel in enumerate(row.subplots(1, columns, squeeze=False).flat):
                panel.set_xticks([])
                panel.set_yticks([])
                panel.grid(visible=False)
                if number >= len(strip.images):
                    panel.set_axis_off()
                    continue
                image = strip.images[number]
                grey = image.shape[-1] == 1
                panel.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                word, color, line = VERDICTS[strip.verdicts[number]]
                for spine in panel.spines.values():
                    spine.set(visible=True, color=color, linewidth=2.5 if word else 0.5, linestyle=line)
                text = strip.texts[number] + (f"\n{word}" if word else "")
                panel.set_xlabel(text, fontsize=7.5, color=DARK, labelpad=3)
        save_figure(path, figure)


def describe_names(names: Sequence[str]) -> str:
    """Names below an image, one a line."""
    return "\n".join(shorten(name, 15) for name in names)
