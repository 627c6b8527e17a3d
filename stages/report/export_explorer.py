"""Write the sample explorer: a folder whose index.html shows every training sample and what the epochs say of it.

It opens from the disk, without a server and without a request. Features that were deleted after use
(storage.keep_features) leave out the map and the neighbours, and nothing else.
"""

from pathlib import Path

from stages.command.options import Stopwatch
from stages.command.stage import limit_threads, positive_int, run_stage, stage_parser
from stages.core.errors import UserError
from stages.report.explorer.options import add_run_options, list_runs
from stages.report.explorer.page import digest_files, write_explorer
from stages.report.explorer.samples import open_population
from stages.storage.contracts import EXPLORER, METRICS
from stages.storage.files import replace_folder_when_complete, write_json
from stages.storage.provenance import Provenance
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    add_run_options(parser)
    parser.add_argument("--experiment", required=True, help="the experiment's name")
    parser.add_argument("--metrics", nargs="*", default=[], metavar="METHOD/SEED=PARQUET", help="of the runs")
    parser.add_argument("--max-samples", type=positive_int, help="thin them out to so many; all without it")
    parser.add_argument("--max-embedded", type=int, default=5000, help="samples that t-SNE places; 0: none")
    parser.add_argument("--thumbnail", type=positive_int, default=64, help="longest side of a thumbnail, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE and of its choice of samples")
    parser.add_argument("--threads", type=positive_int, default=1, help="part of the result, to the last bit")
    parser.add_argument("--output", required=True, metavar="DIR", help="replaced when all of it is written")
    options = parser.parse_args(argv)
    stopwatch = Stopwatch()
    limit_threads(options.threads)
    population = open_population(options.tables, options.images, options.audits, options.max_samples)
    if not len(population.paths):
        raise UserError(f"{options.tables[0]}: holds no samples, nor do the others; there is nothing to show")
    paths = dict(entry.split("=", 1) for entry in options.metrics)
    chosen = {run: read_table(path, METRICS, []).metadata["selected_epoch"] for run, path in paths.items()}
    runs = list_runs(options)
    shared = ("experiment", "max_embedded", "thumbnail", "seed")
    settings = {name: getattr(options, name) for name in shared}
    with replace_folder_when_complete(options.output) as folder:
        write_explorer(folder, population, runs, n_epochs=options.epochs, chosen_epochs=chosen, **settings)
    files = digest_files(Path(options.output))
    parameters = settings | {"runs": options.runs, "max_samples": options.max_samples}
    inputs = [*options.tables, *options.audits, *paths.values()]
    provenance = Provenance("export_explorer", parameters, inputs)
    write_json(Path(options.output) / "explorer.json", EXPLORER, {"files": files}, provenance)
    megabytes = sum(map(_measure, Path(options.output).rglob("*"))) / 1e6
    print(
        f"{options.output}/index.html: {len(population.paths)} of {population.n_all} samples, "
        f"{len(runs)} run{'s' * (len(runs) != 1)}, {megabytes:.1f} MB  ({stopwatch.seconds:.1f} s)"
    )


def _measure(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


if __name__ == "__main__":
    run_stage(main)
