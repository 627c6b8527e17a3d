"""The looks of all figures: one style, colours that everybody tells apart, the same bytes for the same numbers.

Names of classes and datasets are a user's: no formula is looked for in them, and what cannot be printed is escaped.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from stages.core.suggestions import escape_name
from stages.storage.files import replace_when_complete

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Told apart by every kind of colour vision (Okabe and Ito); each goes with a marker, for prints in grey."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oooo")
GREY, LIGHT, DARK = "#767676", "#d9d9d9", "#000000"
SEQUENTIAL = "cividis"
"""The colour map of ordered numbers; its brightness grows with them."""
SHADES = "Blues"
"""The colour map of cells that a number is written into."""
WIDTH = 11.0
"""Inches: what a report shows beside its menu."""
HEIGHT = 6.6
"""Inches: a report centres its pictures, and of one that is higher than the window the top cannot be seen."""
LONGEST = 18
"""Characters of a name in a figure."""
STYLE = {
    "svg.hashsalt": "mtl-sa",
    # As text, which the reader's browser has letters for, can be searched, and is small.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "hatch.color": "#ffffff",
    "image.cmap": SEQUENTIAL,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}


def use_style():
    """A context in which figures are made and saved."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def make_figure(height: float, width: float = WIDTH):
    """An empty figure, sizes in inches; its parts never overlap."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def make_panels(n_panels: int, *, columns: int = 4, height: float = 2.9, **options):
    """A figure and its panels in rows of so many, those that are not needed switched off."""
    n_columns = max(1, min(columns, n_panels))
    n_rows = -(-n_panels // n_columns)
    height = max(1.5, min(height, (HEIGHT - 0.4) / n_rows))
    figure = make_figure(height * n_rows + 0.4, WIDTH * max(0.75, n_columns / columns))
    panels = figure.subplots(n_rows, n_columns, squeeze=False, **options).flat
    for panel in panels[n_panels:]:
        panel.set_axis_off()
    return figure, panels[:n_panels]


def save_figure(path: str | Path, figure) -> None:
    """Write a figure as SVG."""
    with replace_when_complete(path) as path_temporary, warnings.catch_warnings():
        # The letters of some languages are the browser's to find.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(path_temporary, format="svg", metadata={"Date": None}, dpi=150)


def shorten(name: str, longest: int = LONGEST) -> str:
    """A user's name on one line of a figure."""
    name = escape_name(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def shorten_all(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Several names, those that begin alike cut in the middle instead, so that they still differ."""
    cut = [shorten(name, longest) for name in names]
    half = (longest - 1) // 2
    return [
        short if cut.count(short) == 1 else f"{escape_name(name)[:half]}…{escape_name(name)[-half:]}"
        for short, name in zip(cut, names, strict=True)
    ]


def mark_epochs(panel, epochs: Sequence[int]) -> None:
    """Whole numbers on the axis of epochs."""
    from matplotlib.ticker import MaxNLocator

    panel.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    if len(epochs) <= 12:
        panel.set_xticks(epochs)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panel.set_xlabel("epoch")


def add_legend(figure, handles, names: Sequence[str], **options) -> None:
    """A legend above all panels."""
    n_rows = -(-len(names) // options.pop("ncols", 5))
    figure.legend(handles, names, loc="outside upper center", ncols=-(-len(names) // n_rows), **options)


def write_cells(panel, values, texts, *, limits: tuple[float, float] | None = None, fontsize: float = 8):
    """A matrix as cells with a text in each, white on dark ones; returns the image."""
    image = panel.imshow(values, cmap=SHADES, aspect="auto", vmin=limits and limits[0], vmax=limits and limits[1])
    panel.grid(visible=False)
    for (row, column), value in _enumerate(values):
        dark = image.norm(value) > 0.55
        text = texts[row][column]
        if text:
            panel.text(
                column, row, text, ha="center", va="center", fontsize=fontsize, color="white" if dark else "black"
            )
    return image


def _enumerate(values):
    import numpy as np

    return np.ndenumerate(np.asarray(values))
