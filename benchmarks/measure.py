"""What all benchmarks share: ways that take turns, medians of ratios, and results with the machine they are from.

Machines drift and are shared: two times mean something side by side only. So every ratio is the median of ratios
of runs that followed each other at once, and its range is given with it.
"""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from stages.command.wording import format_table

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks/results"))
READING = """\
Both sides of a ratio took turns in one run; it is the median over the turns, with the smallest and the largest beside
it. Seconds by themselves also tell what else the machine did: see the load, which is ours alone on a quiet machine."""
PAPER = "benchmarks/configs/paper.yaml"
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pot", "faiss-cpu", "pyarrow", "torch", "snakemake")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured, with its size.
        ours: the median, with its unit.
        reference: what it is compared with, and its median; empty where the goal is a number.
        ratio: of the two, median over turns; None where there is none.
        low: smallest ratio of a turn.
        high: largest ratio of a turn.
        goal: in words; empty where none is set.
        met: whether it is; None without a goal.
        note: why not, or what to know.
    """

    what: str
    ours: str
    reference: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""


def read_paper_settings() -> dict[str, Any]:
    """The default experiment with the paper's method and training."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    update_config(settings, yaml.safe_load((ROOT / PAPER).read_text(encoding="utf-8")))
    return settings


@dataclass(frozen=True)
class Process:
    """A process that has ended well, with all that it waited for.

    Attributes:
        seconds: wall time.
        processor_seconds: user and system time, of its children too: other processes disturb that less.
        megabytes: peak memory of the largest of them.
        output: what it printed.
    """

    seconds: float
    processor_seconds: float
    megabytes: float
    output: str


def run_process(arguments: Sequence[str], *, cwd: Path | None = None, **environment: str) -> Process:
    """Run a Python module of this checkout, named first, and wait for it; where it fails, so do we.

    Args:
        arguments: module and options.
        cwd: where it runs.
        environment: what is added to ours.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=cwd, env=environment, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        for file in (output, errors):
            file.seek(0)
        text = output.read()
        if status:
            sys.exit(f"{' '.join(arguments)} failed:\n{text[-2000:]}\n{errors.read()[-2000:]}")
    return Process(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, text)


def take_turns(ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm_ups: int = 1) -> dict[str, list[float]]:
    """Wall seconds of every way, by name, in turns, so that a noisy minute falls on all of them.

    Args:
        ways: what each calls; a number that it returns is taken for its seconds, anything else is timed.
        repeats: turns that count.
        warm_ups: turns before them that do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm_ups, repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            result = way()
            elapsed = result if isinstance(result, float) else time.perf_counter() - start
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds


def compare(
    what: str,
    ours: Sequence[float],
    reference: Sequence[float],
    *,
    name: str,
    at_most: float | None = None,
    goal: str = "",
    note: str = "",
) -> Row:
    """The row of two ways that took turns: seconds of ours over those of the reference.

    Args:
        what: see `Row`.
        ours: seconds of every turn.
        reference: seconds of every turn.
        name: of the reference.
        at_most: goal of the ratio.
        goal: the same in words, where "at most ... times" is not clear.
        note: see `Row`.
    """
    ratios = [one / other for one, other in zip(ours, reference, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        what,
        format_time(statistics.median(ours)),
        f"{name}: {format_time(statistics.median(reference))}",
        ratio,
        min(ratios),
        max(ratios),
        goal or ("" if at_most is None else f"at most {at_most:g} times"),
        None if at_most is None else ratio <= at_most,
        note,
    )


def format_time(seconds: float) -> str:
    """As `1.23 s` or `4.56 ms`."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The b of values ∝ sizes^b, by least squares on logarithms.

    Args:
        sizes: at least two different ones.
        values: above 0, of the same length.
    """
    logarithms = ([math.log(one) for one in column] for column in (sizes, values))
    return statistics.linear_regression(*logarithms).slope


def write_result(benchmark: str, rows: Iterable[Row], *, part: str = "", **details: Any) -> None:
    """Print the rows, and write them with command, commit and machine to `benchmarks/results/<benchmark>.json`.

    Args:
        benchmark: the module's name.
        rows: of the table.
        part: of a benchmark that has several results, what the file's name ends in.
        details: what else was measured.
    """
    rows = list(rows)
    print(tabulate(rows))
    content = {
        "benchmark": benchmark,
        "command": " ".join(["python -m", f"benchmarks.{benchmark}", *sys.argv[1:]]),
        **describe_state(),
        "rows": [asdict(row) for row in rows],
        "details": details,
    }
    path = RESULTS / f"{benchmark}{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def describe_state() -> dict[str, Any]:
    """Commit, machine and how busy it is; no names of hosts or folders."""
    return {
        "commit": describe_commit(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "processor": describe_processor(),
            "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def describe_commit() -> str:
    """The short name of the checked-out commit, and whether the code differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "stages", "workflow", "Snakefile", "benchmarks/*.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def describe_processor() -> str:
    """The processor's model, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def tabulate(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""

    def cells(row: Row) -> list[str]:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        goal = row.goal and f"{row.goal}: {'met' if row.met else '**missed**'}"
        return [row.what, row.ours, row.reference, ratio, goal, row.note]

    head = ["what", "ours", "reference", "ours over it (range)", "goal", "note"]
    return format_table(head, [cells(row) for row in rows])


def write_table() -> None:
    """All results as one Markdown page, `bench.md`."""
    contents = [json.loads(one.read_text(encoding="utf-8")) for one in sorted(RESULTS.glob("*.json"))]
    parts = [f"# What `make bench` measured\n\n{READING}\n"]
    for content in contents:
        machine = content["machine"]
        libraries = ", ".join(f"{name} {machine[name]}" for name in ("python", *LIBRARIES))
        rows = [Row(**row) for row in content["rows"]]
        load = f"load at the end {content['load'][0]} (1 min), {content['load'][2]} (15 min)"
        parts.append(
            f"## {content['benchmark']}\n\n    {content['command']}\n\n"
            f"Commit {content['commit']}; {machine['cores']} cores ({machine['processor']}), "
            f"{machine['memory_GB']} GB; {libraries}; {load}.\n\n{tabulate(rows)}"
        )
    (RESULTS / "bench.md").write_text("\n".join(parts), encoding="utf-8")
