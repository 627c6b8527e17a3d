"""The whole pipeline against a script that does the same arithmetic in one process, with no artifacts.

Both train the same experiment on faces drawn in code, from nothing to the final network: `mtl-sa run` with everything
that it does (checks, processes, tables, digests, audits), and `benchmarks/monolith.py`. They take turns. Each gets one
core's worth of threads, and Snakemake starts one job at a time, so that the pipeline cannot win by running jobs side
by side. What the pipeline takes longer is told apart: Snakemake before the first job, what lies between jobs and
behind the last (scheduling, shells, records), and by stage what a job takes longer than the step of the script
(start of a process, imports, tables). The stages say their own peak memory.

    python -m benchmarks.whole_pipeline --samples 1500 6000 --repeats 3
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.measure import Process, Row, compare, read_paper_settings, run_process, write_result

BUDGET = 1.10
"""Of an epoch that takes a minute."""
OVERHEADS = {True: 1.5, False: 7.0}
"""Seconds that the pipeline may add to an epoch, with and without warm start."""
MEMORY = {
    "prepare_images": "constant: images are written as they are decoded; names and labels of all samples",
    "initialize_network": "network, gradients, Adam's two moments, activations of a batch; the images that were read",
    "extract_features": "network and activations of a batch; 32 MB of rows before they are written",
    "train_epoch": "as initialize_network, and a label vector for each sample and task",
    "evaluate_network": "network and activations of a batch; probabilities of the validation split",
    "estimate_density": "features; tiles of 512 x 512 for each thread and up to 64 MB of pairs at the cutoff",
    "fit_mixture": "features of both domains, and of one in float64 twice",
    "weigh_distribution": "constant",
    "materialize_labels": "soft labels, in float64 a few times, and nine weights",
    "audit_weights": "weights and held back labels",
}
"""What the memory of a stage should consist of, beside its libraries."""


@dataclass(frozen=True)
class Job:
    """One job of a run: when it began and how long it took, in seconds, and its epoch, None outside of epochs."""

    stage: str
    start: float
    seconds: float
    epoch: int | None


@dataclass(frozen=True)
class PipelineRun:
    """What a run of the pipeline took, in seconds.

    Attributes:
        total: wall time of the command.
        processor: user and system time of all its processes.
        before: until the first job began.
        behind: from the end of the last job.
        jobs: in the order in which they began.
        peaks: largest peak memory by stage, in MB.
    """

    total: float
    processor: float
    before: float
    behind: float
    jobs: list[Job]
    peaks: dict[str, float]

    def sum_epochs(self) -> dict[int, float]:
        """Seconds by epoch from 1: of each of its jobs the time since the job before it ended."""
        owned, end = defaultdict(float), None
        for job in self.jobs:
            finish = job.start + job.seconds
            if job.epoch:
                owned[job.epoch] += finish - (end if end is not None else job.start)
            end = finish
        return dict(owned)

    def sum_stages(self) -> dict[str, float]:
        """Seconds by stage."""
        seconds = defaultdict(float)
        for job in self.jobs:
            seconds[job.stage] += job.seconds
        return dict(seconds)

    @property
    def between(self) -> float:
        """Seconds between the first and the last job in which none ran."""
        return self.total - self.before - self.behind - sum(job.seconds for job in self.jobs)


def write_config(path: Path, n_samples: int, n_epochs: int, *, warm_start: bool) -> None:
    """The default experiment as the paper trains it, with two datasets of one size."""
    settings = read_paper_settings()
    held_out = max(50, n_samples // 10)
    for dataset in settings["datasets"].values():
        dataset["samples"] = {"train": n_samples, "validation": held_out, "test": held_out}
    settings["training"] |= {"epochs": n_epochs, "initial_epochs": 1}
    settings["compute"] |= {"threads": 1, "warm_start": warm_start, "device": "cpu"}
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def run_pipeline(config: Path, n_cores: int) -> PipelineRun:
    """Run an experiment in a new folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.time()
        process = run_process(["stages.tools.run_experiment", str(config), "--cores", str(n_cores)], cwd=folder)
        return read_run(folder, began, process)


def read_run(folder: Path, began: float, process: Process) -> PipelineRun:
    """What a run left in its folder: the times that Snakemake wrote down, and the peaks in the logs of the stages.

    Args:
        folder: that it ran in.
        began: in seconds since the epoch of the clock.
        process: what it took.
    """
    (logs,) = (folder / "logs").iterdir()
    starts = {}
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            starts[record["log"][0]] = record["starttime"]
    jobs, peaks = [], defaultdict(float)
    seconds = {path: _read_seconds(path) for path in folder.glob("logs/**/*.benchmark.tsv")}
    for path, elapsed in seconds.items():
        log = path.with_name(path.name.replace(".benchmark.tsv", ".log"))
        stage = path.name.split(".")[0]
        found = re.search(r"epoch-(\d+)", str(path.relative_to(logs)))
        epoch = int(found[1]) if found else 0 if "initial" in path.parts else None
        jobs.append(Job(stage, starts[str(log.relative_to(folder))], elapsed, epoch))
        if told := re.search(r"peak memory (\d+) MB", log.read_text(encoding="utf-8")):
            peaks[stage] = max(peaks[stage], float(told[1]))
    jobs.sort(key=lambda job: job.start)
    end = jobs[-1].start + jobs[-1].seconds
    behind = began + process.seconds - end
    return PipelineRun(process.seconds, process.processor_seconds, jobs[0].start - began, behind, jobs, dict(peaks))


def run_script(config: Path) -> tuple[Process, dict[tuple[int, str], float]]:
    """Run the same experiment by the script: its process, and the wall seconds of its steps by epoch and name."""
    process = run_process(["benchmarks.monolith", str(config)])
    return process, {(epoch, step): seconds for epoch, step, seconds in json.loads(process.output)["steps"]}


def compare_size(n_samples: int, repeats: int, options: argparse.Namespace) -> tuple[list[Row], dict]:
    """Both ways at one size, in turns: the rows, and what they rest on."""
    runs, scripts = [], []
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "bench.yaml"
        write_config(config, n_samples, options.epochs, warm_start=options.warm_start)
        for turn in range(repeats):
            runs.append(run_pipeline(config, options.cores))
            scripts.append(run_script(config))
            print(
                f"{n_samples} samples, turn {turn + 1}: {runs[-1].total:.1f} s, {scripts[-1][0].seconds:.1f} s",
                flush=True,
            )
    epochs = [(run.sum_epochs(), sum_epochs(steps)) for run, (_, steps) in zip(runs, scripts, strict=True)]
    ours = [seconds for run, _ in epochs for _, seconds in sorted(run.items())]
    reference = [seconds for _, script in epochs for _, seconds in sorted(script.items())]
    added = statistics.median(one - other for one, other in zip(ours, reference, strict=True))
    limit = OVERHEADS[options.warm_start]
    size = f"{n_samples:,} images in each dataset"
    rest = explain(runs, scripts, options.epochs)
    parts = ", ".join(f"{name} {seconds:+.2f}" for name, seconds in rest.items() if abs(seconds) >= 0.005)
    rows = [
        compare(
            f"an epoch, {size}",
            ours,
            reference,
            name="script",
            at_most=BUDGET if statistics.median(reference) >= 30 else None,
        ),
        Row(
            f"what the pipeline adds to it, {size}",
            f"{added:.2f} s",
            goal=f"at most {limit:g} s",
            met=added <= limit,
            note=f"seconds: {parts}",
        ),
        compare(
            f"the whole run, {options.epochs} epochs, {size}",
            [run.total for run in runs],
            [process.seconds for process, _ in scripts],
            name="script",
            note=f"before the first job {statistics.median(run.before for run in runs):.1f} s, behind the last "
            f"{statistics.median(run.behind for run in runs):.1f} s",
        ),
        compare(
            f"its processor time, {size}",
            [run.processor for run in runs],
            [process.processor_seconds for process, _ in scripts],
            name="script",
            note="user and system time of all processes",
        ),
    ]
    details = {
        "samples": n_samples,
        "epoch_seconds": {"pipeline": ours, "script": reference},
        "added_to_an_epoch": rest,
        "runs": [
            {
                "total": run.total,
                "processor": run.processor,
                "before": run.before,
                "between": run.between,
                "behind": run.behind,
            }
            | {"stages": run.sum_stages(), "peaks_MB": run.peaks}
            for run in runs
        ],
        "scripts": [
            {
                "total": process.seconds,
                "processor": process.processor_seconds,
                "steps": {f"{epoch} {step}": one for (epoch, step), one in steps.items()},
            }
            for process, steps in scripts
        ],
    }
    return rows, details


def sum_epochs(steps: Mapping[tuple[int, str], float]) -> dict[int, float]:
    """Seconds of the script by epoch from 1."""
    seconds = defaultdict(float)
    for (epoch, _), elapsed in steps.items():
        if epoch:
            seconds[epoch] += elapsed
    return dict(seconds)


def explain(runs: Sequence[PipelineRun], scripts: Sequence[tuple[Process, dict]], n_epochs: int) -> dict[str, float]:
    """What an average epoch takes longer in the pipeline, in seconds: by stage, and between its jobs."""
    extra = defaultdict(list)
    for run, (_, steps) in zip(runs, scripts, strict=True):
        of_jobs, of_steps = defaultdict(float), defaultdict(float)
        for job in run.jobs:
            if job.epoch:
                of_jobs[job.stage] += job.seconds
        for (epoch, step), elapsed in steps.items():
            if epoch:
                of_steps[step] += elapsed
        for stage, elapsed in of_jobs.items():
            extra[stage].append((elapsed - of_steps[stage]) / n_epochs)
        owned = sum(run.sum_epochs().values())
        extra["between jobs"].append((owned - sum(of_jobs.values())) / n_epochs)
    return {stage: statistics.median(values) for stage, values in extra.items()}


def describe_memory(details: Sequence[dict]) -> list[Row]:
    """The peak memory of every stage at the largest size, as it says itself, and how that grew with the size."""
    sizes = [one["samples"] for one in details]
    peaks = [
        {stage: max(run["peaks_MB"].get(stage, 0) for run in one["runs"]) for stage in one["runs"][0]["peaks_MB"]}
        for one in details
    ]
    rows = []
    for stage, statement in MEMORY.items():
        values = [one[stage] for one in peaks if one.get(stage)]
        if len(values) < len(sizes):
            continue
        growth = ""
        if len(sizes) > 1:
            each = (values[-1] - values[0]) * 1000 / (sizes[-1] - sizes[0])
            growth = f"; {each:+.1f} kB for each image of a dataset since {sizes[0]:,}"
        rows.append(
            Row(f"peak memory of {stage}, {sizes[-1]:,} images", f"{values[-1]:.0f} MB", note=f"{statement}{growth}")
        )
    return rows


def _read_seconds(path: Path) -> float:
    return float(path.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])


def main() -> None:
    """Compare at all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[1500, 6000, 25_000], help="training images of each dataset"
    )
    parser.add_argument("--repeats", type=int, nargs="+", default=[3, 2, 1], help="turns, by size; the last goes on")
    parser.add_argument("--epochs", type=int, default=2, help="each is a measurement")
    parser.add_argument("--cores", type=int, default=1, help="of the pipeline; jobs and script have one thread each")
    parser.add_argument("--warm-start", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    rows, details = [], []
    repeats = options.repeats + options.repeats[-1:] * len(options.samples)
    for n_samples, turns in zip(options.samples, repeats, strict=False):
        of_size, found = compare_size(n_samples, turns, options)
        rows += of_size
        details.append(found)
        # After each, because the last takes the longest.
        write_result("whole_pipeline", rows + describe_memory(details), sizes=details)


if __name__ == "__main__":
    main()
