"""SIGKILL at random moments, and machines that stop: the same command goes on, to the same bits.

`FAULT_KILLS=100 pytest tests/faults/test_kills.py` kills that often; `FAULT_SEED` draws other moments.
"""

import os
import random
import re
import shutil
import subprocess

import pytest

from tests.faults.conftest import kill_all

N_KILLS = int(os.environ.get("FAULT_KILLS", "3"))
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
