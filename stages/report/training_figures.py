"""How a run trained: scores, losses, confusions and the cross-stitch unit, epoch by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.report.style import (
    COLORS,
    DARK,
    GREY,
    MARKERS,
    WIDTH,
    add_legend,
    make_figure,
    make_panels,
    mark_epochs,
    save_figure,
    shorten,
    shorten_all,
    use_style,
    write_cells,
)

MAX_NUMBERED = 12
"""Classes up to which a matrix has numbers in its cells."""
TITLES = {"accuracy": "accuracy, %", "macro_f1": "macro-F1, %"}
PARTS = {
    "own": ("cross-entropy with own labels", COLORS[0], ""),
    "entropy": ("distilled labels: their entropy", "#bdbdbd", "////"),
    "divergence": ("distilled labels: divergence from them", COLORS[1], ""),
}


def draw_scores(
    path: str | Path,
    scores: Mapping[str, np.ndarray],
    epochs: Sequence[int],
    trained: Sequence[str],
    chosen: int,
    n_samples: Mapping[str, int],
) -> None:
    """Draw accuracy and macro-F1 of every task against epoch; a marker says what the epoch was trained on.

    Args:
        path: the file to write.
        scores: by task, shares of shape (E, 2, 2) along validation and test, then accuracy and macro-F1.
        epochs: E numbers.
        trained: what each was trained on.
        chosen: the epoch whose network is the final one.
        n_samples: test images by task.
    """
    from matplotlib.lines import Line2D

    datasets = sorted(set(trained), key=trained.index)
    looks = {name: (COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)]) for k, name in enumerate(datasets)}
    with use_style():
        n_tasks = len(scores)
        figure, panels = make_panels(2 * n_tasks, columns=n_tasks if n_tasks <= 4 else 4, sharex=True)
        # Tasks stand beside each other, the two scores below each other, as long as a row holds all tasks.
        order = [(task, score) for score in TITLES for task in scores]
        for panel, (task, score) in zip(panels, order, strict=True):
            values = 100 * scores[task][:, :, list(TITLES).index(score)]
            panel.axvline(chosen, color=GREY, linewidth=1, linestyle=":")
            panel.plot(epochs, values[:, 0], color=GREY, linewidth=1, linestyle="--")
            panel.plot(epochs, values[:, 1], color=DARK, linewidth=1.2)
            for epoch, value, name in zip(epochs, values[:, 1], trained, strict=True):
                color, marker = looks[name]
                panel.plot(epoch, value, marker=marker, color=color, markeredgecolor=DARK, markeredgewidth=0.6)
            panel.set_title(f"{shorten(task, 30)}, {n_samples[task]} test images", fontweight="bold")
            panel.set_ylabel(TITLES[score])
            mark_epochs(panel, epochs)
            panel.tick_params(labelbottom=True)
        handles = [
            Line2D([], [], color=DARK, linewidth=1.2),
            Line2D([], [], color=GREY, linewidth=1, linestyle="--"),
            Line2D([], [], color=GREY, linewidth=1, linestyle=":"),
            *(
                Line2D([], [], linestyle="", marker=marker, color=color, markeredgecolor=DARK)
                for color, marker in looks.values()
            ),
        ]
        names = ["test", "validation", f"chosen: epoch {chosen}", *(f"trained on {shorten(name)}" for name in looks)]
        add_legend(figure, handles, names)
        save_figure(path, figure)


def draw_losses(
    path: str | Path, losses: Mapping[str, np.ndarray], epochs: Sequence[int], trained: Sequence[str]
) -> None:
    """Draw what the loss of every task consisted of, a bar for each epoch that trained it.

    Args:
        path: the file to write.
        losses: by task, nats of shape (E, 3) along `PARTS`; NaN where an epoch has no such part.
        epochs: E numbers.
        trained: what each was trained on.
    """
    with use_style():
        figure, panels = make_panels(len(losses), columns=3, height=3.4, sharey=True)
        for panel, (task, parts) in zip(panels, losses.items(), strict=True):
            bottom = np.zeros(len(epochs))
            bars = []
            for (_, color, hatch), values in zip(PARTS.values(), np.nan_to_num(parts).T, strict=True):
                bars.append(
                    panel.bar(epochs, values, 0.8, bottom=bottom, color=color, hatch=hatch, edgecolor="white", lw=0.3)
                )
                bottom += values
            panel.set_title(shorten(task, 30), fontweight="bold")
            panel.set_ylabel("loss, nats a sample")
            panel.tick_params(labelleft=True)
            mark_epochs(panel, epochs)
            if len(epochs) <= 16:
                names = [f"{epoch}  {shorten(name, 12)}" for epoch, name in zip(epochs, trained, strict=True)]
                panel.set_xticks(epochs, names)
                panel.tick_params(axis="x", labelrotation=90, length=0)
                panel.set_xlabel("epoch, and what it was trained on")
        add_legend(figure, bars, [title for title, *_ in PARTS.values()], ncols=3)
        save_figure(path, figure)


def draw_confusion(
    path: str | Path, confusions: Mapping[str, np.ndarray], classes: Mapping[str, Sequence[str]], epoch: int
) -> None:
    """Draw the confusion matrix of every task: shares of the true class, with counts where there is room.

    Args:
        path: the file to write.
        confusions: by task, counts of shape (C, C), rows are true classes.
        classes: C names by task.
        epoch: whose network was tested.
    """
    with use_style():
        largest = max(map(len, classes.values()))
        n_columns = 3 if largest <= 6 else 2
        figure, panels = make_panels(len(confusions), columns=n_columns, height=3.6 if largest <= 6 else 4.6)
        for panel, (task, confusion) in zip(panels, confusions.items(), strict=True):
            n_true = confusion.sum(axis=1, keepdims=True)
            shares = 100 * np.divide(confusion, n_true, out=np.zeros(confusion.shape), where=n_true > 0)
            small = len(confusion) <= MAX_NUMBERED
            texts = [
                [f"{share:.0f} %\n{n}" if small and n else "" for share, n in zip(*row, strict=True)]
                for row in zip(shares, confusion, strict=True)
            ]
            image = write_cells(panel, shares, texts, limits=(0, 100), fontsize=7)
            names = shorten_all(classes[task], 14)
            size = 8 if small else max(4, 8 - len(names) / 14)
            panel.set_xticks(range(len(names)), names, rotation=90 if largest > 6 else 30, fontsize=size)
            panel.set_yticks(range(len(names)), names, fontsize=size)
            panel.set_title(f"{shorten(task, 30)}, {confusion.sum()} test images", fontweight="bold")
            panel.set_xlabel("predicted")
            panel.set_ylabel("true")
        figure.colorbar(image, ax=list(panels), label=f"% of the true class, epoch {epoch}", shrink=0.8)
        save_figure(path, figure)


def draw_cross_stitch(path: str | Path, matrices: np.ndarray, epochs: Sequence[int], tasks: Sequence[str]) -> None:
    """Draw the cross-stitch matrix A: how much of every head enters the features of every task, epoch by epoch.

    Args:
        path: the file to write.
        matrices: shape (E, K, K), [e, k, j] is the share of head j in the features of task k.
        epochs: E numbers.
        tasks: K names.
    """
    with use_style():
        figure = make_figure(max(3.6, 1.2 + 0.55 * len(tasks)), WIDTH)
        line_panel, cell_panel = figure.subplots(1, 2, width_ratios=[1.6, 1])
        names = shorten_all(tasks)
        for k in range(len(tasks)):
            for j in range(len(tasks)):
                own = k == j
                line_panel.plot(
                    epochs,
                    matrices[:, k, j],
                    color=COLORS[k % len(COLORS)],
                    linestyle="-" if own else "--",
                    marker=MARKERS[j % len(MARKERS)],
                    markersize=4,
                    label=f"{names[k]} from {'its own head' if own else names[j]}",
                )
        mark_epochs(line_panel, epochs)
        line_panel.set_ylabel("coefficient")
        if len(tasks) <= 4:
            line_panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(0, 0.5))
        last = matrices[-1]
        write_cells(cell_panel, last, [[f"{value:.3f}" for value in row] for row in last])
        cell_panel.set_xticks(range(len(tasks)), names, rotation=30)
        cell_panel.set_yticks(range(len(tasks)), names)
        cell_panel.set_xlabel("head")
        cell_panel.set_ylabel("features of")
        cell_panel.set_title(f"epoch {epochs[-1]}", fontweight="bold")
        save_figure(path, figure)
