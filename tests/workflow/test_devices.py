"""An experiment with `training.devices: 2`: from end to end, again, and after a kill."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.workflow.conftest import copy_project

CHANGES = {"training__devices": 2, "compute__device": "cpu"}


def prepare(folder, **changes):
    project = copy_project(folder)
    project.write_config("tiny.yaml", **CHANGES, **changes)
    return project


def read_bytes(project):
    """Of all artifacts but those that say how long something took."""
    kinds = ("safetensors", "npy", "parquet")
    paths = sorted(path for kind in kinds for path in project.results.rglob(f"*.{kind}"))
    return {path.relative_to(project.results).as_posix(): path.read_bytes() for path in paths}


def read_networks(project):
    paths = sorted(project.results.rglob("network.safetensors"))
    return {path.relative_to(project.results).as_posix(): load_file(path) for path in paths}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A finished run; not to be changed."""
    project = prepare(tmp_path_factory.mktemp("several"))
    project.snakemake("--cores", "2")
    return project


def test_two_processes_come_to_what_one_does_but_for_rounding(several, finished):
    found, expected = read_networks(several), read_networks(finished)
    assert found.keys() == expected.keys()
    assert len(found) == 4
    for path, tensors in expected.items():
        # The training labels of later epochs are made of what the network of the epoch before says.
        tolerance = 1e-5 if "initial" in path else 1e-4
        for name, value in tensors.items():
            torch.testing.assert_close(
                found[path][name], value, rtol=0, atol=tolerance, msg=lambda text, n=f"{path} {name}": f"{n}: {text}"
            )
    cards = sorted(several.results.rglob("checkpoint.json"))
    assert [json.loads(path.read_text())["parameters"]["devices"] for path in cards] == [2, 2, 2]


def test_it_says_what_one_process_says(several, finished):
    logs = [sorted((one.folder / "logs").rglob("*_*.log")) for one in (several, finished)]
    assert [path.name for path in logs[0]] == [path.name for path in logs[1]]
    for path, other in zip(*logs, strict=True):
        texts = [re.sub(r"\d+\.\d+|.*: peak memory .*\n", "", one.read_text()) for one in (path, other)]
        assert texts[0] == texts[1]


def test_nothing_is_left_to_do_and_all_of_it_is_whole(several):
    assert several.plan() == {}
    several.snakemake("--cores", "2", "verify")


def test_after_a_kill_and_without_warm_start_it_comes_to_the_same_bytes(several, tmp_path):
    project = prepare(tmp_path, compute__warm_start=False)
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "2"]
    with subprocess.Popen(command, cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as run:
        wait_for(lambda: find_trainers(run, "train_epoch"))
        for one in [*psutil.Process(run.pid).children(recursive=True), run]:
            one.kill()
    assert not list(project.results.rglob("epoch-001/network.safetensors"))
    output = project.snakemake(
        "--cores", "2", "--rerun-incomplete", "results/tiny/seed-0/mtl_sa/epoch-001/checkpoint.json"
    )
    assert "A run was killed here; its lock and what else it left are removed." in output.stdout
    assert "rule initialize_network" not in output.stdout
    found, expected = read_bytes(project), read_bytes(several)
    assert found.items() <= expected.items()
    assert "seed-0/mtl_sa/epoch-001/network.safetensors" in found


def find_trainers(run, stage):
    """The processes that run a stage together."""
    found = []
    for one in psutil.Process(run.pid).children(recursive=True):
        with suppress(psutil.Error):
            if f"stages.epoch.{stage}" in one.cmdline() and "RANK" in one.environ():
                found.append(one)
    return found


def wait_for(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
