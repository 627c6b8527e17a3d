"""Figures, the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.core.comparison import summarize_seeds
from stages.report.style import COLORS, DARK, save_figure, use_style

METHOD_COLOR, REFERENCE_COLOR = COLORS[0], DARK
MAX_COLUMNS = 5


@dataclass(frozen=True)
class Curve:
    """One method's accuracy over its training.

    Attributes:
        name: the paper's name.
        epochs: shape (E,).
        accuracy: shape (n seeds, E, K).
    """

    name: str
    epochs: np.ndarray
    accuracy: np.ndarray


def draw_curves(path: str | Path, curves: Mapping[str, Curve], tasks: Sequence[str], reference: str) -> None:
    """Draw test accuracy against epoch as SVG: per task one small panel for every method.

    A band of one standard deviation over seeds surrounds each line. Sixteen bands in one panel
    hide each other; a panel each, with the reference behind it, can be compared.

    Args:
        path: the file to write.
        curves: by method, in their order.
        tasks: names of the K tasks.
        reference: the method that is drawn in every panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [method for method in curves if method != reference] or [reference]
    n_columns = min(MAX_COLUMNS, len(shown))
    n_rows = -(-len(shown) // n_columns)
    with use_style():
        size = (max(1.7 * n_columns + 0.5, 4), (1.35 * n_rows + 0.55) * len(tasks) + 0.35)
        figure = Figure(figsize=size, layout="constrained")
        blocks = figure.subfigures(len(tasks), 1, squeeze=False)[:, 0]
        for number, (task, block) in enumerate(zip(tasks, blocks, strict=True)):
            block.suptitle(task, fontsize=10, fontweight="bold")
            panels = block.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
            for panel, method in zip(panels.flat, shown, strict=False):
                _draw_curve(panel, curves[reference], number, REFERENCE_COLOR, linestyle="--")
                if method != reference:
                    _draw_curve(panel, curves[method], number, METHOD_COLOR)
                panel.set_title(curves[method].name, pad=3, fontsize=9)
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
                panel.tick_params(length=2, labelbottom=True)
            for panel in panels.flat[len(shown) :]:
                panel.set_axis_off()
            block.supxlabel("epoch (0: joint training)", fontsize=8)
            block.supylabel("test accuracy, %", fontsize=8)
        lines = {line.get_linestyle(): line for line in panels[0, 0].get_lines()}
        names = {"--": curves[reference].name, "-": "method of the panel"}
        figure.legend(
            [lines[style] for style in names if style in lines],
            [name for style, name in names.items() if style in lines],
            title="mean ± standard deviation over seeds",
            loc="outside upper center",
            ncols=2,
            frameon=False,
        )
        save_figure(path, figure)


def _draw_curve(panel, curve: Curve, task: int, color: str, linestyle: str = "-") -> None:
    mean, deviation = summarize_seeds(100 * curve.accuracy[:, :, task])
    panel.fill_between(curve.epochs, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
    panel.plot(curve.epochs, mean, color=color, linewidth=1.3, linestyle=linestyle)
