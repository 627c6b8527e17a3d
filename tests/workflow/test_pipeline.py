"""The workflow as a whole, on a run small enough for a test."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import yaml
from PIL import Image

from stages.storage.contracts import AUDIT, FEATURES, MANIFEST, METRICS, WEIGHTS
from stages.storage.files import digest_file
from stages.storage.tables import read_metadata, read_table
from stages.tools.verify_artifacts import main as verify
from tests.workflow.conftest import TINY

SPLITS = ("train", "validation", "test")


def digest_results(folder):
    """Digest of every artifact; the wall time of training is taken out of the cards."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        content = path.read_bytes()
        if path.name == "checkpoint.json":
            card = json.loads(content)
            assert card.pop("seconds") > 0
            # The seal covers them.
            assert card.pop("digest")
            content = json.dumps(card).encode()
        digests[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return digests


def test_two_epochs_leave_every_artifact_of_the_design(finished):
    epochs = {"epoch-001": "pose/snapshots", "epoch-002": "expression/portraits"}
    expected = {"plan.json", "seed-0/mtl_sa/metrics.parquet", "seed-0/mtl_sa/network.safetensors"}
    expected |= {f"data/{d}/{s}.{e}" for d in ("snapshots", "portraits") for s in SPLITS for e in ("parquet", "npy")}
    expected |= {f"data/{d}/audit/{s}.parquet" for d in ("snapshots", "portraits") for s in SPLITS}
    for folder in ("initial", *(f"mtl_sa/{epoch}" for epoch in epochs)):
        files = ("network.safetensors", "optimizer.safetensors", "checkpoint.json", "metrics.json")
        expected |= {f"seed-0/{folder}/{name}" for name in files}
    for epoch, task in epochs.items():
        folder = f"seed-0/mtl_sa/{epoch}"
        expected |= {f"{folder}/features/{dataset}.parquet" for dataset in ("snapshots", "portraits")}
        names = ("density", "mixture/unlabeled", "mixture/labeled", "responsibilities", "transport")
        expected |= {f"{folder}/{task}/{name}.parquet" for name in (*names, "weights", "labels", "audit")}
    assert set(digest_results(finished.results)) == expected
    verify([str(finished.results)])


def test_epochs_alternate_and_metrics_are_one_table(finished):
    metrics = read_table(finished.results / "seed-0/mtl_sa/metrics.parquet", METRICS)
    assert metrics["epoch"].tolist() == np.repeat([0, 1, 2], 8).tolist()
    assert metrics["task"].tolist() == ["expression", "expression", "pose", "pose"] * 6
    assert metrics["dataset"].tolist() == [None, "snapshots", None, "portraits"] * 6
    assert metrics["split"].tolist() == (["validation"] * 4 + ["test"] * 4) * 3
    assert metrics["trained_dataset"].tolist() == [None] * 8 + ["snapshots"] * 8 + ["portraits"] * 8


def test_the_final_network_is_that_of_the_best_epoch_on_validation(finished):
    folder = finished.results / "seed-0/mtl_sa"
    metrics = read_table(folder / "metrics.parquet", METRICS)
    validation = (metrics["split"] == "validation") & [dataset is None for dataset in metrics["dataset"]]
    means = metrics["accuracy"][validation].reshape(3, 2).mean(axis=1)
    best = int(np.argmax(means.round(12)))
    chosen = folder / f"epoch-{best:03d}" if best else finished.results / "seed-0/initial"
    assert metrics.metadata["selected_epoch"] == best
    assert (folder / "network.safetensors").read_bytes() == (chosen / "network.safetensors").read_bytes()


def test_the_run_says_what_it_needs_and_ends_with_a_summary(finished):
    log = (finished.folder / "run.log").read_text()
    assert "results/tiny: will take about" in log
    assert "Test accuracy per epoch and task. Everything lies in results/tiny/seed-0/mtl_sa/" in log
    assert log.index("will take about") < log.index("joint training on 130 samples")


def test_features_are_those_that_the_weights_need(finished):
    folder = finished.results / "seed-0/mtl_sa/epoch-002"
    for dataset, n in (("portraits", 70), ("snapshots", 60)):
        table = read_table(folder / f"features/{dataset}.parquet", FEATURES)
        assert set(table.columns) == {"sample_id", "features_expression", "soft_label_expression", "label_expression"}
        assert len(table) == n
    weights = read_table(folder / "expression/portraits/weights.parquet", WEIGHTS)
    assert len(weights) == 70
    assert weights["selection_weight"].max() == 1
    audit = read_table(folder / "expression/portraits/audit.parquet", AUDIT)
    assert audit["n_samples"][audit["weight"] == "selection_weight"].sum() == 70


def test_a_second_run_has_nothing_to_do(finished):
    output = finished.snakemake("--cores", "2").stdout
    assert "Nothing to be done" in output


def test_results_name_no_folder_of_this_machine(finished):
    for path in finished.results.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(finished.folder).encode() not in content, path
            assert b"/tmp/" not in content, path


def test_another_folder_and_one_core_give_the_same_bits(finished, project):
    project.snakemake("--cores", "1")
    assert digest_results(project.results) == digest_results(finished.results)


def test_a_single_artifact_can_be_asked_for(ran):
    target = "results/tiny/seed-0/mtl_sa/epoch-001/pose/snapshots/density.parquet"
    (ran.folder / target).unlink()
    assert ran.plan(target) == {"estimate_density": 1}


def test_weights_of_a_task_that_the_epoch_has_labels_for_are_refused(project):
    target = "results/tiny/seed-0/mtl_sa/epoch-001/expression/snapshots/density.parquet"
    done = project.snakemake("--dry-run", "--cores", "1", target, check=False)
    assert done.returncode != 0
    assert "Epoch 1 of 'mtl_sa' makes no labels for 'expression' of 'snapshots'" in done.stdout
    assert "those that it makes: pose/snapshots" in done.stdout


def test_features_can_be_deleted_once_they_are_used(project):
    methods = ["mtl_sa", "only_mmd", "dcn_ap", "lel_ltn"]
    project.write_config("tiny.yaml", storage__keep_features=False, training__epochs=3, methods=methods)
    project.snakemake("--cores", "2")
    left = {path.name for path in project.results.rglob("*.parquet")}
    assert "weights.parquet" in left
    assert not {"responsibilities.parquet"} & left
    assert not list(project.results.rglob("features/*"))
    assert project.plan() == {}


def write_colours(folder, name, colours, *, n_train, n_test, seed):
    """Images of noisy colours and a table of them, for any number of tasks."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    lines = ["path,label,split"]
    for number in range(n_train + n_test):
        label = list(colours)[number % len(colours)]
        pixels = rng.integers(0, 90, (12, 12, 3)) + np.array(colours[label])
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
        lines.append(f"{number}.png,{label},{'train' if number < n_train else 'test'}")
    (folder / name / "labels.csv").write_text("\n".join(lines) + "\n")


THREE = {
    "reds": {"dark": (20, 0, 0), "bright": (160, 0, 0)},
    "greens": {"low": (0, 20, 0), "middle": (0, 90, 0), "high": (0, 160, 0)},
    "blues": {"night": (0, 0, 20), "day": (0, 0, 160)},
}


def write_three_tasks(project, **changes):
    datasets = {}
    for seed, (name, colours) in enumerate(THREE.items()):
        write_colours(project.folder / "images", name, colours, n_train=24, n_test=9, seed=seed)
        datasets[name] = {
            "task": f"{name}_task",
            "source": "table",
            "path": f"{name}/labels.csv",
            "columns": {"path": "path", "label": "label", "split": "split"},
            "split": "column",
        }
    project.write_config(
        "three.yaml", datasets=datasets, data_root="images", images={"height": 8, "width": 8}, **changes
    )


def test_three_tasks_take_turns_and_augment_each_other(project):
    write_three_tasks(project, methods=["mtl_sa", "mtl_wf"])
    assert project.plan(config="three.yaml") == {
        "prepare_images": 3,
        "initialize_network": 1,
        "extract_features": 8,
        "estimate_density": 4,
        "fit_mixture": 4,
        "weigh_distribution": 4,
        "materialize_labels": 8,
        "train_epoch": 4,
        "evaluate_network": 5,
        "collect_metrics": 2,
        "all": 1,
    }
    project.snakemake("--cores", "2", config="three.yaml")
    folder = project.results / "seed-0/mtl_sa/epoch-002"
    card = json.loads((folder / "checkpoint.json").read_text())
    assert card["dataset"] == "greens"
    labels = {task: loss["labels"] for task, loss in card["losses"].items()}
    assert labels == {"greens_task": "given", "reds_task": "materialized", "blues_task": "materialized"}
    table = read_table(folder / "features/greens.parquet", FEATURES)
    assert {name for name in table.columns if name.startswith("features_")} == {
        "features_reds_task",
        "features_blues_task",
    }
    for method in ("mtl_sa", "mtl_wf"):
        metrics = read_table(project.results / f"seed-0/{method}/metrics.parquet", METRICS)
        assert len(metrics) == 36
    weights = read_table(project.results / "seed-0/mtl_wf/epoch-001/blues_task/reds/weights.parquet", WEIGHTS)
    assert (weights["selection_weight"] == 0).all()
    for method, temperature in (("mtl_sa", 2), ("mtl_wf", 1)):
        path = project.results / f"seed-0/{method}/epoch-001/blues_task/reds/labels.parquet"
        assert read_metadata(path)["temperature"] == temperature
    assert not list((project.results / "seed-0/mtl_wf").rglob("density.parquet"))
    verify([str(project.results)])


def test_two_hundred_epochs_can_be_planned(project):
    project.write_config("tiny.yaml", training__epochs=200)
    assert project.plan()["train_epoch"] == 200


def test_the_default_lends_nothing_to_another_experiment(project):
    write_three_tasks(project)
    output = project.snakemake("--dry-run", "--cores", "1", config="three.yaml").stdout
    assert "snapshots" not in output
    assert project.plan(config=None)["prepare_images"] == 2


def test_a_wrong_key_stops_with_one_line_before_anything_is_written(project):
    project.write_config("tiny.yaml", density__cutof_quantile=0.5)
    done = project.snakemake("--cores", "1", check=False)
    assert done.returncode != 0
    assert "tiny.yaml: density.cutof_quantile: unknown key; did you mean 'cutoff_quantile'?" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.folder / "results").exists()


def test_a_bad_image_stops_the_run_with_its_name_and_leaves_nothing(project):
    write_three_tasks(project)
    path = project.folder / "images/greens/3.png"
    path.write_bytes(path.read_bytes()[:60])
    done = project.snakemake("--cores", "1", "results/tiny/data/greens/train.npy", config="three.yaml", check=False)
    assert done.returncode != 0
    assert "dataset greens: 1 of 33 images" in done.stdout
    assert "3.png: " in done.stdout
    assert "Traceback" not in done.stdout
    assert not list((project.results / "data").rglob("*.*"))


def test_a_missing_folder_names_its_dataset_before_anything_is_written(project):
    write_three_tasks(project)
    shutil.rmtree(project.folder / "images/greens")
    done = project.snakemake("--cores", "2", config="three.yaml", check=False)
    assert done.returncode != 0
    assert "check_experiment: error: dataset greens: images/greens/labels.csv" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.folder / "results").exists()


def test_another_label_table_redoes_its_images_and_another_place_does_not(project):
    write_three_tasks(project, training__epochs=1)
    targets = [f"results/tiny/data/{name}/train.npy" for name in THREE]
    project.snakemake("--cores", "2", *targets, config="three.yaml")
    (project.folder / "images").rename(project.folder / "moved {x}")
    settings = yaml.safe_load((project.folder / "three.yaml").read_text())
    settings["data_root"] = "moved {x}"
    (project.folder / "three.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    assert project.plan(*targets, config="three.yaml") == {}
    table = project.folder / "moved {x}/reds/labels.csv"
    table.write_text(table.read_text().replace("0.png,dark", "0.png,bright"))
    assert project.plan(*targets, config="three.yaml") == {"prepare_images": 1}


def test_an_edited_list_of_a_published_dataset_redoes_its_images(project):
    rng = np.random.default_rng(0)
    folder = project.folder / "images/expw"
    (folder / "image/origin").mkdir(parents=True)
    (folder / "label").mkdir()
    lines = [f"{number}.jpg 0 0 0 11 11 50 {number % 2}" for number in range(20)]
    for number in range(20):
        pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image/origin/{number}.jpg")
    (folder / "label/label.lst").write_text("\n".join(lines))
    datasets = {"portraits": TINY["datasets"]["portraits"], "expw": {"task": "mood", "source": "expw", "path": "expw"}}
    project.write_config("expw.yaml", datasets=datasets, data_root="images")
    target = "results/tiny/data/expw/train.npy"
    project.snakemake("--cores", "2", target, config="expw.yaml")
    assert project.plan(target, config="expw.yaml") == {}
    (folder / "label/label.lst").write_text("\n".join(lines[:-1]))
    assert project.plan(target, config="expw.yaml") == {"prepare_images": 1}


def test_an_experiment_may_lie_anywhere_and_its_paths_start_from_it(project):
    write_three_tasks(project)
    elsewhere = project.folder / "somewhere/else"
    elsewhere.mkdir(parents=True)
    (project.folder / "images").rename(elsewhere / "pictures")
    (project.folder / "three.yaml").rename(elsewhere / "three.yaml")
    (elsewhere / "place.yaml").write_text("data_root: pictures\n")
    target = "results/tiny/data/reds/train.npy"
    done = project.snakemake("--cores", "1", target, config="somewhere/else/three.yaml", check=False)
    assert "somewhere/else/images/reds/labels.csv: does not exist; correct `path` or `data_root`" in done.stdout
    # The last config that sets a path is the one that it starts from; --config starts from here.
    files = ["somewhere/else/three.yaml", "somewhere/else/place.yaml"]
    project.snakemake("--cores", "1", "--configfile", *files, "--", target, config=None)
    assert (project.folder / target).exists()
    project.plan("--config", "data_root=somewhere/else/pictures", "--", target, config=files[0])
    (project.folder / target).unlink()
    options = ["--cores", "1", "--config", "data_root=somewhere/else/pictures", "--", target]
    project.snakemake(*options, config=files[0])
    assert (project.folder / target).exists()


def test_local_pretrained_weights_start_from_the_config_too(project):
    (project.folder / "mine").mkdir()
    project.write_config("mine/tiny.yaml", network={"backbone": "resnet18", "pretrained": "weights.pth"})
    done = project.snakemake("--dry-run", "--cores", "1", config="mine/tiny.yaml", check=False)
    assert "mine/tiny.yaml: network.pretrained: 'mine/weights.pth' does not exist; correct it" in done.stdout
    (project.folder / "mine/weights.pth").write_bytes(b"")
    done = project.snakemake("--cores", "1", config="mine/tiny.yaml", check=False)
    assert "'mine/weights.pth' has none of the names of torchvision's weights of resnet18" in done.stdout
    assert not project.results.exists()


def test_the_finished_network_is_exported_with_a_card(ran):
    ran.snakemake("--cores", "2", "export")
    folder = ran.results / "seed-0/mtl_sa"
    report = json.loads((folder / "export.json").read_text())
    assert report["n_images"] == 40
    assert max(report["maximum_difference"].values()) < 1e-5
    card = (folder / "model_card.md").read_text()
    assert "# Model card: tiny, MTL-SA, seed 0" in card
    assert digest_file(folder / "network.onnx").removeprefix("sha256:") in card
    assert str(ran.folder) not in card
    assert ran.plan("export") == {}
    # Training on makes the export anew, without being asked.
    ran.write_config("longer.yaml", training__epochs=3)
    plan = ran.plan(config="longer.yaml")
    assert (plan["train_epoch"], plan["export_network"], plan["write_model_card"]) == (1, 1, 1)
    verify([str(ran.results)])


def write_real_layout(folder):
    """The layout of the real pair of datasets, with noise for faces."""
    rng = np.random.default_rng(0)

    def save(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)).save(path)

    for split, n in (("train", 4), ("test", 1)):
        for name in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
            for number in range(n):
                save(folder / "fer2013" / split / name / f"{number}.jpg")
    lines = ["path,age_stage,split,gender"]
    for number in range(40):
        stage = ["0-12", "13-30", "31-45", "46-60", "61+"][number % 5]
        lines.append(f"images/{number}.jpg,{stage},{'train' if number < 30 else 'test'},{'fe' * (number % 2)}male")
        save(folder / "utkface/images" / f"{number}.jpg")
    (folder / "utkface/labels.csv").write_text("\n".join(lines) + "\n")


def test_the_real_pair_of_datasets_runs_from_folders_and_a_table(project):
    write_real_layout(project.folder / "faces")
    experiment = "experiments/fer2013_utkface.yaml"
    run = "results/fer2013_utkface/seed-0/mtl_sa/epoch-001"
    options = ["--cores", "2", "--config", "data_root=faces", "--", f"{run}/checkpoint.json"]
    project.snakemake(*options, config=experiment)
    card = json.loads((project.folder / run / "checkpoint.json").read_text())
    assert {task: loss["labels"] for task, loss in card["losses"].items()} == {
        "expression": "given",
        "age_stage": "materialized",
    }
    manifest = read_table(project.folder / "results/fer2013_utkface/data/utkface/train.parquet", MANIFEST)
    assert manifest.columns.keys() == {"sample_id", "path", "label_age_stage"}
    assert manifest.metadata["classes"] == {"age_stage": ["0-12", "13-30", "31-45", "46-60", "61+"]}


def test_three_real_tasks_come_from_disjoint_halves_of_one_table(project):
    write_real_layout(project.folder / "faces")
    experiment = "experiments/fer2013_utkface_gender.yaml"
    run = "results/fer2013_utkface_gender/seed-0/mtl_sa/epoch-001"
    options = ["--cores", "2", "--config", "data_root=faces", "--", f"{run}/checkpoint.json"]
    project.snakemake(*options, config=experiment)
    card = json.loads((project.folder / run / "checkpoint.json").read_text())
    assert set(card["losses"]) == {"expression", "age_stage", "gender"}
    data = project.folder / "results/fer2013_utkface_gender/data"
    halves = [
        {
            path
            for split in ("train", "validation")
            for path in read_table(data / name / f"{split}.parquet", MANIFEST)["path"]
        }
        for name in ("utkface_age", "utkface_gender")
    ]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == 30


def test_too_little_disk_stops_the_run_before_its_first_job(project):
    project.write_config("tiny.yaml", network__head_features=1_000_000_000)
    target = "results/tiny/data/snapshots/train.npy"
    done = project.snakemake("--cores", "1", target, check=False)
    assert done.returncode != 0
    assert "this run needs about" in done.stdout
    assert "set storage.keep_features to false" in done.stdout
    assert not (project.results / "data").exists()


def test_a_killed_run_is_resumed_to_the_same_bits(finished, project):
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "2"]
    with subprocess.Popen(
        command, cwd=project.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 120
        while not list(project.results.rglob("epoch-001/features/*.parquet")):
            assert time.monotonic() < deadline, "the run never came to its first epoch"
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
    project.snakemake("--cores", "2", "--rerun-incomplete")
    assert digest_results(project.results) == digest_results(finished.results)
