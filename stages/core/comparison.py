"""Methods against each other: what a run scored, its spread over seeds, its distance to a reference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.core.errors import UserError
from stages.core.suggestions import list_names

SPLITS = ("validation", "test")
AGGREGATES = ("validation", "mean_of_last", "last")
SCORES = ("accuracy", "macro_f1")
MEAN_OVER_TASKS = "mean over tasks"
"""Stands in the place of a task; no task can be called so, their names have no spaces."""
INTERVAL_PERCENT = 95


@dataclass(frozen=True)
class Run:
    """What one method scored with one seed.

    Attributes:
        method: row of workflow/methods.yaml.
        seed: the run's seed.
        epochs: increasing, shape (E,).
        tasks: names of the K tasks.
        scores: shape (E, K, 2, 2), along `SPLITS` and then `SCORES`.
        by_dataset: of tasks that several datasets know, by task and dataset, shape (E, 2, 2).
    """

    method: str
    seed: int
    epochs: np.ndarray
    tasks: list[str]
    scores: np.ndarray
    by_dataset: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)


def arrange_scores(columns: Mapping[str, np.ndarray], axes: Mapping[str, Sequence]) -> np.ndarray:
    """Rows of a long table as an array with one axis per key column, and `SCORES` along the last.

    Args:
        columns: key columns and `SCORES` by name, shape (n,) each.
        axes: the labels along every axis by the name of its key column; rows with others are left out.

    Raises:
        ValueError: a place of the array has no row, or two; the message names it.
    """
    places = [{label: place for place, label in enumerate(labels)} for labels in axes.values()]
    array = np.full([*map(len, places), len(SCORES)], np.nan)
    scores = np.column_stack([columns[name] for name in SCORES])
    for labels, row in zip(zip(*(columns[name] for name in axes), strict=True), scores, strict=True):
        if not all(label in known for label, known in zip(labels, places, strict=True)):
            continue
        place = tuple(known[label] for label, known in zip(labels, places, strict=True))
        if not np.isnan(array[place]).all():
            raise UserError(f"two rows for {_name_place(axes, place)}")
        array[place] = row
    holes = np.argwhere(np.isnan(array).any(axis=-1))
    if len(holes):
        raise UserError(f"no row for {_name_place(axes, holes[0])}")
    return array


def arrange_run(method: str, seed: int, columns: Mapping[str, np.ndarray]) -> Run:
    """A run from the columns of its metrics table.

    Args:
        method: row of workflow/methods.yaml.
        seed: the run's seed.
        columns: of a `METRICS` table, shape (n,) each.

    Raises:
        ValueError: a task lacks an epoch or a split, or has one twice.
    """
    epochs, tasks = np.unique(columns["epoch"]), list(dict.fromkeys(columns["task"]))
    axes = {"epoch": epochs, "task": tasks, "split": SPLITS}
    groups = {
        dataset: {name: values[columns["dataset"] == dataset] for name, values in columns.items()}
        for dataset in dict.fromkeys(columns["dataset"])
    }
    splits = {(task, dataset): set() for task, dataset in zip(columns["task"], columns["dataset"], strict=True)}
    for task, dataset, split in zip(columns["task"], columns["dataset"], columns["split"], strict=True):
        splits[task, dataset].add(split)
    # Of a task that one dataset knows, or that it cannot choose or report by, there is nothing more to say.
    n_owners = Counter(task for task, dataset in splits if dataset is not None)
    parts = [part for part, found in splits.items() if part[1] and found == set(SPLITS) and n_owners[part[0]] > 1]
    try:
        scores = arrange_scores(groups.get(None, columns), axes)
        by_dataset = {
            (task, dataset): arrange_scores(groups[dataset], axes | {"task": [task]})[:, 0] for task, dataset in parts
        }
    except UserError as error:
        raise UserError(f"run {method}/{seed}: its metrics have {error}; run snakemake again") from None
    return Run(method, seed, epochs, tasks, scores, by_dataset)


def find_best_epoch(validation_accuracy: np.ndarray) -> int:
    """The epoch that is best on validation, on average over the tasks, as a row of a run's scores.

    The earliest of equals, joint training included. The test split has no say: it is not even here.

    Args:
        validation_accuracy: shape (E, K).
    """
    # Rounded, because averages of equal accuracies in another order differ in their last bit.
    return int(np.argmax(validation_accuracy.mean(axis=1).round(12)))


def choose_epochs(validation_accuracy: np.ndarray, last_epochs: int) -> dict[str, slice]:
    """The epochs that each of `AGGREGATES` averages, as rows of a run's scores; `validation` is `find_best_epoch`'s.

    Args:
        validation_accuracy: shape (E, K).
        last_epochs: how many epochs `mean_of_last` averages, where there are so many; the first
            row, joint training that all methods share, only where there is no other.
    """
    n_epochs = len(validation_accuracy)
    best = find_best_epoch(validation_accuracy)
    return {
        "validation": slice(best, best + 1),
        "mean_of_last": slice(max(min(1, n_epochs - 1), n_epochs - last_epochs), n_epochs),
        "last": slice(n_epochs - 1, n_epochs),
    }


def aggregate_run(run: Run, last_epochs: int) -> list[dict]:
    """Rows of a run, as in the contract `COMPARISON`, but for the seconds: per task, split and aggregate, over all
    datasets that know the task and, where these are several, of each.

    Args:
        run: with scores from 0 to 1.
        last_epochs: see `choose_epochs`.
    """
    validation_accuracy = run.scores[:, :, SPLITS.index("validation"), SCORES.index("accuracy")]
    parts = {(task, None): run.scores[:, place] for place, task in enumerate(run.tasks)} | run.by_dataset
    return [
        {
            "method": run.method,
            "task": task,
            "dataset": dataset,
            "seed": run.seed,
            "split": split,
            "epoch": aggregate,
            "first_epoch": run.epochs[chosen][0],
            "last_epoch": run.epochs[chosen][-1],
            **dict(zip(SCORES, means, strict=True)),
        }
        for aggregate, chosen in choose_epochs(validation_accuracy, last_epochs).items()
        for (task, dataset), scores in parts.items()
        for split, means in zip(SPLITS, scores[chosen].mean(axis=0), strict=True)
    ]


def summarize_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation over seeds, the first axis of `values`; NaN for one seed."""
    mean = values.mean(axis=0)
    return mean, values.std(axis=0, ddof=1) if len(values) > 1 else np.full_like(mean, np.nan)


def student_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval of the mean over seeds, 95 %: mean ± t · s / √n with t of n - 1 degrees of freedom.

    It holds where the values are about normal, with two seeds as with twenty; few seeds make it
    wide, which they should. Nothing keeps its ends within 0 and 1.

    Args:
        values: shape (n, ...), one value per seed.

    Returns:
        Lower and upper ends, shape (...); NaN for one seed, which shows no spread.
    """
    from scipy.stats import t  # Takes most of a second, and most that use this module need no interval.

    mean, deviation = summarize_seeds(values)
    half = t.ppf((100 + INTERVAL_PERCENT) / 200, len(values) - 1) * deviation / np.sqrt(len(values))
    return mean - half, mean + half


def summarize_runs(columns: Mapping[str, np.ndarray], reference: str) -> list[dict]:
    """Every method over its seeds, and its distance to the reference method.

    Differences are taken seed by seed, method minus reference, because runs of one seed share
    their initial network (but STL) and alternating ones the order of samples; their spread is
    often smaller than that of the accuracies.

    Args:
        columns: columns of a `COMPARISON` table.
        reference: the method that the others are compared to.

    Returns:
        One row per method, task (and `MEAN_OVER_TASKS`), dataset (None for all), split and aggregate
        (`epoch`): `n_seeds`, mean and standard deviation of `SCORES` with the interval of the mean, and
        `difference` in accuracy with its own.

    Raises:
        ValueError: the reference is not among the methods, or a run or a task of a run is missing.
    """
    methods, tasks = list(dict.fromkeys(columns["method"])), list(dict.fromkeys(columns["task"]))
    seeds = np.unique(columns["seed"])
    if reference not in methods:
        raise UserError(f"the reference '{reference}' is none of the methods compared: {list_names(methods)}")
    runs = set(zip(columns["method"], columns["seed"], strict=True))
    missing = [f"{method}/{seed}" for method in methods for seed in seeds if (method, seed) not in runs]
    if missing:
        raise UserError(f"no run {list_names(missing)}: all methods need the same seeds, {seeds.tolist()}")
    parts = list(dict.fromkeys(zip(columns["task"], columns["dataset"], strict=True)))
    parts.sort(key=lambda part: part[1] is not None)
    axes = {"seed": seeds, "method": methods, "part": parts, "split": SPLITS, "epoch": AGGREGATES}
    keyed = {**columns, "part": list(zip(columns["task"], columns["dataset"], strict=True))}
    scores = arrange_scores(keyed, axes)
    mean_over_tasks = scores[:, :, : len(tasks)].mean(axis=2, keepdims=True)
    scores = np.concatenate([scores[:, :, : len(tasks)], mean_over_tasks, scores[:, :, len(tasks) :]], axis=2)
    parts.insert(len(tasks), (MEAN_OVER_TASKS, None))
    accuracy = scores[..., SCORES.index("accuracy")]
    differences = accuracy - accuracy[:, [methods.index(reference)]]
    difference, (difference_low, difference_high) = differences.mean(axis=0), student_interval(differences)
    mean, deviation = summarize_seeds(scores)
    low, high = student_interval(scores)
    rows = []
    for place in np.ndindex(difference.shape):
        method, part, split, aggregate = place
        rows.append(
            {
                "method": methods[method],
                "task": parts[part][0],
                "dataset": parts[part][1],
                "split": SPLITS[split],
                "epoch": AGGREGATES[aggregate],
                "n_seeds": len(seeds),
                **{
                    f"{score}{suffix}": values[place][number]
                    for suffix, values in {"": mean, "_std": deviation, "_low": low, "_high": high}.items()
                    for number, score in enumerate(SCORES)
                },
                "difference": difference[place],
                "difference_low": difference_low[place],
                "difference_high": difference_high[place],
            }
        )
    return rows


def _name_place(axes: Mapping[str, Sequence], place: Sequence[int]) -> str:
    return ", ".join(f"{name} {labels[at]}" for (name, labels), at in zip(axes.items(), place, strict=True))
