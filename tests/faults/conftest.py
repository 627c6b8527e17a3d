"""Runs in folders of their own, to be disturbed; afterwards nothing of them may be left but results.

What else can go wrong is tested where it belongs:

* damaged, swapped, missing artifacts: tests/epoch/test_damaged_inputs.py, tests/storage/, tests/workflow/test_verify.py
* bad images, decompression bombs, processes that are killed while they decode: tests/data/test_prepare_images.py
* paths out of the data: tests/data/sources/test_table.py; odd names: there, tests/tools/ and tests/report/
* names in report, explorer and cards: tests/report/, tests/browser/test_page.py
* servers and clients that die, one by one: tests/command/test_warm_start.py
* densities, mixtures and flows of degenerate inputs: tests/core/
* settings, data or disk that will not do: tests/workflow/test_pipeline.py, tests/tools/test_check_experiment.py
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from stages.storage.verification import examine, read_plan
from tests.workflow.conftest import TINY
from workflow.recovery import MARK

ROOT = Path(__file__).parents[2]
ENDLESS = {**TINY, "training": {**TINY["training"], "initial_epochs": 1_000_000}}
"""Its joint training does not end within a test."""


@dataclass
class Place:
    """A folder with a config, and beside it a temporary folder that nobody else uses."""

    folder: Path
    temporary: Path

    @property
    def results(self):
        return self.folder / "results/tiny"

    @property
    def job_log(self):
        """Of the first training."""
        return self.folder / "logs/tiny/seed-0/initial/initialize_network.log"

    def write_config(self, settings):
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))

    def start(self, *options, stdout=None, prepare=lambda: None, **others):
        """`mtl-sa run`, alone in its process group, where `prepare` is called; its output is kept by default."""

        def begin():
            # Where the tests themselves run under nohup, a run would rightly live on.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            prepare()

        environment = {name: text for name, text in os.environ.items() if name not in (MARK, "STAGE_SERVERS")}
        environment |= {"TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)} | others.pop("environment", {})
        command = [sys.executable, "-m", "stages.command.console", "run", "tiny.yaml", "--cores", "2", *options]
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={name: text for name, text in environment.items() if text is not None},
                stdin=subprocess.DEVNULL,
                stdout=stdout or output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=begin,
                **others,
            )

    def run(self, *options, **others):
        """Exit status and output of `mtl-sa run`."""
        (self.folder / "output.txt").unlink(missing_ok=True)
        status = self.start(*options, **others).wait(300)
        return status, self.output()

    def output(self):
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    def wait_for(self, *patterns, process):
        """Until a file of each pattern is there, below the folder of the run."""
        wait_until(lambda: all(any(self.folder.glob(pattern)) for pattern in patterns) or process.poll() is not None)
        assert process.poll() is None, self.output()

    def start_training(self, **others):
        """A run in the middle of its joint training."""
        self.write_config(ENDLESS)
        process = self.start(**others)
        self.wait_for("logs/tiny/seed-0/initial/initialize_network.log", process=process)
        # The server and the job that it has forked.
        wait_until(lambda: sum("network" in one.info["cmdline"] for one in find_processes(self.folder)) == 2)
        return process

    def digests(self):
        """Of the network, and of every table but those with times in them."""
        return {
            path.relative_to(self.results).as_posix(): path.read_bytes()
            for pattern in ("**/network.safetensors", "**/optimizer.safetensors", "**/*.parquet", "**/*.npy")
            for path in self.results.glob(pattern)
        }

    def check_finished(self, reference):
        """The same results as those of an undisturbed run, to the bit, and all that a run leaves."""
        found, expected = self.digests(), reference.digests()
        assert found.keys() == expected.keys()
        assert [path for path in found if found[path] != expected[path]] == []
        findings = examine(self.results, read_plan(self.results))
        assert findings.n_problems == 0
        assert findings.left_over == []
        self.check_clean()

    def check_clean(self):
        """Neither processes nor sockets, temporary files, locks and marks of incomplete files."""
        wait_until(lambda: not find_processes(self.folder), seconds=5)
        assert self.list_temporary() == []
        assert list(self.folder.glob("results/**/.*")) == []
        state = self.folder / ".snakemake"
        assert [*state.glob(".*"), *state.glob("shell_tmp.*"), *state.glob("locks/*")] == []
        assert [path for path in state.glob("incomplete/**/*") if path.is_file()] == []

    def list_temporary(self):
        """All but the empty folder that torch makes for its compiler, once and for all."""
        return [name for name in os.listdir(self.temporary) if not name.startswith("torchinductor_")]

    def plan(self):
        """What a dry run of plain Snakemake says; it refuses incomplete files."""
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--configfile", "tiny.yaml", "-n"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def find_processes(folder):
    """All that a run in a folder has started, and that is still alive."""
    return [
        process
        for process in psutil.process_iter(["environ", "status", "cmdline"])
        if (process.info["environ"] or {}).get(MARK) == str(folder) and process.info["status"] != "zombie"
    ]


def kill_all(process):
    """Kill a run: Snakemake and all that it has started."""
    with suppress(psutil.Error):
        tree = psutil.Process(process.pid).children(recursive=True)
        for one in (psutil.Process(process.pid), *tree):
            with suppress(psutil.Error):
                one.kill()
    process.wait()


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def make_place():
    """Makes places; their paths are short, as those of sockets must be."""
    root = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    root.chmod(0o755)
    places = []

    def make(name="run"):
        base = root / str(len(places))
        place = Place(base / name, base / "t")
        place.folder.mkdir(parents=True)
        place.temporary.mkdir()
        place.write_config(TINY)
        places.append(place)
        return place

    yield make
    for place in places:
        for process in find_processes(place.folder):
            with suppress(psutil.Error):
                process.kill()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def reference(make_place):
    """A run that nothing disturbed; not to be changed."""
    place = make_place()
    status, output = place.run()
    assert status == 0, output
    place.check_clean()
    return place


@pytest.fixture
def place(make_place, reference):
    """A place where only the images are prepared."""
    place = make_place()
    shutil.copytree(reference.folder, place.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("seed-0", "log*"))
    return place
