"""Whether weights tell the truth: accuracy of pseudo labels along each of them, where labels were held back."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.core.audit import DENSE, SPARSE
from stages.core.weight_columns import WEIGHT_COLUMNS
from stages.report.drawing import choose_epochs
from stages.report.style import (
    COLORS,
    DARK,
    GREY,
    MARKERS,
    SEQUENTIAL,
    add_legend,
    make_figure,
    mark_epochs,
    save_figure,
    use_style,
)

PARTS = {5: "fifth", 10: "decile"}
FEWEST = 10
"""Samples of a bin below which its accuracy is chance and not drawn."""
PAPER_DENSE, PAPER_SPARSE = 96, 3
"""Of 100 images each that the authors labelled by hand (section L)."""


def draw_ranks(
    path: str | Path, ranks: Mapping[int, Mapping[str, np.ndarray]], epochs: Sequence[int], n_samples: int
) -> None:
    """Draw accuracy of the pseudo labels by fifth and by decile of every weight, a line for each of some epochs.

    Args:
        path: the file to write.
        ranks: by number of parts P and weight, shares of shape (E, P); NaN where a weight ranks nothing.
        epochs: E numbers.
        n_samples: with a label held back, in the last epoch.
    """
    import matplotlib as mpl

    shown = choose_epochs(epochs, 6)
    with use_style():
        colors = mpl.colormaps[SEQUENTIAL](np.linspace(0.92, 0, max(2, len(shown))))[-len(shown) :]
        figure = make_figure(6.2)
        panels = figure.subplots(len(ranks), len(WEIGHT_COLUMNS), sharey=True, sharex="row", squeeze=False)
        for row, (n_parts, by_weight) in zip(panels, ranks.items(), strict=True):
            for panel, (name, title) in zip(row, WEIGHT_COLUMNS.items(), strict=True):
                lines = [
                    panel.plot(
                        range(1, n_parts + 1),
                        100 * by_weight[name][epochs.index(epoch)],
                        color=color,
                        marker=MARKERS[number % len(MARKERS)],
                        markersize=4,
                        linewidth=2.2 if epoch == epochs[-1] else 1.1,
                    )[0]
                    for number, (epoch, color) in enumerate(zip(shown, colors, strict=True))
                ]
                if not np.isfinite(by_weight[name]).any():
                    panel.text(0.5, 0.5, "ranks nothing here", transform=panel.transAxes, ha="center")
                panel.set_title(title, fontweight="bold")
                panel.set_xticks(range(1, n_parts + 1))
                panel.set_xlabel(f"{PARTS[n_parts]}, lowest to highest")
            row[0].set_ylabel("right pseudo labels, %")
            row[0].set_ylim(0, 103)
        names = [f"epoch {epoch}" for epoch in shown]
        add_legend(figure, lines, names, ncols=6, title=f"{n_samples:,} samples whose label was held back")
        save_figure(path, figure)


def draw_truth_over_epochs(
    path: str | Path,
    accuracy: Sequence[float],
    fifths: np.ndarray,
    contrast: Mapping[str, Sequence[tuple[float, int]]],
    epochs: Sequence[int],
    n_samples: int,
) -> None:
    """Draw the accuracy of all pseudo labels, of extreme fifths of w, and of dense and sparse samples by epoch.

    Args:
        path: the file to write.
        accuracy: of all, shape (E,).
        fifths: shares by fifth of w, shape (E, 5).
        contrast: accuracy and number of the `dense` and `sparse` samples of each epoch.
        epochs: E numbers.
        n_samples: with a label held back, in the last epoch.
    """
    with use_style():
        figure = make_figure(3.9)
        ranked, dense = figure.subplots(1, 2, sharey=True)
        ranked.plot(epochs, 100 * fifths[:, -1], color=COLORS[2], marker="^", label="highest fifth of w")
        ranked.plot(epochs, 100 * np.array(accuracy), color=DARK, marker="o", label="all")
        ranked.plot(epochs, 100 * fifths[:, 0], color=COLORS[5], marker="v", label="lowest fifth of w")
        ranked.set_title(f"by selection weight w, n = {n_samples:,}", fontweight="bold")
        ranked.set_ylabel("right pseudo labels, %")
        looks = {
            "dense": (f"wᵈ > {DENSE}", COLORS[2], "^", PAPER_DENSE),
            "sparse": (f"wᵈ < {SPARSE}", COLORS[5], "v", PAPER_SPARSE),
        }
        for name, (title, color, marker, paper) in looks.items():
            values = np.array(contrast[name])
            label = f"{title}, n = {_range(values[:, 1])}"
            dense.plot(epochs, 100 * values[:, 0], color=color, marker=marker, label=label)
            dense.axhline(paper, color=color, linewidth=1, linestyle=":", label=f"{title} in the paper: {paper} %")
        dense.set_title("by local density wᵈ (section L)", fontweight="bold")
        for panel in (ranked, dense):
            mark_epochs(panel, epochs)
            panel.set_ylim(0, 103)
            panel.tick_params(labelleft=True)
            panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=3 if panel is ranked else 2, fontsize=8)
        save_figure(path, figure)


def _range(counts: np.ndarray) -> str:
    low, high = f"{int(counts.min()):,}", f"{int(counts.max()):,}"
    return low if low == high else f"{low} to {high}"


def draw_reliability(path: str | Path, reliability: Mapping[int, Mapping], n_samples: int) -> None:
    """Draw how often pseudo labels are right against how confident they are, and how many are that confident.

    Args:
        path: the file to write.
        reliability: by epoch, the first and the last, what `measure_reliability` gives.
        n_samples: with a label held back, in the last epoch.
    """
    with use_style():
        figure = make_figure(5.2, 7.5)
        panel, counts = figure.subplots(2, 1, height_ratios=[2.6, 1], sharex=True)
        panel.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="as confident as right")
        looks = zip(sorted(reliability), (COLORS[1], COLORS[0]), ("s", "o"), ("////", ""), strict=False)
        for number, (epoch, color, marker, hatch) in enumerate(looks):
            found = reliability[epoch]
            n_bins = len(found["n_samples"])
            error = f"epoch {epoch}: {100 * found['error']:.1f} points off on average"
            drawn = found["n_samples"] >= FEWEST
            points = 100 * found["confidence"][drawn], 100 * found["accuracy"][drawn]
            panel.plot(*points, color=color, marker=marker, label=error)
            width = 100 / n_bins / len(reliability) * 0.85
            starts = (np.arange(n_bins) + 0.075) * 100 / n_bins + number * width
            counts.bar(starts, found["n_samples"], width, align="edge", color=color, hatch=hatch)
        panel.set_ylabel("right pseudo labels, %")
        panel.set_ylim(0, 103)
        panel.set_xlim(0, 100)
        panel.legend(loc="upper left")
        counts.set_xlabel("confidence wᶜ, %")
        counts.set_ylabel(f"samples of {n_samples:,}")
        save_figure(path, figure)
