"""What `verify` finds in a finished run, and that the command it prints heals it to the same bits."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.storage.verification import read_plan
from stages.tools.verify_artifacts import main
from tests.workflow.conftest import TINY, Project, copy_project
from tests.workflow.test_pipeline import digest_results

RUN = "seed-0/mtl_sa"
KINDS = {
    "images": "data/snapshots/train.npy",
    "manifest": "data/portraits/test.parquet",
    "audit labels": "data/snapshots/audit/train.parquet",
    "features": f"{RUN}/epoch-002/features/portraits.parquet",
    "density": f"{RUN}/epoch-001/pose/snapshots/density.parquet",
    "mixture": f"{RUN}/epoch-001/pose/snapshots/mixture/labeled.parquet",
    "responsibilities": f"{RUN}/epoch-002/expression/portraits/responsibilities.parquet",
    "transport": f"{RUN}/epoch-002/expression/portraits/transport.parquet",
    "weights": f"{RUN}/epoch-001/pose/snapshots/weights.parquet",
    "labels": f"{RUN}/epoch-001/pose/snapshots/labels.parquet",
    "network": f"{RUN}/epoch-001/network.safetensors",
    "optimizer": f"{RUN}/epoch-002/optimizer.safetensors",
    "card": f"{RUN}/epoch-002/checkpoint.json",
    "evaluation": f"{RUN}/epoch-001/metrics.json",
    "metrics": f"{RUN}/metrics.parquet",
    "final network": f"{RUN}/network.safetensors",
    "audit": f"{RUN}/epoch-002/expression/portraits/audit.parquet",
    "comparison": "comparison.parquet",
    "comparison for people": "comparison.md",
    "times": "timing.md",
    "ONNX": f"{RUN}/network.onnx",
    "export": f"{RUN}/export.json",
    "model card": f"{RUN}/model_card.md",
}


COMPARISON = {"methods": ["mtl_sa", "all_in_one"], "seeds": [0], "last_epochs": 1}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A run that was compared and exported, not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("complete"))
    project.write_config("tiny.yaml", comparison=COMPARISON)
    project.snakemake("--cores", "2", "--", "all", "comparison", "export")
    return project


@pytest.fixture
def broken(complete, tmp_path):
    """A copy of it, to be broken."""
    shutil.copytree(complete.folder, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)


def verify(project):
    """Exit status and both outputs, as people see them."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.tools.verify_artifacts", "results/tiny"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(project.folder)},
    )
    return done.returncode, done.stdout, done.stderr


def paste(project, output, purpose):
    """Run the command that heals, in a shell."""
    command = output.split(f"To {purpose}", 1)[1].split("\n")[1].strip()
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PATH": paths},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return command


def flip(path):
    """Turn one bit in the middle of a file, and keep its time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def list_contents(project):
    """Digests of all artifacts but those that hold times."""
    timed = ("comparison.parquet", "comparison.csv", "comparison.md", "timing.md", "model_card.md")
    return {path: digest for path, digest in digest_results(project.results).items() if path not in timed}


def test_a_healthy_run_has_no_problems(complete):
    status, output, errors = verify(complete)
    assert status == 0, errors
    assert "0 damaged, 0 missing, 0 out of date; 0 files left over; 0 deleted after use" in output
    assert "To " not in output


@pytest.mark.parametrize("start", range(4))
def test_a_flipped_bit_of_every_kind_is_found_named_and_healed(complete, broken, start):
    paths = list(KINDS.values())[start::4]
    for path in paths:
        flip(broken.results / path)
    status, output, errors = verify(broken)
    assert status == 1
    for path in paths:
        assert f"results/tiny/{path}: is damaged" in errors
    assert len(errors.splitlines()) == len(paths) + 1, "these are named, and nothing else"
    paste(broken, output, "make them anew")
    status, output, errors = verify(broken)
    assert status == 0, errors
    assert list_contents(broken) == list_contents(complete)


def test_what_is_missing_is_found_and_healed(complete, broken):
    """One of every kind at once; the card stays, which says that there was an export."""
    gone = [path for kind, path in KINDS.items() if kind != "model card"]
    for path in gone:
        (broken.results / path).unlink()
    status, output, errors = verify(broken)
    assert status == 1
    for path in gone:
        assert f"results/tiny/{path}: is missing" in errors
    assert f"{len(gone)} missing" in output
    paste(broken, output, "make them anew")
    status, output, errors = verify(broken)
    assert status == 0, errors
    assert list_contents(broken) == list_contents(complete)


def test_a_missing_model_card_is_found_and_healed(complete, broken):
    path = broken.results / KINDS["model card"]
    content = path.read_text()
    path.unlink()
    status, output, errors = verify(broken)
    assert (status, f"{KINDS['model card']}: is missing" in errors) == (1, True)
    paste(broken, output, "make them anew")
    assert path.read_text() == content
    assert verify(broken)[0] == 0


def test_healing_leaves_what_was_made_from_it_alone(broken):
    path = f"{RUN}/epoch-001/network.safetensors"
    flip(broken.results / path)
    _, output, errors = verify(broken)
    assert "made from it: " in errors
    assert "epoch-002/features/portraits.parquet" in errors
    command = paste(broken, output, "make them anew")
    assert command.startswith(f"rm -f results/tiny/{path} && snakemake --cores all --configfile tiny.yaml -- results/")
    assert broken.plan() == {}


def test_an_edited_file_is_found(broken):
    """Also where it is well-formed and keeps its contract."""
    path = broken.results / RUN / "epoch-002/checkpoint.json"
    path.write_text(path.read_text().replace('"n_samples": 70', '"n_samples": 71'))
    _, _, errors = verify(broken)
    assert "epoch-002/checkpoint.json: is damaged" in errors


def test_another_epochs_network_is_found(complete, broken):
    shutil.copy(
        broken.results / RUN / "epoch-001/network.safetensors", broken.results / RUN / "epoch-002/network.safetensors"
    )
    status, output, errors = verify(broken)
    assert status == 1
    assert "epoch-002/network.safetensors: is damaged (it is not the file that was recorded)" in errors
    paste(broken, output, "make them anew")
    assert list_contents(broken) == list_contents(complete)


def test_an_artifact_of_other_inputs_is_found_and_healed(complete, broken):
    """Another seed's table in the place of this one's is whole, but was made from another network."""
    path = "mtl_sa/epoch-001/features/portraits.parquet"
    broken.snakemake("--cores", "2", "--", f"results/tiny/seed-1/{path}")
    shutil.copy(broken.results / "seed-1" / path, broken.results / "seed-0" / path)
    shutil.rmtree(broken.results / "seed-1")
    status, output, errors = verify(broken)
    assert status == 1
    assert f"seed-0/{path}: is that of another place" in errors
    paste(broken, output, "make them anew")
    status, _, errors = verify(broken)
    assert status == 0, errors
    assert list_contents(broken) == list_contents(complete)


def test_what_another_configuration_left_is_named_with_the_command_that_deletes_it(broken):
    broken.write_config("tiny.yaml", training__epochs=1, comparison=COMPARISON)
    broken.snakemake("--cores", "2", "--", "all", "comparison", "export")
    status, output, _ = verify(broken)
    assert status == 0
    assert "results/tiny: left over from another configuration: " in output
    command = paste(broken, output, "delete what another configuration left")
    assert "results/tiny/seed-0/mtl_sa/epoch-002" in command
    assert not (broken.results / RUN / "epoch-002").exists()
    assert "0 files left over" in verify(broken)[1]


def test_what_was_used_and_deleted_is_counted(project):
    project.write_config("tiny.yaml", storage={"keep_features": False, "keep_networks": "last"}, training__epochs=4)
    project.snakemake("--cores", "2", "--", "verify")
    status, output, errors = verify(project)
    assert status == 0, errors
    # Two datasets' features and one table of responsibilities in each epoch, two networks at most, two optimizers.
    assert 14 <= int(re.search(r"(\d+) deleted after use", output)[1]) <= 17


def test_a_dataset_may_be_called_like_a_kind_of_table(project):
    datasets = {"mixture": TINY["datasets"]["snapshots"], "density": TINY["datasets"]["portraits"]}
    project.write_config("tiny.yaml", datasets=datasets, training__epochs=1)
    output = project.snakemake("--cores", "2", "--", "verify").stdout
    assert "0 damaged, 0 missing, 0 out of date" in output


def test_artifacts_of_other_versions_are_listed(broken):
    folder = broken.folder / "newer/torch-99.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
    done = subprocess.run(
        [sys.executable, "-m", "stages.tools.verify_artifacts", "results/tiny"],
        cwd=broken.folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"newer:{broken.folder}"},
    )
    assert re.search(r"artifacts made with other versions than those installed: torch 2\S* \(\d+\)", done.stdout)


def test_a_folder_without_a_plan_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"holds no plan.json, so that nobody knows what should be there; name the"):
        main([str(tmp_path)])
    (tmp_path / "plan.json").write_text(json.dumps({"command": "x"}))
    with pytest.raises(ValueError, match=r"plan.json: is damaged; run snakemake, which writes it anew"):
        read_plan(tmp_path)
