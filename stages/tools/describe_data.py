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

from stages.command.stage import run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.core.suggestions import list_names
from stages.data.sources.base import Tolerance
from stages.data.sources.registry import read_source
from stages.settings.section import EXPERIMENT_NAME
from stages.settings.shipped import find_shipped
from stages.storage.reports import write_text
from stages.tools.config_text import fill_template, make_line, render_dataset
from stages.tools.describing import describe_dataset, find_duplicates, list_warnings, measure_images
from stages.tools.guessing import Guess, find_datasets, make_name, name_datasets
from stages.tools.proposals import propose_settings

TEMPLATE = "config.yaml"


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa describe faces people --tasks expression age --output mine.yaml")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a folder of images, a CSV or Parquet table, or a folder of these"
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="NAME", help="one per dataset; a column of that name is its label"
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
    for guess, task in zip(guesses, tasks or [], strict=False):
        if make_name(task) != task:
            raise UserError(f"--tasks: a task cannot be called '{task}'; call it {make_name(task)}")
        guess.set_task(task)


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
    data_root = Path(os.path.commonpath([guess.path.parent for guess in guesses.values()]))
    # What is wrong with single entries is for a run to refuse or to count.
    tolerance = Tolerance(outside, bad_entries=True)
    manifests = {
        name: read_source(guess.make_settings(data_root), data_root, tolerance) for name, guess in guesses.items()
    }
    measured = {name: measure_images(manifest) for name, manifest in manifests.items()}
    classes = {name: manifest.classes for name, manifest in manifests.items()}
    warnings = [f"left out: {reason}" for reason in missed] + check_together(guesses, classes)
    facts, classes_of_task = {}, {guess.task: manifests[name].classes for name, guess in guesses.items()}
    for name, guess in guesses.items():
        if not measured[name].sizes:
            path, reason = measured[name].unreadable[0]
            raise UserError(f"{guess.path}: none of the files looked at is an image: '{path}' {reason}")
        guess.add_audit(classes_of_task)
        facts[name] = [f"Found {guess.layout}.", *describe_dataset(manifests[name], measured[name])]
        if others := [f"{column} ({len(guess.labels[column])} values)" for column in guess.list_other_labels()]:
            facts[name].append(f"Could be the label instead, or columns.audit ({{TASK: COLUMN}}): {', '.join(others)}")
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


def check_together(guesses: Mapping[str, Guess], classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Warnings about datasets that make no experiment together.

    Args:
        guesses: by dataset.
        classes: their class names.
    """
    warnings = []
    if len(guesses) < 2:
        warnings.append("an experiment needs two or more datasets: name a second one, labelled for another task")
    for task, count in Counter(guess.task for guess in guesses.values()).items():
        if count > 1:
            names = [name for name, guess in guesses.items() if guess.task == task]
            warnings.append(f"{' and '.join(names)}: both have the task '{task}'; name them apart with --tasks")
    folders = [name for name, guess in guesses.items() if guess.source == "image_folder"]
    if len(folders) > 1 and len({tuple(classes[name]) for name in folders}) == 1:
        warnings.append(
            f"{' and '.join(folders)}: all have the classes {list_names(classes[folders[0]])}; if these are no "
            f"classes, but folders within a class, move the images up into {folders[0]}/ and so on"
        )
    return warnings


if __name__ == "__main__":
    run_stage(main)
