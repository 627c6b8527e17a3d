"""A run that is told to end while it works: no partial file, no lock, a status, one line."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.faults.conftest import ENDLESS, ROOT, find_processes, wait_until

WAYS = {
    "Ctrl-C": (lambda run: os.killpg(run.pid, signal.SIGINT), "interrupted"),
    "SIGINT": (lambda run: run.send_signal(signal.SIGINT), "interrupted"),
    "SIGTERM": (lambda run: run.send_signal(signal.SIGTERM), "told to end (SIGTERM)"),
    "hangup": (lambda run: os.killpg(run.pid, signal.SIGHUP), "its terminal is gone"),
}


def check_ended(place, run):
    assert run.wait(30) == 1
    place.check_clean()
    assert not list(place.results.glob("**/initial/*"))


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_told_to_end_tidies_up_and_says_one_line(place, way):
    end, reason = WAYS[way]
    run = place.start_training()
    end(run)
    check_ended(place, run)
    # Both say so at the same time.
    line = f"snakemake: {reason}; the same command goes on from here"
    assert sorted(place.output().splitlines()[-2:]) == ["initialize_network: interrupted", line]
    assert place.job_log.read_text() == "initialize_network: interrupted\n"
    # Nor does plain Snakemake find anything to complain of.
    status, output = place.plan()
    assert status == 0
    assert "initialize_network" in output


def test_a_job_of_several_processes_ends_as_one(place):
    place.write_config({**ENDLESS, "training": {**ENDLESS["training"], "devices": 2}})
    run = place.start()
    wait_until(lambda: sum(trains(one) for one in find_processes(place.folder)) == 2)
    os.killpg(run.pid, signal.SIGINT)
    check_ended(place, run)
    line = "snakemake: interrupted; the same command goes on from here\n"
    assert place.output().endswith(f"{line}initialize_network: interrupted\n")
    assert place.job_log.read_text() == "initialize_network: interrupted\n"


def trains(process):
    """Whether it is one of several that work together, and has loaded what it needs."""
    with contextlib.suppress(psutil.Error):
        return "RANK" in process.environ() and process.cpu_times().user > 2
    return False


def test_a_run_ends_when_the_reader_of_its_output_does(place):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        run = place.start_training(stdout=reader.stdin)
        reader.stdin.close()
        reader.kill()
    check_ended(place, run)


def test_a_run_whose_reader_has_seen_enough_ends(place):
    """As `make run | head`: the reader leaves with the first line, while servers begin and jobs fail to write."""
    place.write_config(ENDLESS)
    with subprocess.Popen(["grep", "-m1", "will take about"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        run = place.start(stdout=reader.stdin)
        reader.stdin.close()
        assert b"results/tiny: will take about" in reader.stdout.read()
    assert run.wait(30) == 1
    place.check_clean()


def test_a_run_without_standard_output_goes_on(place):
    """Closed descriptors have no reader that could be gone."""
    run = place.start("results/tiny/data/snapshots/train.npy", prepare=lambda: os.close(1))
    assert run.wait(120) == 0
    place.check_clean()


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.2])
def test_an_interrupt_while_it_plans_is_one_line(place, seconds):
    run = place.start()
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(30) != 0
    place.check_clean()


def test_an_interrupt_while_servers_import_is_one_line(place):
    place.write_config(ENDLESS)
    run = place.start()
    wait_until(lambda: any(name.startswith("stages-") for name in os.listdir(place.temporary)))
    for _ in range(20):
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.02)
    assert run.wait(30) == 1
    place.check_clean()
    assert "Traceback" not in place.output()
    assert place.output().count("snakemake: interrupted; the same command goes on from here\n") == 1


def test_an_interrupt_while_a_stage_imports_is_one_line():
    command = [sys.executable, "-m", "stages.report.audit_weights", "--task", "x"]
    command += ["--weights-table", "no", "--audit-table", "no", "--output", "no"]
    environment = {**os.environ, "STAGE_RUN": str(ROOT)}
    for seconds in (0.1, 0.2, 0.3):
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        ) as stage:
            time.sleep(seconds)
            stage.send_signal(signal.SIGINT)
            errors = stage.communicate()[1]
        ends = {
            130: "audit_weights: interrupted\n",
            1: "audit_weights: error: no: does not exist; run snakemake for it first\n",
        }
        assert errors == ends[stage.returncode]


@pytest.mark.parametrize("warm", [True, False])
def test_what_snakemake_leaves_when_it_alone_is_killed_is_removed_by_the_next_run(place, warm):
    settings = {**ENDLESS, "compute": {**ENDLESS["compute"], "warm_start": warm}}
    place.write_config(settings)
    run = place.start()
    place.wait_for("logs/tiny/seed-0/initial/initialize_network.log", process=run)
    wait_until(lambda: len(find_processes(place.folder)) >= 3)
    run.kill()
    run.wait()
    if not warm:
        time.sleep(1)
        assert find_processes(place.folder), "a job outlives Snakemake"
    status, output = place.run("--dry-run")
    assert status == 0
    assert "A run was killed here; its lock and what else it left are removed." in output
    assert not find_processes(place.folder)
    assert place.list_temporary() == []
    assert list(place.folder.glob(".snakemake/locks/*")) == []


def test_a_killed_server_fails_its_job_with_one_line_and_a_rerun_goes_on(place):
    run = place.start_training()
    servers = [one for one in psutil.Process(run.pid).children() if "network" in one.cmdline()]
    assert len(servers) == 1
    servers[0].kill()
    assert run.wait(30) == 1
    assert place.job_log.read_text().endswith(
        "stages.epoch.initialize_network: error: its server was killed; run snakemake again\n"
    )
    place.check_clean()
    status, output = place.plan()
    assert status == 0
    assert "initialize_network" in output


def test_a_second_run_in_a_folder_is_refused_and_the_first_untouched(place):
    run = place.start_training()
    lock = sorted(place.folder.glob(".snakemake/locks/*"))
    status, output = place.run()
    assert status == 1
    line = f"Error: another run is at work on these files in {place.folder} (process {run.pid}); wait for it, or run "
    assert output.splitlines()[-1] == f"{line}in another folder (--directory)"
    assert place.run("--dry-run")[0] == 0
    assert lock
    assert sorted(place.folder.glob(".snakemake/locks/*")) == lock
    assert run.poll() is None
    run.terminate()
    check_ended(place, run)


def test_the_lock_of_another_workflow_or_machine_is_left_alone(place):
    locks = place.folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tiny/data/snapshots/train.npy\n")
    for alive in ("", "elsewhere - 1 /tmp\n", "\0\0\0"):
        (place.folder / ".snakemake/alive").write_text(alive)
        status, output = place.run()
        assert status == 1
        assert output.splitlines()[-1].startswith(f"Error: {place.folder} is locked by a run on another machine")
        assert (locks / "0.output.lock").exists()
