"""Draw what an experiment is made of and came to: its datasets, runs and settings, its time and its disk."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.command.stage import positive_int, run_stage, stage_parser
from stages.core.comparison import SCORES
from stages.report.drawing import record_figures
from stages.report.overview_figures import draw_balance, draw_times
from stages.report.pages import Cell, make_heading, make_paragraph, make_table, write_page
from stages.report.sample_figures import Strip, describe_names, draw_strips
from stages.storage.benchmarks import leave_out_later, read_benchmarks
from stages.storage.contracts import MANIFEST, METRICS
from stages.storage.tables import Table, read_table
from stages.storage.unsealed import check_record
from stages.storage.verification import read_plan

SPLITS = ("train", "validation", "test")
N_IMAGES = 10
DASH = "–"


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifests of all splits")
    parser.add_argument("--images", nargs="+", required=True, metavar="DATASET=NPY", help="training images")
    parser.add_argument("--runs", nargs="+", required=True, metavar="METHOD/SEED=PARQUET", help="metrics of every run")
    parser.add_argument("--paper-names", required=True, metavar="JSON", help="paper's name by method")
    parser.add_argument("--audited", required=True, metavar="JSON", help="tasks with labels held back, by dataset")
    parser.add_argument("--settings", required=True, metavar="JSON", help="what the networks depend on")
    parser.add_argument("--results", required=True, type=Path, metavar="DIR", help="results/<experiment>, for its disk")
    parser.add_argument("--logs", required=True, metavar="DIR", help="logs/<experiment>, for its time")
    parser.add_argument("--epochs", type=positive_int, required=True, help="of a run; jobs of later ones do not count")
    parser.add_argument("--output-datasets", required=True, metavar="HTML", help="table of the datasets")
    parser.add_argument("--output-balance", required=True, metavar="SVG", help="samples by class")
    parser.add_argument("--output-images", required=True, metavar="SVG", help="some images of every dataset")
    parser.add_argument("--output-runs", required=True, metavar="HTML", help="table of the runs and settings")
    parser.add_argument("--output-times", required=True, metavar="SVG", help="time and disk by stage")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    manifests = defaultdict(dict)
    for path in options.tables:
        table = read_table(path, MANIFEST)
        manifests[table.metadata["dataset"]][table.metadata["split"]] = table
    settings, audited = json.loads(options.settings), json.loads(options.audited)
    runs = [read_run(entry) for entry in options.runs]
    classes, counts = count_classes(manifests)
    write_datasets(options.output_datasets, manifests, audited)
    draw_balance(options.output_balance, counts, classes, SPLITS)
    draw_strips(options.output_images, [choose_images(entry, manifests) for entry in options.images], N_IMAGES)
    write_runs(options.output_runs, runs, json.loads(options.paper_names), settings)
    seconds = sum_seconds(options.logs, options.epochs)
    sizes = sum_sizes(options.results)
    draw_times(options.output_times, seconds, sizes)
    drawn = {
        "samples": {name: {split: len(table) for split, table in one.items()} for name, one in manifests.items()},
        "classes": {f"{dataset}/{task}": rows for (dataset, task), rows in counts.items()},
        "runs": runs,
        "seconds": seconds,
        "bytes": sizes,
    }
    outputs = [getattr(options, f"output_{name}") for name in ("datasets", "balance", "images", "runs", "times")]
    inputs = [*options.tables, *(entry.split("=", 1)[1] for entry in options.runs)]
    parameters = {"settings": settings, "audited": audited}
    record_figures(options.output_record, "draw_overview", drawn, outputs, inputs, parameters)


def count_classes(
    manifests: Mapping[str, Mapping[str, Table]],
) -> tuple[dict[str, list[str]], dict[tuple[str, str], np.ndarray]]:
    """Class names by task, and samples by dataset and task, shape (C, splits)."""
    classes, counts = {}, {}
    for dataset, splits in manifests.items():
        for task, names in splits["train"].metadata["classes"].items():
            classes[task] = names
            rows = np.zeros((len(names), len(SPLITS)), dtype=np.int64)
            for number, split in enumerate(SPLITS):
                labels = splits[split][f"label_{task}"]
                rows[:, number] = [(labels == name).sum() for name in names]
            counts[dataset, task] = rows
    return classes, counts


def write_datasets(
    path: str, manifests: Mapping[str, Mapping[str, Table]], audited: Mapping[str, Sequence[str]]
) -> None:
    """Write the table of datasets."""
    rows = []
    for dataset, splits in manifests.items():
        train = splits["train"]
        known = [f"{task} ({len(names)} classes)" for task, names in train.metadata["classes"].items()]
        rows.append(
            [
                dataset,
                Cell(", ".join(known) or DASH, "text"),
                Cell(", ".join(audited.get(dataset, [])) or DASH, "text"),
                *(f"{len(splits[split]):,}" for split in SPLITS),
                " × ".join(map(str, train.metadata["image_shape"])),
                str(sum(len(table.metadata["skipped"]) for table in splits.values())),
            ]
        )
    texts = [Cell(name, "text") for name in ("labels for", "labels held back")]
    header = ["Dataset", *texts, *SPLITS, "image (h × w × channels)", "unreadable, left out"]
    parts = [make_heading("Datasets"), make_table(header, rows)]
    parts.append(make_paragraph("Labels that are held back are never trained on; they check pseudo labels."))
    write_page(path, "Datasets", parts)


def choose_images(entry: str, manifests: Mapping[str, Mapping[str, Table]]) -> Strip:
    """The first images DATASET=NPY of each class in turn, with their labels."""
    dataset, _, path = entry.partition("=")
    check_record(Path(path))
    train = manifests[dataset]["train"]
    images = np.load(path, mmap_mode="r")
    labels = [train[f"label_{task}"] for task in train.metadata["classes"]]
    # The n-th sample of its class comes before the n+1-th of any; samples without labels are a class.
    first = labels[0] if labels else np.full(len(train), None)
    seen, turns = defaultdict(int), np.empty(len(train), dtype=np.int64)
    for row, label in enumerate(first):
        turns[row] = seen[label]
        seen[label] += 1
    rows = np.argsort(turns, kind="stable")[:N_IMAGES]
    texts = [describe_names([column[row] or DASH for column in labels]) for row in rows]
    title = f"{dataset}, {len(train):,} training images"
    return Strip(title, images[rows], texts, [-1] * len(rows))


def read_run(entry: str) -> dict:
    """What a run METHOD/SEED=PARQUET scored at its final epoch."""
    name, _, path = entry.partition("=")
    method, _, seed = name.partition("/")
    table = read_table(path, METRICS)
    chosen = table.metadata["selected_epoch"]
    rows = np.flatnonzero((table["epoch"] == chosen) & np.equal(table["dataset"], None) & (table["split"] == "test"))
    scores = {table["task"][row]: {score: table[score][row] for score in SCORES} for row in rows}
    for row in rows:
        scores[table["task"][row]]["n_samples"] = table["n_samples"][row]
    return {"method": method, "seed": int(seed), "epoch": chosen, "last": table["epoch"].max(), "test": scores}


def write_runs(path: str, runs: Sequence[Mapping], paper_names: Mapping[str, str], settings: Mapping) -> None:
    """Write the table of runs, and that of settings."""
    tasks = list(runs[0]["test"])
    header = ["Method", "seed", "final epoch"]
    for task in tasks:
        header += [f"{task}: accuracy, %", "macro-F1, %", "test images"]
    rows = []
    for run in runs:
        cells = [paper_names[run["method"]], str(run["seed"]), f"{run['epoch']} of {run['last']}"]
        for task in tasks:
            scores = run["test"][task]
            cells += [*(f"{100 * scores[score]:.2f}" for score in SCORES), f"{scores['n_samples']:,}"]
        rows.append(cells)
    flat = [[name, Cell(json.dumps(value, ensure_ascii=False), "text")] for name, value in flatten(settings)]
    write_page(
        path,
        "Runs and settings",
        [
            make_heading("Runs"),
            make_table(header, rows),
            make_paragraph(
                "On the test split, with the network of the final epoch, which the test split did not choose."
            ),
            make_heading("Settings"),
            make_table(["Setting", Cell("value", "text")], flat),
        ],
    )


def flatten(settings: Mapping, prefix: str = "") -> list[tuple[str, object]]:
    """Values of nested settings by dotted name."""
    found = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found += flatten(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def sum_seconds(logs: str, n_epochs: int) -> dict[str, tuple[float, int]]:
    """Seconds and number of the jobs by stage."""
    found = defaultdict(lambda: (0.0, 0))
    for job in leave_out_later(read_benchmarks(logs), n_epochs):
        seconds, n_jobs = found[job.stage]
        found[job.stage] = seconds + job.seconds, n_jobs + 1
    return dict(found)


def sum_sizes(results: Path) -> dict[str, int]:
    """Bytes of the files that there are, by the stage that wrote them; the report's own are left out."""
    sizes = defaultdict(int)
    for path, artifact in read_plan(results).artifacts.items():
        if artifact.target != "report" and (results / path).is_file():
            sizes[artifact.rule] += (results / path).stat().st_size
    return dict(sizes)


if __name__ == "__main__":
    run_stage(main)
