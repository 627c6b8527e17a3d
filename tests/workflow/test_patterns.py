"""Whole runs on other patterns of labels than one task for each dataset."""

import collections
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from stages.storage.contracts import AUDIT, LABELS, MANIFEST, METRICS, WEIGHTS
from stages.storage.tables import read_table
from tests.workflow.conftest import ROOT, TINY

FACES = {"source": "synthetic_faces", "style": "dark_noisy", "samples": {"train": 60, "validation": 20, "test": 20}}
BOTH = {"expression": "expression", "pose": "pose"}


def read_manifest(results, dataset, split="train"):
    return read_table(results / "data" / dataset / f"{split}.parquet", MANIFEST)


def check_augmented(results, folder, dataset, task):
    """Weights of the samples without a label, labels of all of them; returns how many have a weight."""
    manifest = read_manifest(results, dataset)
    known = manifest.columns.get(f"label_{task}", np.full(len(manifest), None))
    given = np.array([label is not None for label in known])
    weights = read_table(folder / "weights.parquet", WEIGHTS)
    labels = read_table(folder / "labels.parquet", LABELS)
    assert weights["sample_id"].tolist() == manifest["sample_id"][~given].tolist()
    assert labels["sample_id"].tolist() == manifest["sample_id"].tolist()
    assert (labels["given"] == given).all()
    assert weights["selection_weight"].max() == 1
    classes = labels.metadata["classes"]
    assert [classes[row.argmax()] for row in labels["training_label"][given]] == known[given].tolist()
    assert (labels["training_label"][given].max(axis=1) == 1).all()
    return len(weights)


def test_one_dataset_with_gaps(project):
    datasets = {"faces": {**FACES, "seed": 1, "labels": BOTH, "known": {"expression": 0.5, "pose": 0.25}}}
    methods = ["mtl_sa", "stl", "lel_ltn"]
    project.write_config("gaps.yaml", datasets=datasets, training__epochs=3, methods=methods)
    output = project.snakemake("--cores", "2", config="gaps.yaml").stdout
    results = project.results
    run = results / "seed-0/mtl_sa"
    assert sorted(path.name for path in (run / "epoch-001").iterdir() if path.is_dir()) == [
        "expression",
        "features",
        "pose",
    ]
    sizes = [
        check_augmented(results, run / f"epoch-002/{task}/faces", "faces", task) for task in ("expression", "pose")
    ]
    assert sizes == [30, 45]
    card = json.loads((run / "epoch-001/checkpoint.json").read_text())
    assert {task: (loss["labels"], loss["n_samples"]) for task, loss in card["losses"].items()} == dict.fromkeys(
        BOTH, ("both", 60)
    )
    card = json.loads((results / "seed-0/stl/epoch-001/checkpoint.json").read_text())
    assert {task: loss["n_samples"] for task, loss in card["losses"].items()} == {"expression": 30, "pose": 15}
    # What is held back is what `known` masks, and audits say how well it is guessed.
    audit = read_table(run / "epoch-003/pose/faces/audit.parquet", AUDIT)
    assert audit["n_samples"].sum() % 45 == 0
    metrics = read_table(run / "metrics.parquet", METRICS)
    assert {
        (task, dataset, n)
        for task, dataset, n in zip(metrics["task"], metrics["dataset"], metrics["n_samples"], strict=True)
    } == {(task, dataset, 20) for task in BOTH for dataset in (None, "faces")}
    assert "every sample has a label" not in output
    assert (
        "0 damaged, 0 missing, 0 out of date" in project.snakemake("--cores", "2", "verify", config="gaps.yaml").stdout
    )
    project.snakemake("--cores", "2", "results/tiny/seed-0/mtl_sa/model_card.md", config="gaps.yaml")
    assert "* faces (pose): " in (run / "model_card.md").read_text()
    assert ", unknown 45\n" in (run / "model_card.md").read_text()
    assert project.plan(config="gaps.yaml") == {}


def test_the_other_methods_on_gaps(project):
    methods = list(yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8")))
    methods = [name for name in methods if name not in ("mtl_sa", "stl", "lel_ltn")]
    datasets = {"faces": {**FACES, "seed": 1, "labels": BOTH, "known": {"expression": 0.5}}}
    project.write_config("gaps.yaml", datasets=datasets, training__epochs=1, methods=methods)
    project.snakemake("--cores", "2", config="gaps.yaml")
    for method in methods:
        run = project.results / "seed-0" / method
        assert len(read_table(run / "metrics.parquet", METRICS)) == 2 * 2 * 2 * 2
        weighed = [path.parent.parent.name for path in run.glob("epoch-001/*/faces/weights.parquet")]
        assert weighed == ([] if method in ("all_in_one", "sfsmr", "slrm") else ["expression"]), (
            "pose has all its labels"
        )


def test_two_datasets_of_one_task_one_for_another_and_one_without_labels(project):
    folder = project.folder / "web"
    rng = np.random.default_rng(0)
    for number in range(30):
        (folder / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number % 3}/{number}.png")
    datasets = {
        "dark": {**FACES, "seed": 1, "task": "expression"},
        "bright": {**FACES, "seed": 2, "style": "bright_clean", "task": "expression"},
        "heads": {**FACES, "seed": 3, "style": "bright_clean", "task": "pose"},
        "web": {"source": "image_folder", "path": "web", "labels": {}},
    }
    changes = {"methods": ["mtl_sa", "stl", "all_in_one"], "training__epochs": 4}
    changes["comparison"] = {"methods": ["mtl_sa", "stl"], "seeds": [0]}
    project.write_config("many.yaml", datasets=datasets, tasks={"pose": {"weight": 2}}, **changes)
    project.snakemake("--cores", "2", "all", "comparison", config="many.yaml")
    results = project.results
    run = results / "seed-0/mtl_sa"
    labelled = {"dark": {"expression"}, "bright": {"expression"}, "heads": {"pose"}, "web": set()}
    for epoch, (name, own) in enumerate(labelled.items(), start=1):
        found = {path.name for path in (run / f"epoch-{epoch:03d}").iterdir() if path.is_dir()} - {"features"}
        assert found == {"expression", "pose"} - own
        for task in found:
            n_train = len(read_manifest(results, name))
            assert check_augmented(results, run / f"epoch-{epoch:03d}/{task}/{name}", name, task) == n_train
    # The labeled domain of a task is made of both of its datasets.
    assert {path.stem for path in (run / "epoch-003/features").iterdir()} == {"dark", "bright", "heads"}
    assert len(read_manifest(results, "web", "test")) == 0
    metrics = read_table(run / "metrics.parquet", METRICS)
    of_test = collections.Counter(zip(metrics["task"], metrics["dataset"], strict=True))
    assert set(of_test) == {
        *(("expression", name) for name in (None, "dark", "bright")),
        *(("pose", name) for name in (None, "heads")),
    }
    n_samples = metrics["n_samples"][(metrics["task"] == "expression") & (metrics["dataset"] == None)]  # noqa: E711
    assert set(n_samples.tolist()) == {40}
    idle = json.loads((results / "seed-0/stl/epoch-004/checkpoint.json").read_text())
    assert (idle["n_samples"], idle["losses"]) == (0, {})
    report = (results / "comparison.md").read_text()
    assert "expression of dark" in report
    assert "expression of bright" in report
    table = pq.read_table(results / "comparison.parquet").to_pydict()
    assert {"dark", "bright", None} == set(table["dataset"])


def test_one_task_alone_and_turns_by_size(project):
    datasets = {
        "small": {**FACES, "seed": 1, "task": "expression", "samples": {"train": 20, "validation": 9, "test": 9}},
        "large": {**FACES, "seed": 2, "labels": {"expression": "expression"}, "known": {"expression": 0.1}},
    }
    project.write_config("one.yaml", datasets=datasets, training__epochs=4, schedule={"turns": "by_size"})
    project.snakemake("--cores", "2", config="one.yaml")
    run = project.results / "seed-0/mtl_sa"
    trained = [
        json.loads((run / f"epoch-{epoch:03d}/checkpoint.json").read_text())["dataset"] for epoch in (1, 2, 3, 4)
    ]
    assert trained == ["large", "small", "large", "large"]
    assert check_augmented(project.results, run / "epoch-001/expression/large", "large", "expression") == 54
    assert not (run / "epoch-002/expression").exists(), "small has all its labels"


def test_tiny_domains_have_as_many_clusters_as_samples(project):
    datasets = copy_of_tiny()
    del datasets["portraits"]["task"]
    datasets["portraits"] |= {"labels": {"pose": "pose"}, "known": {"pose": 0.01}}
    project.write_config("few.yaml", datasets=datasets, mixture={"components": 8}, training__epochs=1)
    output = project.snakemake("--cores", "2", config="few.yaml").stdout
    assert "mixture.components: only 5 are used where samples with a label for 'pose' are so few" in output
    table = pq.read_table(project.results / "seed-0/mtl_sa/epoch-001/pose/snapshots/mixture/labeled.parquet")
    assert table.num_rows == 5
    weights = read_table(project.results / "seed-0/mtl_sa/epoch-001/pose/snapshots/weights.parquet", WEIGHTS)
    assert np.isfinite(weights["selection_weight"]).all()


def copy_of_tiny():
    return json.loads(json.dumps(TINY["datasets"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"datasets": {"clinic": {"labels": {"mood": "mood", "age": "none"}}}},
            r"dataset clinic: .*labels\.csv: no sample has a label for 'age'; correct it or leave it out of `labels`",
        ),
        (
            {"datasets": {"clinic": {"labels": {"mood": "mood"}}, "web": {"labels": {"mood": "upper"}}}},
            r"task mood, in clinic and web: 'GLAD', 'glad' differ in case or blanks only",
        ),
        (
            {"datasets": {"clinic": {"labels": {"mood": "mood"}, "audit": {"mood": "copy"}}}},
            r"dataset clinic: no training sample has an audit label for 'mood'",
        ),
        (
            {"datasets": {"clinic": {"labels": {"mood": "mood"}, "classes": ["glad", "sad", "mad"]}}},
            r"`classes` names 'mad', of which there are no images",
        ),
    ],
)
def test_labels_that_will_not_do_stop_a_run_before_its_first_job(project, changes, message):
    rows = [
        f"{number}.png,{'glad' if number % 2 else 'sad'},,{'GLAD' if number % 2 else 'sad'}" for number in range(40)
    ]
    rows = [f"{row},{row.split(',')[1]}" for row in rows]
    (project.folder / "labels.csv").write_text("\n".join(["file,mood,none,upper,copy", *rows]) + "\n")
    base = {"source": "table", "path": "labels.csv", "columns": {"path": "file"}, "split": {"test": 0.2}, "images": "."}
    datasets = {name: base | one for name, one in changes["datasets"].items()}
    project.write_config("bad.yaml", datasets=datasets | {"heads": copy_of_tiny()["portraits"]})
    done = project.snakemake("--cores", "2", config="bad.yaml", check=False)
    assert done.returncode != 0
    assert len([line for line in done.stdout.splitlines() if re.search(message, line)]) == 1
    assert not (project.results / "data").exists()


def test_fifteen_spellings_repeated_rows_and_images_beside_the_table(project):
    """From a table as people have them to a trained network, with nothing edited by hand."""
    spellings = {
        "anger": ["anger", "ANGER", "angry"],
        "happiness": ["happiness", "HAPPINESS", "happy"],
        "sadness": ["sadness", "SADNESS"],
        "fear": ["fear", "FEAR"],
        "disgust": ["disgust", "DISGUST"],
        "surprise": ["surprise"],
        "neutral": ["neutral"],
        "contempt": ["contempt"],
    }
    assert (len(spellings), sum(map(len, spellings.values()))) == (8, 15)
    folder = project.folder / "mine"
    (folder / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for number in range(240):
        names = spellings[list(spellings)[number % 8]]
        level = 20 + 26 * (number % 8)
        pixels = rng.integers(level, level + 30, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number:03d}.png")
        age = ["old", "young"][number % 2] if number % 3 else ""
        rows.append(f"{number:03d}.png,{names[number // 8 % len(names)]},{age}")
    (folder / "data").mkdir()
    (folder / "data/legend.csv").write_text("\n".join(["image,emotion,age", *rows, *rows[:8]]) + "\n")
    command = [sys.executable, "-m", "stages.tools.describe_data", "mine", "--output", "mine.yaml"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load((project.folder / "mine.yaml").read_text())
    (dataset,) = settings["datasets"].values()
    assert dataset["labels"] == {"emotion": "emotion", "age": "age"}
    assert (dataset["images"], dataset["duplicates"]) == ("images", "majority")
    assert len(settings["tasks"]["emotion"]["classes"]) == 8
    (project.folder / "short.yaml").write_text("training: {epochs: 2}\n")
    project.snakemake("--configfile", "mine.yaml", "short.yaml", "--cores", "2", config=None)
    (network,) = (project.folder / "results").glob("*/seed-0/mtl_sa_plus/network.safetensors")
    table = read_table(network.parents[2] / "data" / next(iter(settings["datasets"])) / "train.parquet", MANIFEST)
    assert len(set(table["label_emotion"])) == 8
    assert len(set(table["path"])) == len(table)
