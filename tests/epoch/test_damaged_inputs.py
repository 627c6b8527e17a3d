"""What a stage reads is what the artifacts beside it say, to the last bit, or it writes nothing."""

import json
import os
import shutil

import numpy as np
import pytest

from stages.epoch import evaluate_network, extract_features, initialize_network, train_epoch
from stages.report import export_network
from stages.storage.contracts import METRICS
from stages.storage.files import digest_file
from stages.storage.tables import Provenance, write_table

TRAINING = ("--batch-size", "8", "--learning-rate", "0.003")
COMPUTE = ("--threads", "1", "--device", "cpu")


@pytest.fixture
def copy(run, tmp_path):
    """Two datasets, a checkpoint, labels and a finished run, to be damaged."""
    features = run.extract("initial", "damaged")
    labels = run.weigh("damaged", features, trained="faces", task="pose", labeled="heads", number=1)["labels"]
    for name in ("faces", "heads", "initial"):
        shutil.copytree(run.folder / name, tmp_path / name)
    shutil.copy(labels, tmp_path / "labels.parquet")
    columns = {"epoch": np.ones(1, dtype=np.int32), "n_samples": np.ones(1, dtype=np.int64)}
    columns |= dict.fromkeys(("task", "dataset", "split", "trained_dataset"), np.array(["test"], dtype=object))
    columns |= dict.fromkeys(("accuracy", "macro_f1"), np.ones(1))
    files = {"network.safetensors": digest_file(tmp_path / "initial/network.safetensors")}
    write_table(
        tmp_path / "metrics.parquet",
        METRICS,
        columns,
        metadata={"files": files, "select": "last", "selected_epoch": 1},
        provenance=Provenance("test", {}, []),
    )
    return tmp_path


def call(stage, folder):
    """Run a stage on the copy; returns the folder that it writes to."""
    split = "train" if stage in ("initialize_network", "train_epoch", "extract_features") else "test"
    names = ("faces",) if stage == "train_epoch" else ("faces", "heads")
    checkpoint, output = folder / "initial", folder / "output"
    network = ("--network", checkpoint / "network.safetensors")
    card = ("--card", checkpoint / "checkpoint.json")
    outputs = (
        *("--output-network", output / "network.safetensors", "--output-card", output / "checkpoint.json"),
        *("--output-optimizer", output / "optimizer.safetensors"),
    )
    module, options = {
        "initialize_network": (
            initialize_network,
            ("--backbone", "vgg_tiny", "--head-features", "6", *TRAINING, *COMPUTE, *outputs),
        ),
        "train_epoch": (
            train_epoch,
            (
                *(*network, *card, "--optimizer", checkpoint / "optimizer.safetensors", "--epoch", "1"),
                *("--labels", f"pose={folder / 'labels.parquet'}", *TRAINING, *COMPUTE, *outputs),
            ),
        ),
        "extract_features": (
            extract_features,
            (*network, *card, "--tasks", "pose", *COMPUTE, "--output", output / "a"),
        ),
        "evaluate_network": (evaluate_network, (*network, *card, *COMPUTE, "--output", output / "metrics.json")),
        "export_network": (
            export_network,
            (
                *(*network, "--metrics", folder / "metrics.parquet", "--threads", "1"),
                *("--output-model", output / "network.onnx", "--output-report", output / "export.json"),
            ),
        ),
    }[stage]
    tables = [folder / name / f"{split}.parquet" for name in names]
    images = [folder / name / f"{split}.npy" for name in names]
    if stage == "extract_features":
        module.main(list(map(str, ("--table", tables[0], "--images", images[0], *options))))
    else:
        module.main(list(map(str, ("--tables", *tables, "--images", *images, *options))))
    return output


def flip_last_byte(path):
    """As a disk does it: neither size nor time tells."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("stage", "damaged", "message"),
    [
        ("initialize_network", "faces/train.npy", "is damaged, or not the one that .*train.parquet describes"),
        ("train_epoch", "faces/train.npy", "is damaged, or not the one that .*train.parquet describes"),
        ("train_epoch", "initial/network.safetensors", "is not the file that .*checkpoint.json records"),
        ("train_epoch", "initial/optimizer.safetensors", "is not the file that .*checkpoint.json records"),
        ("train_epoch", "initial/checkpoint.json", "is not valid JSON|is damaged"),
        ("train_epoch", "labels.parquet", "is damaged"),
        ("extract_features", "faces/train.npy", "is damaged, or not the one that .*train.parquet describes"),
        ("extract_features", "initial/network.safetensors", "is not the file that .*checkpoint.json records"),
        ("evaluate_network", "heads/test.npy", "is damaged, or not the one that .*test.parquet describes"),
        ("evaluate_network", "initial/network.safetensors", "is not the file that .*checkpoint.json records"),
        ("export_network", "heads/test.npy", "is damaged, or not the one that .*test.parquet describes"),
        ("export_network", "initial/network.safetensors", "is not the file that .*metrics.parquet records"),
    ],
)
def test_a_flipped_bit_is_found_by_the_stage_that_reads_it(copy, stage, damaged, message):
    call(stage, copy)
    shutil.rmtree(copy / "output")
    flip_last_byte(copy / damaged)
    with pytest.raises(ValueError, match=rf"{damaged}: ({message}).* run snakemake again$") as error:
        call(stage, copy)
    assert str(error.value).isprintable()
    assert written(copy / "output") == []


@pytest.mark.parametrize("swapped", ["network", "optimizer"])
def test_a_file_of_another_epoch_is_refused(run, copy, swapped):
    run.train("damaged/next", "initial", trained="faces", labels={"pose": copy / "labels.parquet"}, epoch=1)
    shutil.copy(run.checkpoint("damaged/next")[swapped], copy / "initial")
    with pytest.raises(ValueError, match=rf"{swapped}\.safetensors: is not the file that .* records .*another run"):
        call("train_epoch", copy)
    assert written(copy / "output") == []


def test_a_card_is_no_input(copy):
    """It holds wall seconds, so that its digest differs from run to run."""
    output = call("train_epoch", copy)
    card = json.loads((output / "checkpoint.json").read_text())
    assert not any("checkpoint.json" in name for name in card["inputs"])
    assert (card["device"], card["precision"]) == ("cpu", "float32")
