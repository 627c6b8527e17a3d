"""Where the time of an experiment went: the seconds of its jobs by stage, and by method per epoch."""

from collections import defaultdict
from collections.abc import Iterable

from stages.command.stage import positive_int, run_stage, stage_parser
from stages.command.wording import format_seconds, format_table
from stages.storage.benchmarks import Benchmark, leave_out_later, read_benchmarks, sum_epochs
from stages.storage.contracts import TIMING
from stages.storage.provenance import Provenance
from stages.storage.reports import write_report


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--logs", required=True, metavar="DIR", help="logs/<experiment>")
    parser.add_argument("--epochs", type=positive_int, required=True, help="of a run; jobs of later ones do not count")
    parser.add_argument("--output", required=True, metavar="MD", help="the tables")
    options = parser.parse_args(argv)
    jobs = leave_out_later(read_benchmarks(options.logs), options.epochs)
    text = (
        f"{tabulate_stages(jobs)}\n{tabulate_methods(jobs, options.epochs)}"
        if jobs
        else "No job left a benchmark file.\n"
    )
    provenance = Provenance("sum_benchmarks", {"epochs": options.epochs}, [])
    write_report(options.output, f"# Where the time went\n\n{text}", TIMING, provenance)
    print(text)


def tabulate_stages(jobs: Iterable[Benchmark]) -> str:
    """Markdown table of the jobs by stage, the longest first."""
    seconds = defaultdict(list)
    for job in jobs:
        seconds[job.stage].append(job.seconds)
    total = sum(map(sum, seconds.values()))
    rows = [
        [
            stage,
            str(len(times)),
            format_seconds(sum(times)),
            format_seconds(sum(times) / len(times)),
            share(times, total),
        ]
        for stage, times in sorted(seconds.items(), key=lambda item: (-sum(item[1]), item[0]))
    ]
    rows.append(["all", str(sum(map(len, seconds.values()))), format_seconds(total), "", ""])
    return "Seconds of the jobs by stage, as if they had run one after another.\n\n" + format_table(
        ["Stage", "jobs", "seconds", "s per job", "share"], rows
    )


def tabulate_methods(jobs: Iterable[Benchmark], n_epochs: int) -> str:
    """Markdown table of the epochs after joint training by method, the longest first."""
    per_epoch, stages = defaultdict(list), defaultdict(lambda: defaultdict(float))
    for (method, _), seconds in sum_epochs(jobs, n_epochs).items():
        per_epoch[method].append(seconds)
    for job in jobs:
        if job.epoch is not None:
            stages[job.method][job.stage] += job.seconds
    rows = []
    for method, seconds in sorted(per_epoch.items(), key=lambda item: (-sum(item[1]) / len(item[1]), item[0])):
        longest = max(stages[method], key=stages[method].get)
        rows.append(
            [
                method,
                str(len(seconds)),
                format_seconds(sum(seconds) / len(seconds)),
                f"{longest} ({share([stages[method][longest]], sum(stages[method].values()))})",
            ]
        )
    return "Seconds of an epoch after joint training by method, on average over its runs.\n\n" + format_table(
        ["Method", "runs", "s per epoch", "longest stage"], rows
    )


def share(times: Iterable[float], total: float) -> str:
    """The share of `times` in `total` seconds, in percent."""
    return f"{sum(times) / total:.0%}" if total else "0%"


if __name__ == "__main__":
    run_stage(main)
