"""Look at folders of images or tables of labels, and write the config of an experiment with them.

What was found stands in it as comments, what looks wrong also on standard error. Read it before you run it.
"""

import functools
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.command.stage import run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.data.sources.base import Manifest, Tolerance
from stages.data.sources.registry import read_source
from stages.settings.section import EXPERIMENT_NAME
from stages.settings.shipped import find_shipped
from stages.storage.reports import write_text
from stages.tools.config_text import fill_template, make_line, render_dataset
from stages.tools.describing import describe_dataset, find_duplicates, list_warnings, measure_images
from stages.tools.guessing import Guess, find_datasets, make_name, merge_spellings, name_datasets
from stages.tools.proposals import propose_settings

TEMPLATE = "config.yaml"


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa describe faces people --tasks expression age --output mine.yaml")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a folder of images, a CSV or Parquet table, or a folder of these"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="for every dataset one, or several joined by commas; columns of these names are its labels",
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="results go to results/NAME; the datasets' names if absent"
    )
    parser.add_argument(
        "--outside-data-root",
        choices=("refuse", "allow"),
        default="refuse",
        help="images that lists name outside the folders described",
    )
    parser.add_argument("--output", type=Path, metavar="YAML", help="a new file; standard output if absent")
    options = parser.parse_args(argv)
    if options.output and options.output.exists():
        raise UserError(f"{options.output}: exists; remove it first, or choose another --output")
    found = [find_datasets(path) for path in options.paths]
    guesses = [guess for some, _ in found for guess in some]
    set_tasks(guesses, options.tasks)
    missed = [reason for _, reasons in found for reason in reasons]
    outside = options.outside_data_root == "allow"
    text, warnings = make_config(name_datasets(guesses), missed, options.experiment, options.output, outside)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.output:
        write_text(options.output, text)
        print(f"{options.output}: read it, then: snakemake --cores 4 --configfile {options.output}")
    else:
        print(text, end="")


def set_tasks(guesses: Sequence[Guess], tasks: Sequence[str] | None) -> None:
    """Call the tasks of the datasets so.

    Raises:
        ValueError: there are not as many names, or one has characters that it may not have.
    """
    if tasks and len(tasks) != len(guesses):
        paths = ", ".join(str(guess.path) for guess in guesses)
        raise UserError(f"--tasks: names {len(tasks)}, but the datasets are {len(guesses)}: {paths}")
    for guess, joined in zip(guesses, tasks or [], strict=False):
        for task in joined.split(","):
            if make_name(task) != task:
                raise UserError(f"--tasks: a task cannot be called '{task}'; call it {make_name(task)}")
        guess.set_tasks(joined.split(","))


def make_config(
    guesses: Mapping[str, Guess],
    missed: Iterable[str],
    experiment: str | None,
    output: Path | None,
    outside: bool = False,
) -> tuple[str, list[str]]:
    """The text of a config, and the warnings in it.

    Args:
        guesses: by dataset.
        missed: why further folders are no datasets.
        experiment: its name; the datasets' where it is None.
        output: where the config will be, for its paths; the current folder where it is None.
        outside: whether tables may name images anywhere; the config then permits it, too.

    Raises:
        ValueError: a dataset cannot be read, none of its files looked at is an image, or the
            experiment's name is none of a folder.
    """
    experiment = experiment or "_".join(guesses)
    if not re.fullmatch(EXPERIMENT_NAME, experiment):
        raise UserError(f"--experiment: '{experiment}' is no name of a folder; use letters, digits, _, . and -")
    places = [guess.path.parent for guess in guesses.values()]
    places += [guess.settings["images"] for guess in guesses.values() if "images" in guess.settings]
    data_root = Path(os.path.commonpath(places))
    merged = {
        task: spellings
        for guess in guesses.values()
        if len(guess.tasks) > 1
        for task, spellings in guess.merge_classes().items()
    }
    # What is wrong with single entries is for a run to refuse or to count.
    tolerance = Tolerance(outside, bad_entries=True)

    def read(guess: Guess) -> Manifest:
        return read_source(guess.make_settings(data_root) | {"tasks": list_rules(merged)}, data_root, tolerance)

    manifests = {name: read(guess) for name, guess in guesses.items()}
    for name, guess in guesses.items():
        others = [one.classes for other, one in manifests.items() if other != name]
        guess.add_audit({task: names for classes in others for task, names in classes.items()})
        if set(guess.tasks) != set(manifests[name].classes):
            manifests[name] = read(guess)
    measured = {name: measure_images(manifest) for name, manifest in manifests.items()}
    classes = {name: manifest.classes for name, manifest in manifests.items()}
    warnings = [f"left out: {reason}" for reason in missed] + check_together(guesses, classes)
    facts = {}
    for name, guess in guesses.items():
        if not measured[name].sizes:
            path, reason = measured[name].unreadable[0]
            raise UserError(f"{guess.path}: none of the files looked at is an image: '{path}' {reason}")
        facts[name] = [f"Found {guess.layout}.", *describe_dataset(manifests[name], measured[name])]
        if others := [f"{column} ({len(guess.labels[column])} values)" for column in guess.list_other_labels()]:
            facts[name].append(f"Could be labels, too, or `audit` ({{TASK: COLUMN}}): {', '.join(others)}")
        for task, spellings in guess.merge_classes().items():
            n_names = sum(map(len, spellings.values()))
            facts[name].append(f"{task}: {n_names} names look like {len(spellings)} classes; `classes` merges them.")
        warnings += [f"{name}: {text}" for text in guess.warnings + list_warnings(manifests[name], measured[name])]
    track = functools.partial(show_progress, description="Comparing images", unit="image")
    warnings += find_duplicates(manifests, track)
    warnings = [make_line(warning.replace(f"{data_root}{os.sep}", "")) for warning in warnings]

    changes = propose_settings(
        [one.find_median() for one in measured.values()],
        grey=all(one.n_grey == len(one.sizes) for one in measured.values()),
        n_train=[sum(sample.split == "train" for sample in one.samples) for one in manifests.values()],
    )
    relative = Path(os.path.relpath(data_root, output.parent if output else "."))
    changes |= {"data_root": (relative.as_posix(), None), "experiment": (experiment, None)}
    if merged := merge_across(classes) | merged:
        changes["tasks"] = (list_rules(merged), "classes that have several spellings in the data")
    if outside:
        changes["images.outside_data_root"] = ("allow", None)
    datasets = [
        line
        for name, guess in guesses.items()
        for line in render_dataset(name, guess.make_settings(data_root), facts[name])
    ]
    header = [
        f"# {' and '.join(guesses)}, as mtl-sa describe found them. Read it, then:",
        f"# snakemake --cores 4 --configfile {output or 'NAME.yaml'}",
        *(f"# Warning: {warning}" for warning in warnings),
    ]
    if not output:
        header.insert(2, "# Save it as NAME.yaml where you made it: data_root is relative to the folder of this file.")
    template = find_shipped(TEMPLATE).read_text(encoding="utf-8")
    return "\n".join([*header, "", fill_template(template, changes, datasets)]), warnings


def list_rules(merged: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """The section `tasks` of a config that merges spellings of classes."""
    return {task: {"classes": dict(spellings)} for task, spellings in merged.items()}


def merge_across(classes: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, list[str]]]:
    """By task whose classes have other spellings in another dataset: by class the names that mean it.

    Args:
        classes: by dataset and task.
    """
    merged = {}
    for task in {task for of_dataset in classes.values() for task in of_dataset}:
        names = Counter(name for of_dataset in classes.values() for name in of_dataset.get(task, ()))
        spellings = merge_spellings(names)
        if sum(task in of_dataset for of_dataset in classes.values()) > 1 and len(spellings) < len(names):
            merged[task] = spellings
    return merged


def check_together(guesses: Mapping[str, Guess], classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Warnings about datasets that make no experiment together.

    Args:
        guesses: by dataset.
        classes: their class names.
    """
    warnings = []
    tasks = {task for guess in guesses.values() for task in guess.tasks}
    gaps = (guess.labels.get(column, Counter())[""] for guess in guesses.values() for column in guess.tasks.values())
    if all(set(guess.tasks) == tasks for guess in guesses.values()) and not any(gaps):
        warnings.append(
            "every image has a label for every task, so that nothing is left to fill in: name a second dataset, "
            "labelled for another task"
        )
    owners = {task: [name for name, guess in guesses.items() if task in guess.tasks] for task in sorted(tasks)}
    warnings += [
        f"{' and '.join(names)}: are all labelled for '{task}' and will be trained as one task; if it is not one, name "
        "them apart with --tasks"
        for task, names in owners.items()
        if len(names) > 1
    ]
    folders = [name for name, guess in guesses.items() if guess.source == "image_folder"]
    if len(folders) > 1 and len({tuple(*classes[name].values()) for name in folders}) == 1:
        (names,) = classes[folders[0]].values()
        warnings.append(
            f"{' and '.join(folders)}: all have the classes {list_names(names)}; if these are no classes, but folders "
            f"within a class, move the images up into {folders[0]}/ and so on"
        )
    return warnings


if __name__ == "__main__":
    run_stage(main)
