"""From folders of images to predictions, by the commands of docs/your-data.md."""

import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pyarrow.csv
import pytest
from PIL import Image

from stages.storage.checkpoints import load_network

RED, BLUE = {"dark": 30, "bright": 190}, {"dim": 30, "vivid": 190}


@pytest.fixture
def stage(project):
    """Run a stage as a user does; returns standard output."""

    def run(*command, status=0):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=project.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


def draw_images(folder, n_images, channel, brightness, seed):
    """Noise whose brightness in one channel is the class, in folders of the classes."""
    rng = np.random.default_rng(seed)
    for number in range(n_images):
        name = list(brightness)[number % 2]
        pixels = rng.integers(0, 60, (40, 40, 3))
        pixels[:, :, channel] += brightness[name]
        path = folder / name / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_describe_train_predict_evaluate_and_export(project, stage):
    draw_images(project.folder / "data/red", 60, 0, RED, seed=1)
    draw_images(project.folder / "data/blue", 60, 2, BLUE, seed=2)
    (project.folder / "configs").mkdir()
    stage(
        "stages.tools.describe_data",
        "data/red",
        "data/blue",
        "--tasks",
        "redness",
        "blueness",
        "--output",
        "configs/mine.yaml",
    )
    config = project.folder / "configs/mine.yaml"
    text = config.read_text()
    assert "# Warning" not in text
    config.write_text(re.sub(r"(?m)^  epochs: \d+", "  epochs: 2", text))
    output = project.snakemake("--cores", "2", config="configs/mine.yaml").stdout
    assert "Test accuracy per epoch and task" in output
    folder = project.folder / "results/red_blue/seed-0/mtl_sa_plus"
    network = str(folder / "network.safetensors")

    draw_images(project.folder / "new", 20, 0, RED, seed=3)
    stage("stages.tools.predict_images", "--network", network, "--images", "new", "--output", "predictions.csv")
    predictions = pyarrow.csv.read_csv(project.folder / "predictions.csv")
    truth = [path.split("/")[0] for path in predictions["path"].to_pylist()]
    accuracy = np.mean(
        [one == other for one, other in zip(predictions["class_redness"].to_pylist(), truth, strict=True)]
    )
    output = stage("stages.tools.score_images", *("--network", network, "--images", "new"), *("--output", "s.json"))
    scores = json.loads((project.folder / "s.json").read_text())
    assert scores["accuracy"] == accuracy
    assert f"redness: accuracy {accuracy:.1%}" in output

    project.snakemake("--cores", "2", "export", config="configs/mine.yaml")
    card = (folder / "model_card.md").read_text()
    assert str(project.folder) not in card
    assert "* redness, labelled in red: `bright`, `dark`\n* blueness, labelled in blue: `dim`, `vivid`\n" in card
    session = onnxruntime.InferenceSession(str(folder / "network.onnx"))
    height, width, _ = load_network(network).specification.image_shape
    image = Image.open(project.folder / "new/dark/000.png").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None]
    (probabilities,) = session.run(["probabilities_redness"], {"images": pixels})
    row = predictions["path"].to_pylist().index("dark/000.png")
    assert probabilities[0, 1] == pytest.approx(predictions["probability_redness:dark"][row].as_py(), abs=1e-5)


def test_a_backbone_with_batch_normalisation_trains_to_the_same_bits_anywhere(project):
    digests = []
    for cores in ("1", "2"):
        project.write_config(
            "bn.yaml",
            experiment=f"cores{cores}",
            network={"backbone": "shufflenet_v2_x0_5", "head_features": 16},
            images={"height": 32, "width": 32},
            training={"epochs": 1, "learning_rate": 0.001, "batch_size": 23},
            methods=["mtl_sa", "stl"],
        )
        project.snakemake("--cores", cores, config="bn.yaml")
        folder = project.folder / f"results/cores{cores}/seed-0"
        digests.append({method: (folder / method / "network.safetensors").read_bytes() for method in ("mtl_sa", "stl")})
    assert digests[0] == digests[1]
    network = load_network(folder / "stl/network.safetensors")
    assert "backbones.task_pose.conv1.1.running_mean" in network.state_dict()
