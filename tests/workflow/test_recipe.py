"""A run with every key of the training recipe at another value than the paper's."""

import shutil

import pytest
import yaml
from safetensors.numpy import load_file

from stages.tools.verify_artifacts import main as verify
from tests.workflow.conftest import Project, copy_project
from tests.workflow.test_pipeline import digest_results

RECIPE = {
    "average": 0.9,
    "sampling": "balanced",
    "steps": "equal",
    "class_weights": "balanced",
    "label_smoothing": 0.1,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 0.05,
    "clip_norm": 1,
    "augmentation": {"crop": 0.8, "policy": "trivial_augment", "erasing": 0.2},
}
METHODS = ("strong", "mtl_sa_plus", "all_in_one", "lel_ltn")


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    """A finished run with all of it, and the bits of its results; not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("modern"))
    path = project.folder / "workflow/methods.yaml"
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows["strong"] = rows["mtl_sa"] | {"augmentation": "strong"}
    rows["lel_ltn"]["label_transfer"]["warmup"] = 1
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    changes = {f"training__{key}": value for key, value in RECIPE.items()}
    project.write_config("tiny.yaml", methods=list(METHODS), labels={"teacher": "last"}, **changes)
    project.snakemake("--cores", "2")
    return project, digest_results(project.results)


def test_a_run_with_all_of_it_is_whole(modern):
    project, _ = modern
    assert project.plan() == {}
    verify([str(project.results)])


def test_training_that_is_resumed_gives_the_same_bits(modern, tmp_path):
    project, digests = modern
    shutil.copytree(project.folder, tmp_path, dirs_exist_ok=True)
    resumed = Project(tmp_path)
    for method in METHODS:
        shutil.rmtree(resumed.results / f"seed-0/{method}/epoch-002")
        (resumed.results / f"seed-0/{method}/metrics.parquet").unlink()
    assert resumed.plan()["train_epoch"] == len(METHODS)
    resumed.snakemake("--cores", "2")
    assert digest_results(resumed.results) == digests


def test_what_teaches_redoes_the_labels(modern, tmp_path):
    project, _ = modern
    shutil.copytree(project.folder, tmp_path, dirs_exist_ok=True)
    changed = Project(tmp_path)
    settings = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    settings["methods"] = ["strong"]
    settings["labels"]["teacher"] = "averaged"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    plan = changed.plan()
    assert (plan["extract_features"], plan["train_epoch"], plan["evaluate_network"]) == (4, 2, 2)
    assert "initialize_network" not in plan


def test_the_average_is_what_is_used_and_the_last_weights_are_kept(modern):
    folder = modern[0].results / "seed-0/all_in_one/epoch-002"
    used, kept = load_file(folder / "network.safetensors"), load_file(folder / "optimizer.safetensors")
    assert {name for name in kept if name.startswith("last.")} == {f"last.{name}" for name in used}
    assert any((kept[f"last.{name}"] != value).any() for name, value in used.items())
