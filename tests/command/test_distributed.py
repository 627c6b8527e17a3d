"""Stages as several processes: they start, end and fail together, and one of them speaks."""

import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from stages.command.distributed import explain_failure
from stages.command.stage import INTERRUPTED, PEER_ENDED
from stages.core.errors import UserError
from stages.storage.contracts import CHECKPOINT, FEATURES
from stages.storage.files import read_json
from stages.storage.tables import read_table
from tests.workflow.conftest import ROOT

INITIALIZE = "stages.epoch.initialize_network"
ENDLESS = ("--passes", "100000")


@pytest.fixture(scope="module")
def ran(run):
    """The joint training of `run`, with two processes."""
    done = call([sys.executable], initialize(run, "two"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("epoch   0  joint training on 68 samples: loss expression ")
    assert done.stdout.count("\n") == 1
    return run


def initialize(run, name, *options, devices=2):
    return [
        *("-m", INITIALIZE, "--tables", str(run.faces.table), str(run.heads.table)),
        *("--images", str(run.faces.images), str(run.heads.images)),
        *("--backbone", "vgg_tiny", "--head-features", "6", "--mean", "0.5", "--std", "0.5"),
        *("--passes", "2", "--batch-size", "8", "--learning-rate", "0.003", "--threads", "1", "--device", "cpu"),
        *("--devices", str(devices), *run.outputs(name), *options),
    ]


def extract(run, name, *options):
    files = run.checkpoint("two")
    return [
        *("-m", "stages.epoch.extract_features", "--network", str(files["network"]), "--card", str(files["card"])),
        *("--table", str(run.heads.table), "--images", str(run.heads.images), "--tasks", "pose", "expression"),
        *("--batch-size", "7", "--threads", "1", "--device", "cpu", "--output", str(run.folder / name), *options),
    ]


def call(program, arguments):
    return subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def read_network(run, name):
    return load_file(run.checkpoint(name)["network"])


def assert_close(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_two_processes_train_what_one_does_and_say_so(ran):
    assert_close(read_network(ran, "two"), read_network(ran, "initial"))
    one, two = (read_json(ran.checkpoint(name)["card"], CHECKPOINT) for name in ("initial", "two"))
    assert [card["parameters"]["devices"] for card in (one, two)] == [1, 2]
    assert two["n_samples"] == one["n_samples"]
    for task, losses in one["losses"].items():
        found = two["losses"][task]
        assert (found["labels"], found["n_samples"]) == (losses["labels"], losses["n_samples"])
        assert found["cross_entropy"] == pytest.approx(losses["cross_entropy"], rel=1e-5)


def test_the_features_of_two_processes_are_those_of_one_to_the_bit(ran):
    (ran.folder / "apart").mkdir()
    for name, devices in (("features.parquet", 1), ("apart/features.parquet", 2)):
        done = call([sys.executable], extract(ran, name, "--devices", str(devices)))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1
    one, two = (read_table(ran.folder / name, FEATURES) for name in ("features.parquet", "apart/features.parquet"))
    assert one["sample_id"].tolist() == two["sample_id"].tolist() == list(range(38))
    for name, values in one.columns.items():
        assert values.tobytes() == two[name].tobytes(), name


def test_a_failure_of_all_is_said_once_and_leaves_nothing(ran):
    done = call([sys.executable], initialize(ran, "diverged", "--learning-rate", "1e30"))
    assert done.returncode == 1
    assert done.stderr.startswith("initialize_network: error: the loss of batch ")
    assert done.stderr.count("\n") == 1
    assert not list((ran.folder / "diverged").glob("*"))


@pytest.fixture
def start(run):
    """Starts a training that does not end by itself; gives it and its two processes once they have begun it."""
    started = []

    def begin(name):
        command = [sys.executable, *initialize(run, name, *ENDLESS)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            workers = psutil.Process(process.pid).children()
            # Gloo has a thread in each that listens to the other.
            if len(workers) == 2 and all(worker.cpu_times().user > 1 and joined(worker) for worker in workers):
                return process, workers
            time.sleep(0.1)
        pytest.fail("the processes did not begin")

    yield begin
    for process in started:
        # Its two die with it.
        process.kill()
        process.wait()
        process.stderr.close()


def joined(worker):
    return len([one for one in worker.net_connections() if one.status == "ESTABLISHED"]) > 1


def check_ended(run, name, process, workers, status, line):
    assert process.communicate(timeout=60)[1] == line
    assert process.returncode == status
    psutil.wait_procs(workers, timeout=20)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    assert not list((run.folder / name).glob("*"))
    assert not list((run.folder / name).glob(".*"))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others(run, start, victim):
    process, workers = start("killed")
    workers[victim].kill()
    line = f"initialize_network: error: process {victim + 1} of 2 was killed (SIGKILL); run snakemake again\n"
    check_ended(run, "killed", process, workers, 1, line)


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, INTERRUPTED, "initialize_network: interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_a_signal_ends_all(run, start, number, status, line):
    process, workers = start("ended")
    process.send_signal(number)
    check_ended(run, "ended", process, workers, status, line)


def test_signals_to_all_of_them_again_and_again_are_one_line(run, start):
    """As a run that is interrupted sends them."""
    process, workers = start("ended")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for one in [psutil.Process(process.pid), *workers]:
            if one.is_running():
                one.send_signal(signal.SIGINT)
        time.sleep(0.05)
    check_ended(run, "ended", process, workers, INTERRUPTED, "initialize_network: interrupted\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they end when they next hear of each other")
def test_no_process_outlives_the_one_that_started_it(run, start):
    process, workers = start("orphans")
    process.kill()
    process.communicate()
    check_ended_alone = psutil.wait_procs(workers, timeout=20)
    assert not check_ended_alone[1]


def test_another_launcher_may_start_them_on_several_machines(ran, tmp_path, monkeypatch):
    """A stand-in for srun starts torchrun on two machines, as it were, with a process each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        monkeypatch.setenv("ADDRESS", f"localhost:{free.getsockname()[1]}")
    (tmp_path / "srun").write_text('#!/bin/sh\n"$@" & first=$!; "$@" && wait $first\n')
    (tmp_path / "srun").chmod(0o755)
    torchrun = f"{sys.executable} -m torch.distributed.run --nnodes 2 --nproc-per-node 1"
    torchrun += " --rdzv-backend c10d --rdzv-endpoint $ADDRESS --rdzv-id test"
    monkeypatch.setenv("STAGE_LAUNCHER", f"{tmp_path}/srun {torchrun}")
    done = call([sys.executable], initialize(ran, "nodes"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("joint training on 68 samples") == done.stdout.count("\n") == 1
    assert all(torch.equal(value, read_network(ran, "two")[name]) for name, value in read_network(ran, "nodes").items())


def test_torchrun_must_start_as_many_as_were_asked_for(run):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = call(torchrun, initialize(run, "wrong", devices=3))
    assert done.returncode == 1
    assert "--devices is 3, but torchrun has started 2 processes; make them equal" in done.stderr


def test_a_failure_that_nobody_has_explained_is():
    assert explain_failure({0: PEER_ENDED, 1: 1}, 2) == 1
    with pytest.raises(UserError, match=r"process 2 of 2 was killed \(SIGKILL\)"):
        explain_failure({0: PEER_ENDED, 1: -signal.SIGKILL}, 2)
    with pytest.raises(KeyboardInterrupt):
        explain_failure({0: INTERRUPTED, 1: PEER_ENDED}, 2)
    with pytest.raises(UserError, match="the 2 processes have lost each other"):
        explain_failure({0: PEER_ENDED}, 2)
