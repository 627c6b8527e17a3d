"""What an experiment is made of: how its classes are balanced, and where time and disk went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.report.style import (
    COLORS,
    HATCHES,
    HEIGHT,
    WIDTH,
    add_legend,
    make_figure,
    make_panels,
    save_figure,
    shorten,
    shorten_all,
    use_style,
)

MAX_CLASSES = 25


def draw_balance(
    path: str | Path,
    counts: Mapping[tuple[str, str], np.ndarray],
    classes: Mapping[str, Sequence[str]],
    splits: Sequence[str],
) -> None:
    """Draw how many samples every dataset has of every class of its tasks, splits stacked.

    Args:
        path: the file to write.
        counts: by dataset and task, shape (C, splits).
        classes: C names by task.
        splits: their names.
    """
    largest = min(MAX_CLASSES, max((len(rows) for rows in counts.values()), default=1))
    with use_style():
        n_columns = 3 if len(counts) > 2 else 2
        figure, panels = make_panels(len(counts), columns=n_columns, height=min(HEIGHT - 0.6, 1.3 + 0.24 * largest))
        for panel, ((dataset, task), rows) in zip(panels, counts.items(), strict=True):
            shown = np.sort(np.argsort(-rows.sum(axis=1), kind="stable")[:MAX_CLASSES])
            left = np.zeros(len(shown))
            bars = []
            for number in range(len(splits)):
                values = rows[shown, number]
                bars.append(
                    panel.barh(range(len(shown)), values, 0.8, left=left, color=COLORS[number], hatch=HATCHES[number],
                               edgecolor="white", linewidth=0.4)
                )  # fmt: skip
                left += values
            panel.bar_label(bars[-1], [f"{n:,.0f}" for n in left], padding=3, fontsize=8)
            panel.margins(x=0.12)
            panel.set_yticks(range(len(shown)), shorten_all([classes[task][k] for k in shown]))
            panel.invert_yaxis()
            panel.grid(visible=False, axis="y")
            panel.set_xlabel("samples")
            more = len(rows) - len(shown)
            title = f"{shorten(task)} of {shorten(dataset)}, n = {rows.sum():,}"
            panel.set_title(title + (f", {more} rarer classes left out" if more else ""), fontweight="bold")
        add_legend(figure, bars, splits)
        save_figure(path, figure)


def draw_times(path: str | Path, seconds: Mapping[str, tuple[float, int]], sizes: Mapping[str, int]) -> None:
    """Draw the seconds of the jobs and the megabytes of the files of every stage, the longest first.

    Args:
        path: the file to write.
        seconds: by stage, and how many jobs there were.
        sizes: bytes by stage.
    """
    stages = sorted({*seconds, *sizes}, key=lambda name: (-seconds.get(name, (0, 0))[0], -sizes.get(name, 0), name))
    with use_style():
        figure = make_figure(min(HEIGHT, 1.2 + 0.27 * max(3, len(stages))), WIDTH)
        time, disk = figure.subplots(1, 2, sharey=True)
        times = [seconds.get(name, (0.0, 0)) for name in stages]
        bars = time.barh(stages, [one for one, _ in times], color=COLORS[0])
        time.bar_label(bars, [f"{one:.1f} s, {n} jobs" if n else "" for one, n in times], padding=3, fontsize=8)
        megabytes = [sizes.get(name, 0) / 1e6 for name in stages]
        bars = disk.barh(stages, megabytes, color=COLORS[1], hatch="////", edgecolor="white", linewidth=0.3)
        disk.bar_label(bars, [f"{one:.1f} MB" if one else "" for one in megabytes], padding=3, fontsize=8)
        for panel, label in ((time, "seconds of the jobs, added up"), (disk, "MB on the disk")):
            panel.margins(x=0.2)
            panel.set_xlabel(label)
            panel.grid(visible=False, axis="y")
        time.set_title(f"time: {sum(one for one, _ in times):,.0f} s", fontweight="bold")
        disk.set_title(f"disk: {sum(megabytes):,.1f} MB", fontweight="bold")
        time.invert_yaxis()
        save_figure(path, figure)
