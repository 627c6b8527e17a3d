"""A run through a real SLURM of one node leaves what a run on this machine leaves, whatever happens to the queue."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import copy_project
from tests.workflow.test_pipeline import digest_results

SCRIPT = Path(__file__).with_name("cluster.sh")
TOOLS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
SECONDS = 900
"""After which a run that hangs counts as failed."""


def find_obstacle():
    """Why there can be no SLURM here; None where there can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed; see tests/slurm/cluster.sh"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed"
    if os.getuid():
        return "SLURM's daemons are started as root"
    try:
        local = socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        local = False
    return None if local else f"{socket.gethostname()} does not resolve to 127.0.0.1; add it to /etc/hosts"


OBSTACLE = find_obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


class Cluster:
    """A running SLURM, by the folder that it keeps everything in."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "etc/slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def control(self, action):
        subprocess.run([SCRIPT, action, self.folder], check=True)

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def wait_for_job(self, name, run):
        """Number of a job that is running, by the beginning of its comment."""
        while run.poll() is None:
            for line in self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%i %k").splitlines():
                number, _, comment = line.partition(" ")
                if comment.startswith(name):
                    return number
            time.sleep(0.3)
        pytest.fail(f"the run ended with {run.returncode} before a job {name} was seen")

    def list_jobs(self):
        """State and memory of all jobs there were, by comment, in the order of their submission."""
        table = self.ask("sacct", "-X", "--noheader", "--parsable2", "--format=Comment,State,AllocTRES")
        jobs = {}
        for line in table.splitlines():
            comment, state, allocated = line.split("|")
            jobs.setdefault(comment, []).append((state.split()[0], re.search(r"mem=(\w+)", allocated)[1]))
        return jobs


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.control("start")
        yield cluster
    finally:
        cluster.control("stop")


def start_run(project, cluster, log):
    """The shipped profile, but for how long it waits."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--profile", "workflow/profiles/slurm"]
    command += ["--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "10"]
    return subprocess.Popen(
        command, cwd=project.folder, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT, text=True
    )


def wait_for_output(folder, pattern, run):
    """Wait until a stage itself runs, not only what starts it."""
    while not list(folder.glob(pattern)) and run.poll() is None:
        time.sleep(0.1)


def find_children(process):
    """Command lines of the processes that a process has started."""
    lines = subprocess.run(
        ["ps", "--no-headers", "-o", "args", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return lines.stdout.splitlines()


def test_a_cancelled_job_and_a_new_controller_leave_the_results_of_a_local_run(cluster, tmp_path_factory):
    project, local = (copy_project(tmp_path_factory.mktemp(name)) for name in ("scheduled", "local"))
    path_log, logs = project.folder / "run.log", project.folder / "logs/tiny/seed-0/mtl_sa"
    with path_log.open("w") as log:
        run = start_run(project, cluster, log)
        try:
            number = cluster.wait_for_job("rule_train_epoch", run)
            wait_for_output(logs, "epoch-001/train_epoch.log", run)
            cluster.ask("scancel", number)
            children = find_children(run)
            # Not amid a group: its next step would wait for two minutes.
            wait_for_output(logs, "epoch-002/train_epoch.log", run)
            cluster.control("restart-controller")
            run.wait(timeout=SECONDS)
        finally:
            run.kill()
    assert run.returncode == 0, path_log.read_text()
    assert not [line for line in children if "warm_start" in line]
    assert "compute.device: auto looks at this machine" in path_log.read_text()
    local.snakemake("--cores", "2")
    assert digest_results(project.results) == digest_results(local.results)
    assert project.plan() == {}

    jobs = cluster.list_jobs()
    assert jobs.pop("rule_train_epoch_wildcards_0_mtl_sa_001") == [("CANCELLED", "8000M"), ("COMPLETED", "16000M")]
    assert {state for of_job in jobs.values() for state, _ in of_job} == {"COMPLETED"}
    weighings = [of_job for comment, of_job in jobs.items() if comment.startswith("rule_weights")]
    # Of both epochs, each with five jobs.
    assert [len(of_job) for of_job in weighings] == [2]
    assert sum(map(len, jobs.values())) == 25 - 2 * (5 - 1) - 1, jobs
