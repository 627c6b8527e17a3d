"""The benchmark files that Snakemake leaves below an experiment's logs: what every job took."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import UserError

_JOB_FOLDER = re.compile(r"seed-(\d+)/([^/]+)/epoch-(\d+)(/|$)")


@dataclass(frozen=True)
class Benchmark:
    """One job.

    Attributes:
        stage: the rule, without the dataset that a variant of it is for.
        seconds: wall time.
        method: None for what all methods share.
        seed: None for what is not part of an epoch after joint training.
        epoch: None likewise.
    """

    stage: str
    seconds: float
    method: str | None = None
    seed: int | None = None
    epoch: int | None = None


def read_benchmarks(folder: str | Path) -> list[Benchmark]:
    """All jobs below `folder`, `logs/<experiment>`; none where it does not exist.

    Files at its top and of the report are left out: those are the jobs that sum up the others.

    Raises:
        ValueError: a file is not one of Snakemake's benchmark files.
    """
    folder, jobs = Path(folder), []
    for path in sorted(folder.glob("*/**/*.benchmark.tsv")):
        if path.relative_to(folder).parts[0] == "report":
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        try:
            seconds = float(rows[0]["s"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: has no seconds in its column 's'; delete it") from None
        stage = path.name.split(".")[0]
        found = _JOB_FOLDER.match(path.parent.relative_to(folder).as_posix())
        if found:
            jobs.append(Benchmark(stage, seconds, found[2], int(found[1]), int(found[3])))
        else:
            jobs.append(Benchmark(stage, seconds))
    return jobs


def leave_out_later(jobs: Iterable[Benchmark], n_epochs: int) -> list[Benchmark]:
    """The jobs without those of epochs that only an earlier, longer config had."""
    return [job for job in jobs if job.epoch is None or job.epoch <= n_epochs]


def sum_epochs(jobs: Iterable[Benchmark], n_epochs: int) -> dict[tuple[str, int], float]:
    """Seconds of an average epoch after joint training of every method and seed: those of its jobs, one after another.

    Audits are left out: they check an epoch and are made for some methods only.

    Args:
        jobs: all of an experiment.
        n_epochs: later ones are left out, too.
    """
    seconds, epochs = defaultdict(float), defaultdict(set)
    for job in leave_out_later(jobs, n_epochs):
        if job.epoch is not None and job.stage != "audit_weights":
            seconds[job.method, job.seed] += job.seconds
            epochs[job.method, job.seed].add(job.epoch)
    return {run: total / len(epochs[run]) for run, total in seconds.items()}
