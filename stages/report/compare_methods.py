"""Compare methods over seeds: a table of all runs, their summary for programs and for people, and curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.command.wording import describe_comparison
from stages.core.comparison import SCORES, SPLITS, Run, aggregate_run, arrange_run, summarize_runs
from stages.core.errors import UserError
from stages.core.suggestions import suggest
from stages.report.figures import Curve, draw_curves
from stages.storage.benchmarks import read_benchmarks, sum_epochs
from stages.storage.contracts import COMPARISON, COMPARISON_REPORT, MANIFEST, METRICS
from stages.storage.files import digest_file
from stages.storage.reports import write_csv, write_report
from stages.storage.tables import Provenance, Table, read_table, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--runs", nargs="+", required=True, metavar="METHOD/SEED=PARQUET", help="metrics of every run")
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifests of all splits")
    parser.add_argument("--paper-names", required=True, metavar="JSON", help="paper's name by method, in their order")
    parser.add_argument("--experiment", required=True, help="the experiment's name")
    parser.add_argument("--reference", default="mtl_sa", help="method that the others are compared to")
    parser.add_argument("--last-epochs", type=int, default=4, help="epochs that mean_of_last averages")
    parser.add_argument("--logs", metavar="DIR", help="logs/<experiment>, for the seconds; unknown without it")
    parser.add_argument("--output-table", required=True, metavar="PARQUET", help="one row per run, task and aggregate")
    parser.add_argument("--output-csv", required=True, metavar="CSV", help="the summary over seeds")
    parser.add_argument("--output-markdown", required=True, metavar="MD", help="the summary for people")
    parser.add_argument("--output-figure", required=True, metavar="SVG", help="test accuracy against epoch")
    options = parser.parse_args(argv)
    paper_names = json.loads(options.paper_names)
    paths = [entry.split("=", 1) for entry in options.runs]
    runs = [read_run(name, path, paper_names) for name, path in paths]
    runs.sort(key=lambda run: (list(paper_names).index(run.method), run.seed))
    samples = count_samples(options.tables, read_table(paths[0][1], METRICS, ["task", "dataset"]))
    curves = join_curves(runs, paper_names)
    n_epochs = max(int(run.epochs.max()) for run in runs)
    seconds = sum_epochs(read_benchmarks(options.logs), n_epochs) if options.logs else {}
    rows = [
        {**row, "seconds_per_epoch": seconds.get((run.method, run.seed), np.nan)}
        for run in runs
        for row in aggregate_run(run, options.last_epochs)
    ]
    columns = {column.name: np.array([row[column.name] for row in rows]) for column in COMPARISON.columns}
    summary = [
        {"paper_name": paper_names[row["method"]], **row, "seconds_per_epoch": mean_seconds(columns, row["method"])}
        for row in summarize_runs(columns, options.reference)
    ]
    seeds = sorted({run.seed for run in runs})
    report = describe_comparison(summary, options.experiment, options.reference, seeds, options.last_epochs, samples)
    parameters = {"reference": options.reference, "last_epochs": options.last_epochs, "paper_names": paper_names}
    inputs = [*(path for _, path in paths), *options.tables]
    provenance = Provenance("compare_methods", parameters, inputs)
    write_csv(options.output_csv, summary)
    draw_curves(options.output_figure, curves, runs[0].tasks, options.reference)
    write_report(options.output_markdown, report, COMPARISON_REPORT, provenance)
    files = {Path(path).name: digest_file(path) for path in (options.output_csv, options.output_figure)}
    write_table(
        options.output_table,
        COMPARISON,
        columns,
        metadata={"experiment": options.experiment, "samples": samples, **parameters, "files": files},
        provenance=provenance,
    )
    print(f"{len(curves)} methods, {len(seeds)} seeds: read {options.output_markdown}")


def read_run(name: str, path: str, paper_names: Mapping[str, str]) -> Run:
    """The run METHOD/SEED from its metrics table.

    Raises:
        ValueError: the method is not one of `paper_names`, or the metrics have holes.
    """
    method, _, seed = name.partition("/")
    if method not in paper_names or not seed.isdecimal():
        raise UserError(f"--runs: '{name}' is no METHOD/SEED of the comparison{suggest(method, paper_names)}")
    return arrange_run(method, int(seed), read_table(path, METRICS).columns)


def count_samples(paths_tables: Sequence[str], metrics: Table) -> dict[str, dict[str, dict[str, int]]]:
    """Images with a label by task, dataset and split.

    Args:
        paths_tables: manifests of all splits of every dataset.
        metrics: `task` and `dataset` of a run; they say which datasets know a task.

    Raises:
        ValueError: a dataset of the metrics has no manifests.
    """
    found: dict[str, dict[str, Table]] = {}
    for path in paths_tables:
        table = read_table(path, MANIFEST)
        found.setdefault(table.metadata["dataset"], {})[table.metadata["split"]] = table
    samples: dict[str, dict[str, dict[str, int]]] = {}
    for task, dataset in zip(metrics["task"], metrics["dataset"], strict=True):
        if dataset is not None and dataset not in found:
            raise UserError(f"--tables: lacks the manifests of the dataset '{dataset}'")
        if dataset is not None and dataset not in samples.get(task, {}):
            samples.setdefault(task, {})[dataset] = {
                split: sum(label is not None for label in table[f"label_{task}"])
                for split, table in found[dataset].items()
            }
    return samples


def join_curves(runs: Sequence[Run], paper_names: Mapping[str, str]) -> dict[str, Curve]:
    """Test accuracy by method, the seeds of each stacked.

    Raises:
        ValueError: a run's epochs or tasks are not those of the others, so one of them is out of date.
    """
    curves = {}
    for method in dict.fromkeys(run.method for run in runs):
        same = [run for run in runs if run.method == method]
        for run in same:
            if run.epochs.tolist() != same[0].epochs.tolist() or run.tasks != runs[0].tasks:
                raise UserError(
                    f"run {run.method}/{run.seed}: its epochs differ from those of {same[0].method}/{same[0].seed}, "
                    f"or its tasks from those of {runs[0].method}/{runs[0].seed}; run snakemake again"
                )
        accuracy = np.stack([run.scores[:, :, SPLITS.index("test"), SCORES.index("accuracy")] for run in same])
        curves[method] = Curve(paper_names[method], same[0].epochs, accuracy)
    return curves


def mean_seconds(columns: Mapping[str, np.ndarray], method: str) -> float:
    """Seconds per epoch of a method, averaged over the runs that were timed; NaN where none was."""
    seconds = columns["seconds_per_epoch"][columns["method"] == method]
    known = seconds[np.isfinite(seconds)]
    return float(known.mean()) if len(known) else np.nan


if __name__ == "__main__":
    run_stage(main)
