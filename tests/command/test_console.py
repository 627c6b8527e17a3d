import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from stages.command.console import COMMANDS, find_stages
from stages.storage.contracts import MODEL_CARD
from stages.storage.provenance import Provenance
from stages.storage.reports import write_report
from tests.conftest import EXPRESSIONS, POSES

ROOT = Path(__file__).parents[2]
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "config.yaml", "workflow/methods.yaml")
PROGRAM = "from stages.command.console import main; main()"


def call(*arguments, options=()):
    command = [sys.executable, *options, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def show(*arguments):
    done = call("show", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def list_imports(done):
    return {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("command", [*COMMANDS, "stage"])
def test_every_subcommand_explains_itself_with_an_example_and_without_torch(command):
    done = call(command, "--help", options=["-X", "importtime"])
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: mtl-sa {command} ")
    assert f"\nexample:\n  mtl-sa {command} " in done.stdout
    assert "torch" not in list_imports(done)


def test_help_lists_all_subcommands_and_loads_nothing_large():
    done = call("--help", options=["-X", "importtime"])
    assert done.returncode == 0
    assert all(f"\n  {command} " in done.stdout for command in [*COMMANDS, "stage"])
    assert "argparse" in (imported := list_imports(done))
    assert not {"torch", "numpy", "pyarrow", "yaml", "PIL"} & imported
    assert call().stdout == done.stdout


def test_unknown_names_get_the_nearest():
    done = call("predikt", "--network", "x")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "mtl-sa: error: unknown command 'predikt'; did you mean 'predict'? (known: 'describe'"
    )
    done = call("stage", "estimate_densty")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "mtl-sa stage: error: unknown stage 'estimate_densty'; did you mean 'estimate_density'? (known: "
    )
    assert all(name in done.stderr for name in find_stages())
    assert done.stderr.count("\n") == 1


def test_a_stage_is_found_by_the_name_of_its_rule():
    assert call("stage", "fit_mixture", "--help").stdout.startswith("usage: mtl-sa stage fit_mixture ")
    done = call(
        "stage", "audit_weights", "--task", "x", *("--weights-table", "no", "--audit-table", "no"), "--output", 1
    )
    assert done.stderr == "mtl-sa stage audit_weights: error: no: does not exist; run snakemake for it first\n"


def test_errors_name_the_subcommand_in_one_line(tmp_path):
    done = call("predict", "--network", "x", "--images", tmp_path, "--output", tmp_path / "p.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mtl-sa predict: error: {tmp_path}: holds no images")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(run):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", PROGRAM, "show", str(run.faces.table)]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_config_is_checked_with_paths_from_its_folder(run, tmp_path):
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    done = call("check", tmp_path / "mine.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "results/faces: will take about 78.9 MB" in done.stdout
    settings["datasets"]["snapshots"] = {
        "task": "expression",
        "source": "image_folder",
        "path": "faces",
        "split": "folders",
    }
    settings["data_root"] = "data"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    done = call("check", tmp_path / "mine.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mtl-sa check: error: dataset snapshots: {tmp_path}/data/faces")
    settings["trainig"] = settings.pop("training")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    done = call("check", tmp_path / "mine.yaml")
    assert done.stderr.startswith(f"mtl-sa check: error: {tmp_path}/mine.yaml: trainig: unknown key; did you mean")
    assert call("check", "none.yaml").stderr.startswith("mtl-sa check: error: none.yaml: is no file")


@pytest.fixture(scope="module")
def features(run):
    return run.extract("initial", "shown")["faces"]


def test_a_table_is_shown_with_columns_rows_and_origin(run, features):
    shown = show(features, "--rows", 3)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[:2] == [str(features), "features, version 2: 30 rows, 4 columns"]
    assert "made by extract_features, as faces.parquet" in lines
    assert "parameter batch_size: 7" in lines
    digest = json.loads(run.checkpoint("initial")["card"].read_text())["files"]["network.safetensors"]
    assert f"input ../../initial/network.safetensors {digest}" in lines
    assert "device cpu, float32" in lines
    assert "pose: [frontal, left]" in lines
    assert "soft_label_pose float32_list (2) 0 to 1, sums to 1 softmax of the task's scores" in lines
    first = lines.index("first 3 of 30 rows")
    assert lines[first + 1] == "sample_id features_pose soft_label_pose label_pose"
    assert [line.split()[0] for line in lines[first + 2 :]] == ["0", "1", "2"]


def test_columns_become_csv_and_arrays(features, tmp_path):
    show(features, "--csv", tmp_path / "f.csv", "--npy", tmp_path / "f.npy", "features_pose")
    vectors = np.load(tmp_path / "f.npy")
    assert (vectors.dtype, vectors.shape) == (np.float32, (30, 6))
    stored = pq.read_table(features)
    assert vectors.tobytes() == b"".join(stored["features_pose"].to_pylist())
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample_id"]) for row in rows] == stored["sample_id"].to_pylist()
    found = np.array([[row[f"features_pose:{number}"] for number in range(6)] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(found, vectors)
    for arguments, message in (
        (("--csv", tmp_path / "f.csv"), f"{tmp_path}/f.csv: exists; remove it first, or choose another name"),
        (("--csv", tmp_path / "f.txt"), f"{tmp_path}/f.txt: must end in .csv; choose another name"),
        (("--npy", tmp_path / "g.npy", "feature_pose"), "there is no column 'feature_pose'; did you mean 'features_"),
    ):
        done = call("show", features, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
    assert not (tmp_path / "g.npy").exists()


def test_a_card_is_shown(run):
    lines = [line.strip() for line in show(run.checkpoint("initial")["card"]).splitlines()]
    assert lines[1] == "checkpoint, version 1"
    assert "learning_rate: 0.003" in " ".join(lines)
    assert "n_samples: 68" in lines
    assert any(line.startswith("expression: {labels: given, n_samples: 30") for line in lines)


def test_a_network_is_shown_and_compared_with_its_card(run, tmp_path):
    files = run.checkpoint("initial")
    lines = [" ".join(line.split()) for line in show(files["network"]).splitlines()]
    card = json.loads(files["card"].read_text())
    assert lines[1].startswith("network: ")
    assert lines[1].endswith(f" {card['n_parameters']:,} values")
    assert lines[2] == f"{card['files']['network.safetensors']}, as checkpoint.json records"
    assert "backbone: vgg_tiny" in lines
    assert "expression: [angry, happy, sad]" in lines
    assert "heads.task_pose.weight F32 6 x 64" in lines
    shutil.copy(files["network"], tmp_path / "network.safetensors")
    assert "which no artifact beside it records" in show(tmp_path / "network.safetensors")
    shutil.copy(files["card"], tmp_path / "checkpoint.json")
    flip_bit(tmp_path / "network.safetensors", -1)
    done = call("show", tmp_path / "network.safetensors")
    assert done.returncode == 1
    assert "network.safetensors: is not the file that" in done.stderr


def test_a_memory_map_is_shown(run):
    lines = show(run.faces.images).splitlines()
    assert lines[1] == "array: uint8, shape 30 x 8 x 8 x 1"
    assert lines[2].endswith(", as train.parquet records")
    assert lines[3] == f"  values from {run.faces.pixels.min()} to {run.faces.pixels.max()}"


def test_a_report_is_shown(run, tmp_path):
    provenance = Provenance("write_model_card", {"seed": 0}, [run.faces.table])
    write_report(tmp_path / "model_card.md", "# Title\n\nOne line\n\x1b[31mred\n", MODEL_CARD, provenance)
    shown = show(tmp_path / "model_card.md")
    assert "\nmodel card, version 1\n  made by     write_model_card, as model_card.md\n  parameter   seed: 0\n" in shown
    assert shown.endswith("\nfirst 4 of 4 lines\n  # Title\n  \n  One line\n  \\x1b[31mred\n")


def flip_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["table", "card", "network", "images", "report"])
def test_what_is_damaged_is_said_in_one_line(run, features, tmp_path, kind):
    write_report(tmp_path / "r.md", "# Title", MODEL_CARD, Provenance("test", {}, []))
    files = {**run.checkpoint("initial"), "table": features, "images": run.faces.images, "report": tmp_path / "r.md"}
    path = tmp_path / f"damaged{files[kind].suffix}"
    shutil.copy(files[kind], path)
    flip_bit(path, {"table": 200, "card": 30, "network": 0, "images": 0, "report": 3}[kind])
    done = call("show", path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"mtl-sa show: error: {path}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder; name a file in it"),
        ("none.parquet", "does not exist; correct the path"),
        ("config.yaml", "is no artifact that can be shown; those end in .parquet, .json, .md, .safetensors, .npy"),
        ("README.md", "was written by an earlier version of this project"),
    ],
)
def test_what_is_no_artifact_is_said_in_one_line(name, message):
    done = call("show", name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"mtl-sa show: error: {name}: {message}")
    assert done.stderr.count("\n") == 1


def copy_project(folder):
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SHIPPED:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The command from a wheel, in an environment of its own that sees the libraries of this one."""
    for name in ("setuptools", "pip"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp("installed")
    copy_project(folder / "project")
    build = [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('..')"]
    subprocess.run(build, cwd=folder / "project", check=True, capture_output=True)
    shutil.rmtree(folder / "project")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    return folder / "env/bin/mtl-sa"


@pytest.fixture
def use(installed, tmp_path):
    """Calls the installed command in an empty folder."""

    def use(*arguments):
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        command = [str(installed), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return use


def save_images(folder, n_images, classes, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(n_images):
        path = folder / classes[number % len(classes)] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def test_an_installed_command_runs_its_own_modules(installed, use):
    assert use("--version").stdout == "mtl-sa 0.1.0\n"
    python = [str(installed.with_name("python")), "-c", "import stages; print(stages.__file__)"]
    done = subprocess.run(python, cwd="/", env={}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(installed.parents[1]))


def test_an_installed_command_predicts_with_the_networks_file_alone(use, run, tmp_path):
    # More than one process decodes from 65 images on.
    save_images(tmp_path / "images", 70, ["a", "b"])
    shutil.copy(run.checkpoint("initial")["network"], tmp_path / "network.safetensors")
    for workers in (1, 2):
        arguments = ("--network", "network.safetensors", "--images", "images", "--output", f"{workers}.csv")
        done = use("predict", *arguments, "--threads", 1, "--workers", workers)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{workers}.csv: 70 images, 2 tasks ")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    with (tmp_path / "2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 70
    assert {row["class_expression"] for row in rows} <= set(EXPRESSIONS)
    assert {row["class_pose"] for row in rows} <= set(POSES)


def test_an_installed_command_describes_and_checks(use, tmp_path):
    save_images(tmp_path / "data/moods", 40, ["calm", "glad"], seed=1)
    save_images(tmp_path / "data/ages", 40, ["old", "young"], seed=2)
    done = use("describe", "data/moods", "data/ages", "--tasks", "mood", "age", "--output", "mine.yaml")
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert {name: one["task"] for name, one in settings["datasets"].items()} == {"moods": "mood", "ages": "age"}
    assert settings["training"].keys() == yaml.safe_load((ROOT / "config.yaml").read_text())["training"].keys()
    done = use("check", "mine.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("results/moods_ages: will take about ")


def test_an_installed_command_verifies_and_shows(use, run, tmp_path):
    shutil.copytree(
        run.faces.table.parent, tmp_path / "results/faces", ignore=shutil.ignore_patterns("test.*", "audit")
    )
    rows = [[f"results/faces/{name}", "prepare_images", "all", False, "job"] for name in ("train.parquet", "train.npy")]
    plan = {"command": "snakemake --cores all", "results": "results/faces", "artifacts": rows}
    (tmp_path / "results/faces/plan.json").write_text(json.dumps(plan))
    done = use("verify", "results/faces")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 artifacts: 0 damaged, 0 missing, 0 out of date; 0 files left over" in done.stdout
    assert (
        use("show", "results/faces/train.parquet").stdout.splitlines()[1] == "manifest, version 1: 30 rows, 3 columns"
    )
    flip_bit(tmp_path / "results/faces/train.npy", -1)
    done = use("verify", "results/faces")
    assert done.returncode == 1
    assert "results/faces/train.npy: is damaged" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("mtl-sa verify: error: results/faces: 1 artifacts have problems")
