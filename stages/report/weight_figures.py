"""What the weights of samples look like, and how their pseudo labels move."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.core.weight_columns import WEIGHT_COLUMNS
from stages.report.drawing import choose_epochs
from stages.report.style import (
    COLORS,
    DARK,
    HATCHES,
    LIGHT,
    add_legend,
    make_figure,
    make_panels,
    mark_epochs,
    save_figure,
    shorten_all,
    use_style,
    write_cells,
)

N_BINS = 1000
"""Of the histograms that are counted, over 0 to 1."""
N_DRAWN = 40
"""Of those that are drawn, over the values that there are."""
WIDE = 0.5
"""Weights that differ by more than this are drawn from 0 to 1."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_CLASSES = 12
"""Classes by which boxes are drawn, and of which cells have numbers."""
MAX_STACKED = 7
"""Classes with a colour of their own."""
UNUSED = "not used by this method"


def draw_distributions(
    path: str | Path,
    histograms: Mapping[str, Sequence[np.ndarray]],
    quantiles: Mapping[str, Sequence[np.ndarray]],
    epochs: Sequence[int],
    n_samples: int,
) -> None:
    """Draw the distribution of every weight in some epochs as a shape, and its quartiles as lines through it.

    Args:
        path: the file to write.
        histograms: by weight, counts of shape (N_BINS,) for each of E epochs, over 0 to 1.
        quantiles: by weight, `QUANTILES` for each epoch; NaN where it is not used.
        epochs: E numbers.
        n_samples: in an epoch.
    """
    shown = choose_epochs(epochs)
    with use_style():
        figure, panels = make_panels(len(WEIGHT_COLUMNS), columns=2, height=2.9)
        for panel, (name, title) in zip(panels, WEIGHT_COLUMNS.items(), strict=True):
            panel.set_title(f"{title}, n = {n_samples:,}", fontweight="bold")
            edges, counts = rebin(np.stack(histograms[name]))
            for place, epoch in enumerate(shown):
                levels = quantiles[name][epochs.index(epoch)]
                if not np.isfinite(levels).all():
                    continue
                row = counts[epochs.index(epoch)]
                half = 0.42 * row / row.max()
                panel.fill_betweenx(edges, _step(place - half), _step(place + half), step="post",
                                    color="#8fbbd9", edgecolor=COLORS[0], linewidth=0.6)  # fmt: skip
                panel.plot([place] * 2, [levels[1], levels[3]], color=DARK, linewidth=3, solid_capstyle="butt")
                panel.plot(place, levels[2], "o", color="white", markeredgecolor=DARK, markersize=5)
            _frame(panel, np.array(edges[[0, -1]]) if np.isfinite(quantiles[name]).any() else None)
            panel.set_xticks(range(len(shown)), shown)
            panel.set_xlim(-0.6, len(shown) - 0.4)
            panel.set_xlabel("epoch")
        save_figure(path, figure)


def rebin(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of about `N_DRAWN` bins over what there is in fine ones, and counts in them.

    Args:
        counts: shape (E, N_BINS), over 0 to 1.

    Returns:
        Edges of shape (B + 1,), counts of shape (E, B).
    """
    filled = np.flatnonzero(counts.any(axis=0))
    low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, N_BINS)
    if high - low > WIDE * N_BINS:
        low, high = 0, N_BINS
    step = -(-(high - low) // N_DRAWN)
    starts = np.arange(low, high, step)
    edges = np.append(starts, min(N_BINS, starts[-1] + step)) / N_BINS
    return edges, np.add.reduceat(counts[:, :high], starts, axis=1)


def _step(values: np.ndarray) -> np.ndarray:
    return np.append(values, values[-1])


def _frame(panel, limits: np.ndarray | None) -> None:
    """The axis of a weight: from 0 to 1, or nearer where all values are alike."""
    if limits is None:
        panel.text(0.5, 0.5, UNUSED, transform=panel.transAxes, ha="center")
        limits = np.array([0, 1])
    # A constant is one only beside what it might be.
    whole = not 1.5 / N_BINS < limits[1] - limits[0] <= WIDE
    low, high = (0, 1) if whole else limits
    panel.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    panel.set_ylabel("weight" if whole else "weight (not from 0)")


def draw_classes(
    path: str | Path,
    by_class: Mapping[int, Mapping[str, np.ndarray]],
    counts: Mapping[int, np.ndarray],
    classes: Sequence[str],
) -> None:
    """Draw every weight by pseudo label in the first and the last epoch, as boxes from `QUANTILES`.

    Args:
        path: the file to write.
        by_class: by epoch and weight, shape (C, 5).
        counts: samples by epoch, shape (C,).
        classes: C names.
    """
    epochs = sorted(by_class)
    last = counts[epochs[-1]]
    shown = np.sort(np.argsort(-last, kind="stable")[:MAX_CLASSES])
    names = shorten_all([classes[k] for k in shown], 12)
    labels = [
        f"{name}\nn={' → '.join(f'{counts[epoch][k]:,}' for epoch in epochs)}"
        for name, k in zip(names, shown, strict=True)
    ]
    looks = {epochs[0]: LIGHT, epochs[-1]: COLORS[0]}
    with use_style():
        figure, panels = make_panels(len(WEIGHT_COLUMNS), columns=2, height=3.1, sharex=True)
        for panel, (name, title) in zip(panels, WEIGHT_COLUMNS.items(), strict=True):
            for number, (epoch, color) in enumerate(looks.items()):
                stats = [
                    dict(zip(("whislo", "q1", "med", "q3", "whishi"), by_class[epoch][name][k], strict=True))
                    for k in shown
                ]
                places = [place for place, one in enumerate(stats) if np.isfinite(one["med"])]
                offset = 0 if len(looks) == 1 else 0.38 * number - 0.19
                if places:
                    panel.bxp(
                        [stats[place] for place in places],
                        [place + offset for place in places],
                        widths=0.34,
                        showfliers=False,
                        patch_artist=True,
                        boxprops={"facecolor": color, "linewidth": 0.7},
                        medianprops={"color": DARK, "linewidth": 1.6},
                        whiskerprops={"linewidth": 0.7},
                        capprops={"linewidth": 0.7},
                    )
            whiskers = np.array([by_class[epoch][name][shown][:, [0, -1]] for epoch in looks])
            known = np.isfinite(whiskers).any()
            _frame(panel, np.array([np.nanmin(whiskers), np.nanmax(whiskers)]) if known else None)
            panel.set_title(title, fontweight="bold")
            panel.set_xlim(-0.6, len(shown) - 0.4)
            crowded = len(shown) > 6
            panel.set_xticks(range(len(shown)), labels, fontsize=8, rotation=90 if crowded else 0)
        from matplotlib.patches import Patch

        handles = [Patch(facecolor=color, edgecolor=DARK, linewidth=0.7) for color in looks.values()]
        add_legend(figure, handles, [f"epoch {epoch}" for epoch in looks], title=_describe_shown(shown, classes))
        save_figure(path, figure)


def _describe_shown(shown: Sequence[int], classes: Sequence[str]) -> str:
    if len(shown) == len(classes):
        return "by pseudo label: box from quarter to three quarters, whiskers 5 % to 95 %"
    return f"the {len(shown)} most frequent of {len(classes)} pseudo labels: quartiles, whiskers 5 % to 95 %"


def draw_flips(
    path: str | Path,
    counts: np.ndarray,
    flips: Sequence[float],
    moves: np.ndarray,
    epochs: Sequence[int],
    classes: Sequence[str],
) -> None:
    """Draw the mix of pseudo labels by epoch, how many flipped since the epoch before, and from where to where.

    Args:
        path: the file to write.
        counts: samples by epoch and class, shape (E, C).
        flips: share that flipped since the epoch before, shape (E,), the first NaN.
        moves: samples by class in the first and in the last epoch, shape (C, C).
        epochs: E numbers.
        classes: C names.
    """
    n_samples = counts[-1].sum()
    by_size = np.argsort(-counts.sum(axis=0), kind="stable")
    own = np.sort(by_size[:MAX_STACKED])
    rest = np.sort(by_size[MAX_STACKED:])
    names = [*shorten_all([classes[k] for k in own]), *([f"{len(rest)} other classes"] if len(rest) else [])]
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    parts = [*shares[:, own].T, *([shares[:, rest].sum(axis=1)] if len(rest) else [])]
    with use_style():
        figure = make_figure(4.9)
        mix, line, cells = figure.subplots(1, 3, width_ratios=[1.25, 0.9, 1.3])
        places = np.arange(len(epochs))
        bottom = np.zeros(len(epochs))
        for number, (name, part) in enumerate(zip(names, parts, strict=True)):
            color = "#bdbdbd" if number == MAX_STACKED else COLORS[number]
            mix.bar(places, part, 0.85, bottom=bottom, color=color, hatch=HATCHES[number], edgecolor="white",
                    linewidth=0.4, label=name)  # fmt: skip
            bottom += part
        mix.set_xticks(*_thin(places, epochs))
        mix.set_ylim(0, 100)
        mix.set_xlabel("epoch")
        mix.set_ylabel(f"share of {n_samples:,} pseudo labels, %")
        handles, labels = mix.get_legend_handles_labels()
        mix.legend(handles[::-1], labels[::-1], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
        line.plot(epochs, 100 * np.array(flips), color=COLORS[0], marker="o")
        line.set_ylim(bottom=0)
        mark_epochs(line, epochs)
        line.set_ylabel("flipped since the epoch before, %")
        line.set_title("flips", fontweight="bold")
        _draw_moves(cells, moves, classes, epochs)
        save_figure(path, figure)


def _draw_moves(panel, moves: np.ndarray, classes: Sequence[str], epochs: Sequence[int]) -> None:
    n_before = moves.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(moves, n_before, out=np.zeros(moves.shape), where=n_before > 0)
    small = len(classes) <= MAX_CLASSES
    texts = [[f"{n:,}" if small and n else "" for n in row] for row in moves]
    write_cells(panel, shares, texts, limits=(0, 100), fontsize=8 if len(classes) <= 8 else 6)
    names = shorten_all(classes, 14)
    size = 8 if small else max(4, 8 - len(names) / 14)
    panel.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    panel.set_yticks(range(len(names)), names, fontsize=size)
    panel.set_ylabel(f"pseudo label in epoch {epochs[0]}")
    panel.set_xlabel(f"pseudo label in epoch {epochs[-1]}")
    panel.set_title(f"samples, epoch {epochs[0]} to {epochs[-1]}, shaded by row", fontweight="bold")


def _thin(places: np.ndarray, epochs: Sequence[int]) -> tuple[list[int], list[int]]:
    shown = choose_epochs(epochs)
    return [int(places[epochs.index(epoch)]) for epoch in shown], shown
