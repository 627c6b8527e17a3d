"""Show a comparison of methods like the paper's Tables 1 and 2, beside the paper's own figures where there are any."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.command.wording import DASH, embolden_best, format_percent
from stages.core.comparison import student_interval, summarize_seeds
from stages.report.drawing import record_figures
from stages.report.pages import Cell, make_heading, make_paragraph, make_table, write_page
from stages.report.paper_results import TABLE_1, TABLE_2, find_paper_results
from stages.storage.contracts import COMPARISON
from stages.storage.tables import Table, read_table

EPOCH = "validation"
TITLES = {"Table 1": "Methods (Table 1)", "Table 2": "Special cases (Table 2)", "others": "Other methods"}


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--comparison", required=True, metavar="PARQUET", help="of the experiment")
    parser.add_argument("--curves", required=True, type=Path, metavar="SVG", help="its figure")
    parser.add_argument("--sources", required=True, metavar="JSON", help="reader of the dataset behind each task")
    parser.add_argument("--output-tables", required=True, metavar="HTML", help="the tables")
    parser.add_argument("--output-curves", required=True, metavar="HTML", help="the figure as a page, which scrolls")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers shown")
    options = parser.parse_args(argv)
    table = read_table(options.comparison, COMPARISON)
    paper = find_paper_results(json.loads(options.sources))
    summary = summarize(table)
    tasks = list(dict.fromkeys(table["task"]))
    listed = {"Table 1": list(TABLE_1), "Table 2": list(TABLE_2)}
    listed["others"] = [name for name in summary if name not in TABLE_1 and name not in TABLE_2]
    n_seeds = len(set(table["seed"].tolist()))
    parts = [
        make_paragraph(
            f"Test accuracy in percent at the epoch that validation chose: mean ± standard deviation over {n_seeds} "
            "seeds, with Student's 95 % interval of the mean in brackets. The best of a column is bold."
        )
    ]
    for key, methods in listed.items():
        if shown := [method for method in methods if method in summary]:
            parts += [make_heading(TITLES[key]), tabulate(shown, summary, paper.get(key, {}), table, tasks)]
    if not paper["Table 1"]:
        parts.append(
            make_paragraph("These datasets are none of the paper's pairs, so it has no figures to set beside.")
        )
    write_page(options.output_tables, "Methods compared", parts)
    svg = options.curves.read_text(encoding="utf-8")
    write_page(options.output_curves, "Test accuracy against epoch", [svg[svg.index("<svg") :]])
    drawn = {"summary": summary, "paper": paper}
    figures = [options.output_tables, options.output_curves]
    record_figures(options.output_record, "draw_comparison", drawn, figures, [options.comparison, options.curves])


def summarize(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, spread and interval of the test accuracy over seeds, by method and task."""
    chosen = (table["split"] == "test") & (table["epoch"] == EPOCH)
    summary = {}
    for method in dict.fromkeys(table["method"]):
        summary[method] = {}
        for task in dict.fromkeys(table["task"]):
            accuracy = table["accuracy"][chosen & (table["method"] == method) & (table["task"] == task)]
            mean, deviation = summarize_seeds(accuracy)
            low, high = student_interval(accuracy)
            values = {"accuracy": mean, "deviation": deviation, "low": low, "high": high}
            summary[method][task] = {name: float(value) for name, value in values.items()}
    return summary


def tabulate(
    methods: Sequence[str],
    summary: Mapping,
    paper: Mapping[str, Mapping[str, float]],
    table: Table,
    tasks: Sequence[str],
) -> str:
    """One table: a column for each task, and behind it the paper's where it has one."""
    header, columns = ["Method"], [[table.metadata["paper_names"][method] for method in methods]]
    for task in tasks:
        found = [summary[method][task] for method in methods]
        header.append(task)
        cells = [describe(one) for one in found]
        bold = embolden_best(cells, [one["accuracy"] for one in found])
        columns.append([Cell(cell, "best") if cell != mark else cell for cell, mark in zip(cells, bold, strict=True)])
        if any(task in paper.get(method, {}) for method in methods):
            header.append(f"{task}, paper")
            figures = [paper.get(method, {}).get(task, np.nan) for method in methods]
            columns.append([Cell(DASH if np.isnan(one) else f"{one:.2f}", "paper") for one in figures])
    return make_table(header, list(zip(*columns, strict=True)))


def describe(found: Mapping[str, float]) -> str:
    """A cell: mean, spread and interval, which one seed has not."""
    text = format_percent(found["accuracy"], found["deviation"])
    return text if np.isnan(found["low"]) else f"{text} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


if __name__ == "__main__":
    run_stage(main)
