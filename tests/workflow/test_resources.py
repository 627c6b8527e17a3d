"""What jobs ask of a scheduler, and that those of one machine queue for its card."""

import re

import pytest
import yaml

from tests.workflow.conftest import ROOT
from workflow.resources import MEMORY_AND_TIME, ON_CARDS, ON_SEVERAL, list_resources

RULES = set(re.findall(r"^rule (\w+):", "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk")), re.M))
PROFILE = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
STAND_IN = """
import sys, time
from pathlib import Path
started = time.time()
time.sleep(0.5)
for option, path in zip(sys.argv, sys.argv[1:]):
    if option.startswith("--output"):
        Path(path).write_text("")
with open("spans", "a") as file:
    print(started, time.time(), file=file)
"""
"""Takes the place of a stage that would need a card."""


def test_a_further_attempt_asks_for_twice_as_much():
    for rule in RULES:
        asked = list_resources(rule, "cpu")
        amounts = [[asked[name](None, attempt) for name in ("mem_mb", "runtime")] for attempt in (1, 2, 3)]
        assert amounts[1] == [2 * amount for amount in amounts[0]]
        assert amounts[2] == [4 * amount for amount in amounts[0]]


def test_every_rule_that_runs_something_asks_under_its_own_name():
    for path in ROOT.glob("workflow/rules/*.smk"):
        for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S):
            assert ("shell:" in body) == (f'**ask("{rule}")' in body), rule


def test_tables_and_profile_name_rules():
    named = {*MEMORY_AND_TIME, *ON_CARDS, *ON_SEVERAL, *PROFILE["groups"], *PROFILE["set-threads"]}
    assert not named - RULES


@pytest.mark.parametrize(("device", "expected"), [("cuda", set(ON_CARDS)), ("cpu", set())])
def test_networks_ask_for_a_card_where_they_run_on_one(project, device, expected):
    project.write_config("tiny.yaml", compute__device=device)
    output = project.snakemake("--dry-run", "--cores", "16").stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|^(?:local)?rule|\Z)", output, re.M | re.S)
    assert {rule for rule, body in jobs if re.search(r"resources:.*\bgpu=1\b", body)} == expected
    assert len(jobs) == 26


def test_each_of_several_processes_has_a_card_memory_and_threads_of_its_own(project):
    alone, three = (list_resources("train_epoch", "cuda", devices) for devices in (1, 3))
    assert (alone["gpu"], three["gpu"]) == (1, 3)
    assert three["mem_mb"](None, 1) == 3 * alone["mem_mb"](None, 1)
    assert list_resources("evaluate_network", "cuda", 3)["gpu"] == 1
    # Where all see the same cards and take the first, nothing else may run meanwhile.
    assert list_resources("evaluate_network", "cuda", 3, shared=True)["gpu"] == 3
    assert "gpu" not in list_resources("train_epoch", "cpu", 3)
    project.write_config("tiny.yaml", training__devices=3, compute={"device": "cuda", "threads": 2})
    output = project.snakemake("--dry-run", "--cores", "16").stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|^(?:local)?rule|\Z)", output, re.M | re.S)
    for rule, threads in (dict.fromkeys(ON_SEVERAL, 6) | {"evaluate_network": 2}).items():
        bodies = [body for name, body in jobs if name == rule]
        assert bodies
        assert all(f"threads: {threads}\n" in body and re.search(r"\bgpu=3\b", body) for body in bodies), rule


@pytest.mark.parametrize(("limit", "together"), [((), 1), (("--resources", "gpu=3"), 3)])
def test_trainings_on_one_machine_queue_for_its_card(project, limit, together):
    project.write_config("tiny.yaml", compute={"device": "cuda", "warm_start": False}, seeds=[0, 1, 2])
    (project.folder / "stages/epoch/initialize_network.py").write_text(STAND_IN)
    targets = [f"results/tiny/seed-{seed}/initial/network.safetensors" for seed in range(3)]
    project.snakemake("--cores", "8", *limit, "--", *targets)
    spans = [tuple(map(float, line.split())) for line in (project.folder / "spans").read_text().splitlines()]
    assert len(spans) == 3
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == together
