"""What `snakemake --logger epochs` prints in place of Snakemake's log: a line for each epoch, and how it ended.

What the stages print goes to their logs only. Nothing that goes wrong here may stop a run.
"""

import json
import logging
import os
import re
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

SILENCE = "STAGES_SILENT"
"""Set in the environment of jobs whose output nobody watches; workflow/rules/common.smk reads it."""
NOTHING_TO_DO = "Nothing to be done"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        n_runs: methods times seeds that are under way.
        n_epochs: evaluations that this process has to make, in all runs.
        times: when each of them was made.
        best: by run, the highest mean accuracy on validation so far.
    """

    n_runs: int = 1
    n_epochs: int = 0
    times: list[float] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)

    def describe_epoch(self, path: str, now: float) -> str:
        """The line of an epoch.

        Args:
            path: its metrics.json, just written.
            now: seconds on any clock.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        self.times.append(now)
        scores = "  ".join(f"{task} {one['accuracy']:6.1%}" for task, one in content["tasks"].items())
        mean = sum(one["accuracy"] for one in content["validation"].values()) / max(1, len(content["validation"]))
        run = name_run(path)
        is_best = mean > self.best.get(run, -1)
        self.best[run] = max(mean, self.best.get(run, -1))
        trained = content["trained_dataset"] or ("mixed" if content["epoch"] else "all, jointly")
        return "  ".join(
            [
                *([f"{run:<20}"] if self.n_runs > 1 else []),
                f"epoch {content['epoch']:3d} of {find_last_epoch(path) or '?'}",
                f"{trained:<16}",
                f"{scores} {'*' if is_best else ' '}",
                self.estimate_rest(),
            ]
        ).rstrip()

    def estimate_rest(self) -> str:
        """The time left, by the epochs since the first; empty while nothing is known."""
        n_left = self.n_epochs - len(self.times)
        if len(self.times) < 2 or n_left <= 0:
            return ""
        seconds = n_left * (self.times[-1] - self.times[0]) / (len(self.times) - 1)
        if seconds < 90:
            return f"about {max(1, round(seconds)):d} s left"
        if seconds < 5400:
            return f"about {seconds / 60:.0f} min left"
        return f"about {seconds / 3600:.1f} h left"


def name_run(path: str) -> str:
    """Method and seed that an artifact belongs to, as people call them; of joint training the seed only."""
    found = re.search(r"/seed-(\d+)/(\w+)", path)
    if not found:
        return ""
    seed, method = found.groups()
    return f"seed {seed}" if method.startswith("initial") else f"{method}, seed {seed}"


def read_plan(path: str) -> dict:
    """The plan of the experiment that an artifact belongs to, which every run leaves; empty where it is not found."""
    try:
        return json.loads(Path(path.rpartition("/seed-")[0], "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def find_last_epoch(path: str) -> int | None:
    """The number of the last epoch of this artifact's experiment."""
    places = (place for place, *_ in read_plan(path).get("artifacts", []))
    return max((int(number) for place in places for number in re.findall(r"/epoch-(\d+)/", place)), default=None)


def find_error(path: str) -> str | None:
    """The line of a job's log that says what went wrong: the user's mistake, or the last one; None if it is empty."""
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = [line for line in lines if ": error: " in line]
    return (said or lines or [None])[-1]


def find_result(path: str) -> list[str]:
    """What the log of `collect_metrics` says after its table."""
    text = Path(path).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if ": peak memory " not in line]
    return lines[max(number for number, line in enumerate(lines) if line.startswith("* ")) :]


def list_next_steps(network: str) -> list[str]:
    """Three commands for what a finished run has left."""
    images = "--images DIR --output predictions.csv"
    if os.environ.get("MAKELEVEL"):
        folder = os.path.relpath(Path(sys.executable).parent)
        return ["make report", "make explore", f"{folder}/mtl-sa predict --network {network} {images}"]
    command = shlex.split(read_plan(network).get("command", "snakemake --cores all"))
    report, explorer = (shlex.join([command[0], target, *command[1:]]) for target in ("report", "explorer"))
    return [
        f"{report} && {report} --report report.zip",
        explorer,
        f"mtl-sa predict --network {shlex.quote(network)} {images}",
    ]


class EpochHandler(LogHandlerBase):
    """Snakemake's log, boiled down. With --verbose or --quiet progress, and in dry runs, it is Snakemake's log."""

    writes_to_stream = True
    writes_to_file = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        # Asked to be quiet about progress, Snakemake does not say when a job has ended.
        kept_back = {Quietness.PROGRESS, Quietness.ALL} & set(self.common_settings.quiet or ())
        self.boils_down = not (self.common_settings.verbose or self.common_settings.dryrun or kept_back)
        if self.boils_down:
            os.environ[SILENCE] = "1"
        self._progress = Progress()
        self._jobs: dict[int, logging.LogRecord] = {}
        self._failed: set[int] = set()
        self._network: str | None = None
        self._is_live = False

    @property
    def has_filter(self) -> bool:
        """Whether it looks at all records, not only at those that --quiet leaves."""
        return self.boils_down

    def emit(self, record: logging.LogRecord) -> None:
        """Print what is worth it."""
        try:
            if self.boils_down:
                self._follow(record)
            elif text := self.format(record):
                print(text, file=sys.stderr, flush=True)
        except BrokenPipeError:
            # Whoever read the output has gone; the run goes on.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say what to do next, where a run was finished."""
        if self._network and not self._failed:
            self._say("next:", *(f"  {step}" for step in list_next_steps(self._network)))
        elif self._is_live:
            self._say()
        self._network = None
        super().close()

    def _follow(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            # Jobs by rule.
            stats = getattr(record, "stats", {})
            self._progress.n_epochs = stats.get("evaluate_network", 0)
            self._progress.n_runs = stats.get("collect_metrics", 1)
        elif event == LogEvent.JOB_INFO:
            self._jobs[record.jobid] = record
            self._show(record)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(self._jobs.pop(record.job_id, None))
        elif event == LogEvent.JOB_ERROR:
            if record.jobid not in self._failed:
                self._failed.add(record.jobid)
                rule, log = record.rule_name, [*record.log, "no log"][0]
                said = find_error(log) or f"{rule}: ended without a word"
                self._say(said, f"  all that {rule} said: {log}", to=sys.stderr)
        elif event in (None, LogEvent.ERROR, LogEvent.GROUP_ERROR):
            # That a command failed, Snakemake says with all of the command; the job's own word comes next.
            if record.levelno >= logging.WARNING and "CalledProcessError" not in record.getMessage():
                self._say(self.format(record), to=sys.stderr)
            elif record.getMessage().startswith(NOTHING_TO_DO):
                self._say(record.getMessage())

    def _finish(self, job: logging.LogRecord | None) -> None:
        rule = job.rule_name if job else None
        if rule == "evaluate_network":
            self._say(self._progress.describe_epoch(job.output[0], time.monotonic()))
        elif rule == "collect_metrics":
            label = f"{name_run(job.output[0])}: " if self._progress.n_runs > 1 else ""
            self._say(*(f"{label}{line}" for line in find_result(job.log[0])))
            self._network = self._network or job.output[1]

    def _show(self, job: logging.LogRecord) -> None:
        """On a terminal: what has begun just now, on a line that the next one replaces."""
        if sys.stdout.isatty() and job.output:
            number = re.search(r"/epoch-0*(\d+)/", job.output[0])
            where = f"epoch {number[1]:>3}  " if number else ""
            text = f"{where}{job.rule_name} …"
            print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
            self._is_live = True

    def _say(self, *lines: str, to=None) -> None:
        if self._is_live:
            print("\r\033[K", end="", flush=True)
            self._is_live = False
        for line in lines:
            print(line, file=to or sys.stdout, flush=True)
