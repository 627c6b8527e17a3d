"""Collect the training samples of a run in one table, images included, for viewers outside this project.

One row for each sample of each dataset; what belongs to a task has its name at the end, and is what the last
epoch that weighed the sample's dataset said of it.
"""

import numpy as np

from stages.command.options import Stopwatch
from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.report.explorer.options import add_run_options, list_runs
from stages.report.explorer.samples import iterate_images, open_population
from stages.report.explorer.table import collect_columns
from stages.report.explorer.thumbnails import encode_jpeg
from stages.storage.contracts import SAMPLES
from stages.storage.tables import Provenance, open_writer

ROWS_AT_A_TIME = 1000


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    add_run_options(parser)
    parser.add_argument("--output", required=True, metavar="PARQUET")
    options = parser.parse_args(argv)
    stopwatch = Stopwatch()
    runs = list_runs(options)
    if len(runs) != 1:
        raise UserError(f"--runs: names {len(runs)} runs; a table is about one, such as mtl_sa/0")
    [run] = runs
    population = open_population(options.tables, options.images, options.audits)
    columns = collect_columns(population, run, options.epochs)
    metadata = {"method": run.method, "seed": int(run.seed), "classes": population.classes}
    provenance = Provenance("collect_samples", {"run": options.runs[0]}, [*options.tables, *options.audits])
    start = 0
    with open_writer(options.output, SAMPLES, metadata=metadata, provenance=provenance) as writer:
        for _, images in iterate_images(population, ROWS_AT_A_TIME):
            rows = slice(start, start := start + len(images))
            encoded = np.array([encode_jpeg(pixels, quality=95) for pixels in images], dtype=object)
            writer.write({"image": encoded} | {name: values[rows] for name, values in columns.items()})
        for split in population.splits:
            split.confirm()
    print(f"{options.output}: {start} samples  ({stopwatch.seconds:.1f} s)")


if __name__ == "__main__":
    run_stage(main)
