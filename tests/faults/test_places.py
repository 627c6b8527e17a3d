"""Folders that are full, forbidden or oddly named, and bare environments."""

import csv
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from stages.storage.contracts import MANIFEST, WEIGHTS
from stages.storage.tables import read_table
from tests.faults.conftest import ROOT, find_processes, wait_until
from tests.workflow.conftest import TINY, copy_project

HUMBLE = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""For root permissions count only without its powers."""


@pytest.fixture(autouse=True)
def humble(monkeypatch):
    if HUMBLE and shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv to give up its powers")


def start_humbly(place, *options, **environment):
    """`mtl-sa run` without any power of root; a value of None takes a variable away."""
    command = [*HUMBLE, sys.executable, "-m", "stages.command.console", "run", "tiny.yaml", "--cores", "2", *options]
    known = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(place.temporary)} | environment
    return subprocess.run(
        command,
        cwd=place.folder,
        env={name: text for name, text in known.items() if text is not None and name != "STAGE_RUN"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (
            "results/tiny",
            "check_experiment: error: results/tiny: results/tiny cannot be written to; ask for permission, or run in "
            "another folder (--directory)\n",
        ),
        ("results/tiny/seed-0", "[Errno 13] Permission denied: 'results/tiny/seed-0/initial'\n"),
    ],
)
def test_results_that_cannot_be_written_are_said_and_left_alone(place, folder, message):
    (place.results / "seed-0").mkdir()
    before = place.digests()
    (place.folder / folder).chmod(0o555)
    done = start_humbly(place)
    (place.folder / folder).chmod(0o755)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert place.digests() == before
    place.check_clean()


def fill(path):
    """As long as the disk has room."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(2**12)):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk to be filled must be mounted")
def test_a_full_disk_stops_a_run_and_room_lets_it_go_on(make_place, reference):
    place = make_place()
    disk = place.folder / "results"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        run = place.start()
        place.wait_for("results/tiny/seed-0/initial/checkpoint.json", process=run)
        fill(disk / "filler")
        assert run.wait(120) == 1
        output = place.output()
        assert "the disk is full; free some space and run it again" in output
        assert "Traceback" not in output
        wait_until(lambda: not find_processes(place.folder))
        assert list(disk.glob("**/.*")) == []
        # Whatever has its final name is whole.
        known = reference.digests()
        assert all(content == known[path] for path, content in place.digests().items())
        status, output = place.run()
        assert status == 1
        assert "check_experiment: error: results/tiny: this run needs about" in output
        (disk / "filler").unlink()
        status, output = place.run()
        assert status == 0, output
        place.check_finished(reference)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)


def test_a_temporary_folder_that_cannot_be_written_is_done_without(place):
    place.temporary.chmod(0o555)
    done = start_humbly(place, "--", "results/tiny/seed-0/initial/checkpoint.json")
    place.temporary.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert (place.results / "seed-0/initial/checkpoint.json").exists()
    place.check_clean()


NAMES = ["Größe 'L'", 'a "b" <i>c</i>', "$(touch pwned); `touch pwned`", "{input} {wildcards.x} %s \\n", "two\nlines"]


def draw_table(folder):
    """Images of five shades under names that shells, templates and browsers might take for more."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for number in range(40):
            shade, part = number % 5, "train" if number < 30 else "test"
            name = f"{NAMES[shade].replace('/', '|')} {number}.png"
            pixels = (rng.integers(0, 60, (8, 8)) + 40 * shade).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
            writer.writerow([name, NAMES[shade], part])


def test_a_bare_environment_odd_names_links_and_a_read_only_checkout(make_place):
    """All at once: what works together works alone."""
    place = make_place("mit 'Ümlaut' $(touch pwned)")
    code, real = place.folder.parent / "köd {x}", place.folder.parent / "wo anders"
    code.mkdir()
    copy_project(code)
    for bytecode in code.rglob("__pycache__"):
        shutil.rmtree(bytecode)
    draw_table(real / "shades")
    (place.folder / "däta").symlink_to(real, target_is_directory=True)
    shades = {
        "task": "shade",
        "source": "table",
        "path": "shades/labels.csv",
        "columns": {"path": "path", "label": "label", "split": "split"},
        "split": "column",
    }
    datasets = {"portraits": TINY["datasets"]["portraits"], "shades": shades}
    training = {**TINY["training"], "epochs": 1}
    place.write_config({**TINY, "datasets": datasets, "training": training, "data_root": "däta"})
    subprocess.run(["chmod", "-R", "a-w", code], check=True)
    (place.folder / "läuft").mkdir()
    bare = dict.fromkeys(("HOME", "LANG", "USER", "LOGNAME", "XDG_CACHE_HOME"))
    try:
        done = start_humbly(place, "--directory", "läuft", **bare, LC_ALL="C", PYTHONPATH=str(code))
    finally:
        subprocess.run(["chmod", "-R", "u+w", code], check=True)
    assert done.returncode == 0, done.stderr
    results = place.folder / "läuft/results/tiny"
    manifest = read_table(results / "data/shades/train.parquet", MANIFEST)
    assert set(manifest["label_shade"]) == set(NAMES)
    assert (results / "seed-0/mtl_sa/network.safetensors").exists()
    assert not list(place.folder.parent.rglob("pwned"))
    assert not list(place.folder.parent.rglob("__pycache__"))
    assert place.list_temporary() == []
    # A name stays on its line.
    for log in (place.folder / "läuft/logs").rglob("*.log"):
        assert "\nlines" not in log.read_text(encoding="utf-8")


def test_two_runs_at_once_share_a_temporary_folder_and_one_has_nothing_to_learn_from(make_place, reference):
    """Two folders are two runs. The second has equal images and extreme settings, and still finite weights."""
    plain, odd = make_place(), make_place()
    odd.temporary = plain.temporary
    for number in range(30):
        path = odd.folder / f"grey/{'train' if number < 24 else 'test'}/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 128).save(path)
    grey = {"task": "shade", "source": "image_folder", "path": "grey", "split": "folders", "validation": 0.25}
    extremes = {
        "density": {"cutoff_quantile": 1},
        "transport": {"decay": 1e6},
        "labels": {"temperature": 1e-3},
        "training": {**TINY["training"], "learning_rate": 1e-9},
    }
    odd.write_config({**TINY, **extremes, "datasets": {"portraits": TINY["datasets"]["portraits"], "grey": grey}})
    runs = [place.start("--keep-going") for place in (plain, odd)]
    assert [run.wait(300) for run in runs] == [0, 0], plain.output() + odd.output()
    plain.check_finished(reference)
    odd.check_clean()
    tables = [read_table(path, WEIGHTS) for path in odd.results.glob("seed-0/mtl_sa/epoch-*/*/*/weights.parquet")]
    assert len(tables) == 2
    for table in tables:
        weights = table["selection_weight"]
        assert np.isfinite(weights).all()
        assert weights.min() >= 0
        assert weights.max() == 1
