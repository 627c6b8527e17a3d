"""Put the comparisons of several experiments into one table, laid out like the paper's Table 1."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.command.wording import DASH, describe_share, embolden_best, format_percent, format_table
from stages.core.comparison import AGGREGATES, student_interval, summarize_seeds
from stages.core.errors import UserError
from stages.storage.contracts import COMPARISON
from stages.storage.reports import write_csv, write_text
from stages.storage.tables import Table, read_table

EPOCHS = {
    "validation": "at the epoch that validation chose",
    "mean_of_last": "on average over the last epochs",
    "last": "at the last epoch",
}


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--comparisons", nargs="+", required=True, metavar="PARQUET", help="one per experiment")
    parser.add_argument("--paper-names", required=True, metavar="JSON", help="paper's name by method, in their order")
    parser.add_argument("--epoch", choices=AGGREGATES, default="validation", help="which epochs' accuracy to show")
    parser.add_argument("--output-csv", required=True, metavar="CSV", help="one row per experiment, task and method")
    parser.add_argument("--output-markdown", required=True, metavar="MD", help="the table")
    options = parser.parse_args(argv)
    tables = [read_table(path, COMPARISON) for path in options.comparisons]
    # A method that was compared once and is gone from workflow/methods.yaml keeps its row, below the others.
    paper_names = json.loads(options.paper_names)
    for table in tables:
        paper_names = paper_names | {
            method: table.metadata["paper_names"][method]
            for method in dict.fromkeys(table["method"])
            if method not in paper_names
        }
    rows = [row for table in tables for row in summarize_experiment(table, options.epoch, paper_names)]
    write_csv(options.output_csv, rows)
    seeds = {row["experiment"]: row["n_seeds"] for row in rows}
    text = (
        f"# Test accuracy of all experiments\n\nIn percent, {EPOCHS[options.epoch]}: mean ± standard deviation over "
        f"seeds ({', '.join(f'{name}: {n}' for name, n in seeds.items())}).\nThe best of each column is bold; a dash "
        f"marks a method that the experiment did not run.\n\n{tabulate_rows(rows, paper_names)}"
        "\nA published split that keeps no images for validation trains on the larger share.\n"
    )
    write_text(options.output_markdown, text)
    print(f"{len(tables)} experiments: read {options.output_markdown}")


def summarize_experiment(table: Table, epoch: str, paper_names: Mapping[str, str]) -> list[dict]:
    """Test accuracy over seeds of every task and method of one experiment, methods in the order of `paper_names`."""
    rows = []
    chosen = (table["split"] == "test") & (table["epoch"] == epoch)
    if "dataset" in table.columns:
        chosen &= table["dataset"] == None  # noqa: E711  element by element
    for task in dict.fromkeys(table["task"]):
        for method, paper_name in paper_names.items():
            accuracy = table["accuracy"][chosen & (table["task"] == task) & (table["method"] == method)]
            if not len(accuracy):
                continue
            mean, deviation = summarize_seeds(accuracy)
            low, high = student_interval(accuracy)
            rows.append(
                {
                    "experiment": table.metadata["experiment"],
                    "task": task,
                    "method": method,
                    "paper_name": paper_name,
                    "n_seeds": len(accuracy),
                    "accuracy": float(mean),
                    "accuracy_std": float(deviation),
                    "accuracy_low": float(low),
                    "accuracy_high": float(high),
                    "training_share": describe_share(table.metadata["samples"][task]),
                }
            )
    return rows


def tabulate_rows(rows: Sequence[Mapping], paper_names: Mapping[str, str]) -> str:
    """Markdown table of `summarize_experiment`: experiments head groups of columns, one column per task.

    Footnotes say how much of a task's images was trained on, which decides what a figure can be compared with.
    """
    places = [(row["experiment"], row["task"], row["method"]) for row in rows]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(f"two comparisons are of one experiment, '{twice[0][0]}'; move one of them out of results/")
    methods = [method for method in paper_names if any(row["method"] == method for row in rows)]
    header, tasks, columns, notes = ["Method"], [""], [], {}
    for experiment, task in dict.fromkeys((row["experiment"], row["task"]) for row in rows):
        header.append("" if experiment in header else experiment)
        found = {row["method"]: row for row in rows if (row["experiment"], row["task"]) == (experiment, task)}
        share = next(iter(found.values()))["training_share"]
        notes.setdefault(share, f"({len(notes) + 1})")
        tasks.append(f"{task} {notes[share]}")
        means = [found[method]["accuracy"] if method in found else np.nan for method in methods]
        cells = [
            format_percent(found[method]["accuracy"], found[method]["accuracy_std"]) if method in found else DASH
            for method in methods
        ]
        columns.append(embolden_best(cells, means))
    names = [paper_names[method] for method in methods]
    listed = "".join(f"\n{number} {share}\n" for share, number in notes.items())
    return format_table(header, [tasks, *zip(names, *columns, strict=True)]) + listed


if __name__ == "__main__":
    run_stage(main)
