import csv
import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.storage.checkpoints import load_network, save_network
from stages.storage.predictions import open_predictions
from stages.storage.tables import Provenance, read_metadata
from stages.tools.predict_images import main
from tests.conftest import EXPRESSIONS, POSES


def save_images(folder, pixels):
    """One grey PNG per image, in folders as users have them."""
    for number, one in enumerate(pixels):
        path = folder / f"{number % 3}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one[:, :, 0]).save(path)


def predict(run, images, output, *options):
    network = run.checkpoint("initial")["network"]
    command = ["--network", str(network), "--images", str(images), "--output", str(output), "--threads", "1"]
    return main([*command, "--workers", "1", "--batch-size", "5", *options])


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    save_images(folder, run.test_faces.pixels)
    return folder


def test_every_image_gets_what_the_network_says_of_it(run, folder, tmp_path):
    import torch

    assert predict(run, folder, tmp_path / "p.parquet", "--features") == 0
    table = pq.read_table(tmp_path / "p.parquet")
    paths = table["path"].to_pylist()
    assert paths == sorted(f"{number % 3}/{number:05}.png" for number in range(12))
    rows = [int(path[2:7]) for path in paths]
    network = load_network(run.checkpoint("initial")["network"]).eval()
    images = torch.from_numpy(run.test_faces.pixels[rows]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features, scores = network.extract(images)
    for task, classes in (("expression", EXPRESSIONS), ("pose", POSES)):
        expected = torch.softmax(scores[task], 1).numpy()
        found = np.stack([table[f"probability_{task}:{name}"].to_numpy() for name in classes], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert table[f"class_{task}"].to_pylist() == [classes[k] for k in expected.argmax(1)]
        np.testing.assert_array_equal(table[f"confidence_{task}"].to_numpy(), found.max(1))
        found = np.stack(table[f"features_{task}"].to_pylist())
        np.testing.assert_allclose(found, features[task], rtol=1e-6, atol=1e-6)
    metadata = read_metadata(tmp_path / "p.parquet")
    assert metadata["classes"] == {"expression": EXPRESSIONS, "pose": POSES}
    assert (metadata["stage"], metadata["parameters"]) == ("predict", {"features": True})


def test_csv_holds_the_same_as_parquet(run, folder, tmp_path):
    predict(run, folder, tmp_path / "p.csv")
    predict(run, folder, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == table.column_names
    for row, expected in zip(rows, table.to_pylist(), strict=True):
        assert row["class_pose"] == expected["class_pose"]
        assert float(row["confidence_pose"]) == pytest.approx(expected["confidence_pose"])


def test_bad_images_are_listed_and_the_others_predicted(run, tmp_path, capsys):
    save_images(tmp_path / "images", run.test_heads.pixels)
    (tmp_path / "images/0/broken.jpg").write_bytes(b"not an image")
    whole = (tmp_path / "images/1/00001.png").read_bytes()
    (tmp_path / "images/1/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images/notes.txt").write_text("no image by its name")
    (tmp_path / "images/.hidden.png").write_bytes(b"")
    assert predict(run, tmp_path / "images", tmp_path / "p.parquet") == 3
    table = pq.read_table(tmp_path / "p.parquet")
    assert len(table) == 10
    skipped = dict(json.loads(pq.read_metadata(tmp_path / "p.parquet").metadata[b"skipped"]))
    assert list(skipped) == ["0/broken.jpg", "1/cut.png"]
    assert skipped["0/broken.jpg"] == "is not an image"
    error = capsys.readouterr().err
    assert f"{tmp_path}/images/0/broken.jpg: is not an image\n" in error
    assert "2 of 12 images could not be used, see above\n" in error


def test_names_that_are_no_text_cost_only_their_own_images(run, tmp_path, capsys):
    save_images(tmp_path / "images", run.test_heads.pixels)
    (tmp_path / "images/0/00000.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/images/0/\xff.png"))
    assert predict(run, tmp_path / "images", tmp_path / "p.parquet") == 3
    assert len(pq.read_table(tmp_path / "p.parquet")) == 9
    assert r"images/0/\udcff.png: has a name that is not UTF-8; rename it" in capsys.readouterr().err


def test_what_is_no_regular_file_is_not_waited_for(run, tmp_path, capsys):
    save_images(tmp_path / "images", run.test_heads.pixels)
    os.mkfifo(tmp_path / "images/pipe.png")
    assert predict(run, tmp_path / "images", tmp_path / "p.parquet") == 3
    assert "images/pipe.png: cannot be opened (no regular file)" in capsys.readouterr().err


def test_links_that_lead_in_circles_are_walked_once(run, tmp_path):
    save_images(tmp_path / "images", run.test_heads.pixels[:6])
    (tmp_path / "images/0/self").symlink_to(tmp_path / "images")
    (tmp_path / "images/1/other").symlink_to(tmp_path / "images/2")
    (tmp_path / "images/2/other").symlink_to(tmp_path / "images/1")
    predict(run, tmp_path / "images", tmp_path / "p.parquet")
    paths = pq.read_table(tmp_path / "p.parquet")["path"].to_pylist()
    # A link to a folder elsewhere is followed, one to where it came from is not.
    extra = ["1/other/00002.png", "1/other/00005.png", "2/other/00001.png", "2/other/00004.png"]
    assert paths == sorted([f"{number % 3}/{number:05}.png" for number in range(6)] + extra)


def test_columns_of_tasks_and_classes_cannot_be_taken_for_each_other(tmp_path):
    classes = {"age": ["group_1", "group_2"], "age_group": ["1", "2"]}
    probabilities = {task: np.array([[0.25, 0.75]], dtype=np.float32) for task in classes}
    with open_predictions(tmp_path / "p.parquet", classes, Provenance("test", {}, [])) as writer:
        writer.write(["a.png"], probabilities, {})
    table = pq.read_table(tmp_path / "p.parquet")
    assert len(set(table.column_names)) == 9
    assert table["probability_age:group_1"].to_pylist() == table["probability_age_group:1"].to_pylist() == [0.25]


@pytest.mark.parametrize("option", ["--batch-size", "--workers", "--threads"])
def test_numbers_below_one_are_refused(run, folder, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        predict(run, folder, tmp_path / "p.csv", option, "0")
    assert f"argument {option}: 0 is too small; the least is 1" in capsys.readouterr().err


def test_decoding_processes_need_no_torch():
    command = "import sys, stages.tools.predict_images, stages.tools.score_images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_one_image_can_be_predicted(run, folder, tmp_path):
    assert predict(run, folder / "0/00003.png", tmp_path / "p.csv") == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("images", "output", "options", "message"),
    [
        ("nowhere", "p.csv", (), "nowhere: is neither a folder nor an image; correct --images"),
        ("empty", "p.csv", (), r"empty: holds no images \(\.bmp, .*\); correct --images"),
        ("broken", "p.csv", (), "none of the images can be used"),
        (".", "p.txt", (), r"p\.txt: must end in \.parquet or \.csv"),
        (".", "p.csv", ("--features",), r"p\.csv: feature vectors need Parquet; let --output end in \.parquet"),
        (".", "p.csv", ("--network", "none.safetensors"), "does not exist"),
        (".", "p.csv", ("--network", "."), r"\.: is a folder; name the network\.safetensors in it"),
        (".", "p.csv", ("--network", "README.md"), r"README\.md: is no network or is damaged .* name a network"),
        (".", "empty.csv", (), r"empty\.csv: is a folder; name a file with --output"),
        (".", "broken/a.png/p.csv", (), r"p\.csv: its folder cannot be made \(.*\); correct --output"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_line(run, folder, tmp_path, images, output, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"")
    path = folder if images == "." else tmp_path / images
    with pytest.raises(ValueError, match=message):
        predict(run, path, tmp_path / output, *options)
    assert not (tmp_path / output).is_file()


def test_memory_does_not_grow_with_the_number_of_images(run, tmp_path):
    specification = NetworkSpecification("vgg_tiny", (96, 96, 1), 4, {"pose": POSES}, 1.0, [0.5], [0.5])
    save_network(tmp_path / "network.safetensors", MultiTaskNetwork(specification))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), dtype=np.uint8)
    peaks = []
    for n_images in (100, 400):
        save_images(tmp_path / str(n_images), np.broadcast_to(pixels, (n_images, 16, 16, 1)))
        options = ("--network", str(tmp_path / "network.safetensors"))
        predict(run, tmp_path / str(n_images), tmp_path / "warm.parquet", *options)
        tracemalloc.start()
        predict(run, tmp_path / str(n_images), tmp_path / "p.parquet", *options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Paths are kept, about 1 kB each with their samples; a decoded image has 9 kB.
    assert peaks[1] - peaks[0] < 300 * 4000
