"""SIGKILL at random moments, and machines that stop: the same command goes on, to the same bits.

`FAULT_KILLS=100 pytest tests/faults/test_kills.py` kills that often; `FAULT_SEED` draws other moments.
"""

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import ROOT, kill_all, wait_until

N_KILLS = int(os.environ.get("FAULT_KILLS", "10"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
LONGEST = float(os.environ.get("FAULT_SECONDS", "12"))
"""A moment is drawn up to so many seconds after a start: about what a whole run takes."""


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(make_place, reference, capsys):
    rng = random.Random(SEED)
    place, n_kills, n_finished, n_alone, n_early = make_place(), 0, 0, 0, 0
    n_left = 0

    def check(place):
        nonlocal n_left
        for empty in [*place.temporary.glob("snakemake*")]:
            empty.rmdir()
            n_left += 1
        place.check_finished(reference)

    while n_kills < N_KILLS:
        run = place.start()
        # Every third kill hits Snakemake alone.
        alone = n_kills % 3 == 2
        try:
            run.wait(rng.uniform(0.5, LONGEST))
        except subprocess.TimeoutExpired:
            n_kills += 1
            n_alone += alone
            alive = place.folder / ".snakemake/alive"
            # Of Snakemake itself, which has not read the Snakefile yet.
            n_early += not (alive.exists() and str(run.pid) in alive.read_text())
            if alone:
                run.kill()
                run.wait()
            else:
                kill_all(run)
            continue
        assert run.returncode == 0, place.output()
        check(place)
        place, n_finished = make_place(), n_finished + 1
    status, output = place.run()
    assert status == 0, output
    check(place)
    assert n_left <= n_early
    with capsys.disabled():
        print(
            f"\n{n_kills} kills, {n_alone} of Snakemake alone; {n_finished + 1} runs ended, all to the same bits; "
            f"{n_left} empty folders of Snakemake's stayed behind"
        )


WRITES = (
    "data/snapshots/train.npy",
    "data/snapshots/train.parquet",
    "seed-0/initial/optimizer.safetensors",
    "seed-0/initial/checkpoint.json",
    "epoch-001/features/portraits.parquet",
    "epoch-001/pose/snapshots/mixture/labeled.parquet",
    "epoch-001/pose/snapshots/labels.parquet",
    "epoch-001/network.safetensors",
    "seed-0/mtl_sa/metrics.parquet",
)
"""Of every format that a run writes and of most of its stages, in their order."""
STOP_AT_HALF = """
import os, time

complete = os.fsync

def fsync(file):
    name = os.readlink(f"/proc/self/fd/{file}")
    folder, wanted = os.path.split(os.environ["STOP_AT"])
    if os.path.dirname(name).endswith(folder) and os.path.basename(name).startswith("." + wanted):
        os.ftruncate(file, os.fstat(file).st_size // 2)
        with open(os.environ["STOP_MARK"], "w") as mark:
            mark.write(name)
        time.sleep(1000)
    complete(file)

os.fsync = fsync
"""


def test_a_kill_within_any_kind_of_write_leaves_nothing_half_written(make_place, reference):
    """What of a file has reached the disk has no name that anything reads, and goes with the next run."""
    place = make_place()
    patch = place.folder.parent / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(STOP_AT_HALF)
    for number, name in enumerate(WRITES):
        mark = place.folder.parent / f"mark-{number}"
        environment = {"PYTHONPATH": f"{patch}{os.pathsep}{ROOT}", "STOP_AT": name, "STOP_MARK": str(mark)}
        run = place.start(environment=environment)
        wait_until(lambda mark=mark, run=run: mark.exists() or run.poll() is not None)
        assert run.poll() is None, f"{name}: {place.output()}"
        kill_all(run)
        half = Path(mark.read_text())
        assert half.exists()
        assert not half.with_name(Path(name).name).exists()
    status, output = place.run()
    assert status == 0, output
    place.check_finished(reference)


@pytest.fixture(scope="module")
def stopped_once(make_place):
    place = make_place()
    run = place.start()
    place.wait_for("results/tiny/seed-0/mtl_sa/epoch-001/**/density.parquet", process=run)
    kill_all(run)
    return place


@pytest.fixture
def stopped(make_place, stopped_once):
    """A run that was killed in its first epoch."""
    place = make_place()
    shutil.copytree(stopped_once.folder, place.folder, dirs_exist_ok=True)
    return place


def test_what_a_stopped_machine_left_half_written_is_made_anew(stopped, reference):
    """No write of this project leaves that; a disk that lies about what it has written may."""
    place = stopped
    alive = place.folder / ".snakemake/alive"
    alive.write_text(re.sub(r"^(\S+) \S+", r"\1 earlier", alive.read_text()))
    epoch = "seed-0/mtl_sa/epoch-001"
    half = ["data/portraits/train.npy", "seed-0/initial/network.safetensors", f"{epoch}/pose/snapshots/density.parquet"]
    empty = ["data/snapshots/test.parquet", f"{epoch}/features/snapshots.parquet"]
    for name in half:
        os.truncate(place.results / name, (place.results / name).stat().st_size // 2)
    for name in empty:
        os.truncate(place.results / name, 0)
    for file in [*place.folder.glob(".snakemake/metadata/*"), *place.folder.glob(".snakemake/*.json")][::2]:
        os.truncate(file, 0)
    status, output = place.run()
    assert status == 0, output
    for name in half + empty:
        assert re.search(rf"^results/tiny/{name}: .*; deleted$", output, re.MULTILINE), name
    network = "seed-0/mtl_sa/network.safetensors"
    assert (place.results / network).read_bytes() == (reference.results / network).read_bytes()


def test_a_half_written_file_is_named_by_the_stage_that_reads_it(stopped, reference):
    place = stopped
    path = place.results / "data/portraits/train.npy"
    os.truncate(path, path.stat().st_size // 2)
    status, output = place.run()
    assert status == 1
    line = "initialize_network: error: results/tiny/data/portraits/train.npy: .*delete it and run snakemake again"
    assert re.search(f"^{line}$", output, re.MULTILINE)
    path.unlink()
    status, output = place.run()
    assert status == 0, output
    place.check_finished(reference)
