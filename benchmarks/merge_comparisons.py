"""One table of comparisons that were made apart: the same experiment and training, some methods here and some there.

    python -m benchmarks.merge_comparisons --reference mtl_sa_plus results/faces/comparison.parquet PARQUET …

At least one method must be in both, with the same scores to the last bit: that ties them together.
"""

import argparse

import numpy as np

from stages.command.wording import describe_comparison
from stages.core.comparison import summarize_runs
from stages.core.suggestions import list_names
from stages.storage.contracts import COMPARISON
from stages.storage.tables import Table, read_table

RUN = ("method", "seed")
SCORE = ("method", "seed", "task", "dataset", "split", "epoch", "accuracy", "macro_f1")


def collect(table: Table) -> dict[tuple, set[tuple]]:
    """The scores of every run, by method and seed."""
    runs: dict[tuple, set[tuple]] = {}
    for row in zip(*(table[name] for name in SCORE), strict=True):
        runs.setdefault(row[: len(RUN)], set()).add(row)
    return runs


def merge(tables: list[Table]) -> dict[str, np.ndarray]:
    """Columns of one table that has every run once.

    Raises:
        ValueError: a table shares no run with those before it, or a shared one has other scores.
    """
    known = collect(tables[0])
    columns = {column.name: tables[0][column.name] for column in COMPARISON.columns}
    for table in tables[1:]:
        runs = collect(table)
        shared = runs.keys() & known.keys()
        if not shared:
            raise ValueError("no method with the same seeds is in both: nothing says that they can be compared")
        if different := sorted(
            f"{method}/{seed}" for method, seed in shared if runs[method, seed] != known[method, seed]
        ):
            raise ValueError(f"not of one experiment under the same settings: scores differ of {list_names(different)}")
        new = np.array([run not in known for run in zip(*(table[name] for name in RUN), strict=True)])
        columns = {name: np.concatenate([values, table[name][new]]) for name, values in columns.items()}
        known |= runs
    return columns


def main() -> None:
    """Print the report of the merged comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="PARQUET", help="comparison.parquet of each")
    parser.add_argument("--reference", required=True, help="method that the others are compared to")
    options = parser.parse_args()
    tables = [read_table(path, COMPARISON) for path in options.tables]
    columns, metadata = merge(tables), tables[0].metadata
    names = {method: name for table in tables for method, name in table.metadata["paper_names"].items()}
    summary = [
        {
            "paper_name": names[row["method"]],
            **row,
            "seconds_per_epoch": columns["seconds_per_epoch"][columns["method"] == row["method"]].mean(),
        }
        for row in summarize_runs(columns, options.reference)
    ]
    seeds = np.unique(columns["seed"]).tolist()
    print(
        describe_comparison(
            summary, metadata["experiment"], options.reference, seeds, metadata["last_epochs"], metadata["samples"]
        )
    )


if __name__ == "__main__":
    main()
