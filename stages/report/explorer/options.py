"""Options of the stages that show samples."""

import argparse

from stages.command.options import add_split_options
from stages.command.stage import positive_int
from stages.core.errors import UserError
from stages.report.explorer.samples import RunFiles


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """--tables, --images, --audits of the training splits; --runs, --epochs and where the tables of these lie."""
    add_split_options(parser)
    parser.add_argument("--audits", nargs="*", default=[], metavar="PARQUET", help="labels held back, of any of them")
    parser.add_argument("--runs", nargs="*", default=[], metavar="METHOD/SEED", help="what is shown; what they left")
    parser.add_argument("--epochs", type=positive_int, required=True, help="the last epoch")
    # Patterns, for thousands of paths would not fit on a command line.
    parser.add_argument(
        "--augmented",
        required=True,
        metavar="DIR",
        help="folder of weights.parquet and labels.parquet, with {method}, {seed}, {epoch}, {task}, {dataset} in it",
    )
    parser.add_argument("--features", required=True, metavar="PARQUET", help="features of a dataset, likewise")


def list_runs(options: argparse.Namespace) -> list[RunFiles]:
    """The runs of --runs.

    Raises:
        ValueError: one is no METHOD/SEED.
    """
    runs = []
    for name in options.runs:
        method, _, seed = name.partition("/")
        if not seed.isdecimal():
            raise UserError(f"--runs: '{name}' is no METHOD/SEED, such as mtl_sa/0")
        runs.append(RunFiles(method, seed, options.augmented, options.features))
    return runs
