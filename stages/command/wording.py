"""Numbers as people read them: percent, spread, the best in bold, tables in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from stages.core.comparison import AGGREGATES, INTERVAL_PERCENT

DASH = "–"
_INTRODUCTION = """\
# Methods compared: {experiment}

**Quote the first table.** Alternating training makes the task that was not trained last look worse at the last
epoch, so the epoch that did best on validation counts, or the mean of the last epochs. The test split chose nothing.

* accuracy and macro-F1: test split, in percent, {spread}; the best of a column is bold
* to {reference}: difference in accuracy, in points, taken seed by seed{interval}
{shares}* s per epoch: seconds that the jobs of an epoch after joint training took, added up
"""
_TITLES = {
    "validation": "Epoch chosen by validation",
    "mean_of_last": "Mean of the last {n} epochs",
    "last": "Last epoch",
}


def format_percent(mean: float, deviation: float = math.nan) -> str:
    """A share as `81.25 ± 0.40` in percent, without the spread where it is NaN."""
    return f"{100 * mean:.2f}" + ("" if math.isnan(deviation) else f" ± {100 * deviation:.2f}")


def format_difference(mean: float, low: float, high: float) -> str:
    """A difference of shares as `+1.20 [+0.40, +2.10]` in points, without the interval where it is NaN."""
    # Adding 0.0 turns the -0.0 of a small negative number into 0.0.
    mean, low, high = (f"{round(100 * value, 2) + 0.0:+.2f}" for value in (mean, low, high))
    return mean if low == "+nan" else f"{mean} [{low}, {high}]"


def format_seconds(seconds: float) -> str:
    """Seconds to a tenth; a dash where they are NaN."""
    return DASH if math.isnan(seconds) else f"{seconds:.1f}"


def describe_share(samples: Mapping[str, Mapping[str, int]]) -> str:
    """How much of the images was trained on: `trained on 72 % of expw (80 % with the images kept for validation)`.

    Args:
        samples: images of every split, by dataset.
    """
    parts = []
    for dataset, counts in samples.items():
        percent = 100 / sum(counts.values())
        train, both = percent * counts["train"], percent * (counts["train"] + counts["validation"])
        parts.append(f"{train:.0f} % of {dataset} ({both:.0f} % with the images kept for validation)")
    return f"trained on {' and '.join(parts)}"


def embolden_best(cells: Sequence[str], values: Sequence[float]) -> list[str]:
    """`cells` with those of the largest value in bold; values that print alike are alike, NaN is never best."""
    shown = np.round(100 * np.asarray(values, dtype=np.float64), 2)
    best = np.fmax.reduce(shown)
    return [f"**{cell}**" if value == best else cell for cell, value in zip(cells, shown, strict=True)]


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column flush left and the others flush right, padded to be read as it is."""
    head, *body = ([cell.replace("|", r"\|") for cell in row] for row in (header, *rows))
    aligned = {"colglobalalign": "right", "colalign": ["left"]}
    return tabulate(body, head, tablefmt="pipe", disable_numparse=True, **aligned) + "\n"


def name_trained(evaluation: Mapping[str, Any]) -> str:
    """What the epoch of an evaluation was trained on: its dataset, or how all of them were joined."""
    return evaluation["trained_dataset"] or ("mixed" if evaluation["epoch"] else "all, jointly")


def describe_comparison(
    summary: Sequence[Mapping[str, Any]],
    experiment: str,
    reference: str,
    seeds: Sequence[int],
    last_epochs: int,
    samples: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> str:
    """The Markdown report of a comparison: one table per aggregate, methods as rows.

    Args:
        summary: rows of `summarize_runs`, with `paper_name` and `seconds_per_epoch`.
        experiment: its name.
        reference: the method that differences are taken to.
        seeds: the seeds of every method.
        last_epochs: how many epochs `mean_of_last` averages.
        samples: images by task, dataset and split.
    """
    names = {row["method"]: row["paper_name"] for row in summary}
    listed = ", ".join(map(str, seeds))
    spread = f"mean ± standard deviation over {len(seeds)} seeds ({listed})"
    interval = f", with Student's {INTERVAL_PERCENT} % interval"
    if len(seeds) == 1:
        spread, interval = f"one seed ({listed}), so nothing is known about the spread", ""
    shares = "".join(f"* {task}: {describe_share(of_task)}\n" for task, of_task in samples.items())
    parts = [
        _INTRODUCTION.format(
            experiment=experiment, spread=spread, reference=names[reference], interval=interval, shares=shares
        )
    ]
    for aggregate in AGGREGATES:
        rows = [row for row in summary if row["split"] == "test" and row["epoch"] == aggregate]
        overall = [row for row in rows if row["dataset"] is None]
        parts.append(f"## {_TITLES[aggregate].format(n=last_epochs)}\n\n{_tabulate_methods(overall, reference, names)}")
        # Where several datasets know a task, each by itself.
        if single := [row | {"task": f"{row['task']} of {row['dataset']}"} for row in rows if row["dataset"]]:
            parts.append(_tabulate_methods(single, reference, names))
    return "\n".join(parts)


def _tabulate_methods(rows: Sequence[Mapping[str, Any]], reference: str, names: Mapping[str, str]) -> str:
    """One table: the tasks head groups of columns, whose own names stand in the first row below."""
    header, subheader, columns = ["Method"], [""], []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        header += [task, "", ""]
        subheader += ["accuracy", f"to {names[reference]}", "macro-F1"]
        scores = {
            score: embolden_best(
                [format_percent(row[score], row[f"{score}_std"]) for row in of_task], [row[score] for row in of_task]
            )
            for score in ("accuracy", "macro_f1")
        }
        differences = [
            DASH
            if row["method"] == reference
            else format_difference(row["difference"], row["difference_low"], row["difference_high"])
            for row in of_task
        ]
        columns += [scores["accuracy"], differences, scores["macro_f1"]]
    columns.append([format_seconds(row["seconds_per_epoch"]) for row in of_task])
    body = zip((names[row["method"]] for row in of_task), *columns, strict=True)
    return format_table([*header, "s per epoch"], [[*subheader, ""], *body])
