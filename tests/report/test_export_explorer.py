import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.made_up_experiment import write_experiment
from stages.report.export_explorer import main
from stages.storage.contracts import EXPLORER, FEATURES, WEIGHTS
from stages.storage.files import read_json
from stages.storage.tables import read_table
from stages.storage.verification import examine, read_plan, write_commands

SIZES = {"faces": 130, "heads": 90}
HOSTILE = ["</script><script>alert(1)</script>", 'a"b\\', "line\nbreak\u2028", "<img src=x onerror=alert(1)>"]
CLASSES = {"mood": ["angry", "happy", "sad"], "pose": HOSTILE}
RUNS = ("mtl_sa/0", "mtl_wf/0")


def export(folder, options, output="explorer", *more, runs=RUNS):
    metrics = [f"{run}={folder}/seed-0/{run.split('/')[0]}/metrics.parquet" for run in runs]
    main(
        [
            *(*options, "--experiment", "made_up", "--runs", *runs, "--metrics", *metrics),
            *("--max-embedded", "60", "--output", str(folder / output), *more),
        ]
    )
    return folder / output


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    options = write_experiment(folder, SIZES, CLASSES, path_format='it\'s "{number}" & <b>.png')
    return folder, options


@pytest.fixture(scope="module")
def explorer(experiment):
    return export(*experiment)


def read_call(folder, name):
    """The arguments that a script hands over, after its name."""
    text = (folder / "data" / f"{name}.js").read_text(encoding="ascii")
    assert text.startswith("explorer.take(")
    assert text.endswith(");\n")
    found, *arguments = json.loads(f"[{text[len('explorer.take(') : -3]}]")
    assert found == name
    return arguments


def read_column(folder, name, sizes=(130, 90)):
    """As the page reads it: all samples, what a dataset lacks filled up."""
    kind, width, datasets, content = read_call(folder, name)
    found = np.frombuffer(base64.b64decode(content), np.dtype(kind).newbyteorder("<")).reshape(-1, width)
    bounds = np.cumsum([0, *sizes])
    values = np.full((bounds[-1], width), {"f": np.nan, "i": -1, "u": 0}[kind[0]], dtype=found.dtype)
    for dataset in datasets:
        n = sizes[dataset]
        values[bounds[dataset] : bounds[dataset + 1]], found = found[:n], found[n:]
    assert not len(found)
    return values[:, 0] if width == 1 else values


def test_every_weight_of_every_sample_comes_through(experiment, explorer):
    folder, _ = experiment
    for epoch, task, dataset in ((1, "pose", "faces"), (4, "mood", "heads")):
        place = f"run-0/epoch-{epoch}/{list(CLASSES).index(task)}"
        table = read_table(folder / f"seed-0/mtl_sa/epoch-{epoch:03d}/{task}/{dataset}/weights.parquet", WEIGHTS)
        rows = table["sample_id"] + (0 if dataset == "faces" else SIZES["faces"])
        for name in ("confidence_weight", "density_weight", "confident_weight", "sample_distance", "selection_weight"):
            shown = read_column(explorer, f"{place}/{name}")
            np.testing.assert_array_equal(shown[rows], table[name].astype("f4"))
            assert np.isnan(np.delete(shown, rows)).all()
        assert (read_column(explorer, f"{place}/pseudo")[rows] == table["pseudo_label"]).all()


def test_a_weight_that_a_method_does_not_use_has_no_column_and_none_is_zero(explorer):
    [index] = read_call(explorer, "index")
    columns = {run["method"]: set(run["views"]["pose"][0]["columns"]) for run in index["runs"]}
    unused = {"density_weight", "confident_weight", "sample_distance", "distribution_weight"}
    assert unused <= columns["mtl_sa"]
    assert not unused & columns["mtl_wf"]
    assert not (explorer / "data/run-1/epoch-1/1/density_weight.js").exists()


def test_given_labels_are_told_from_those_held_back_and_get_no_weight(experiment, explorer):
    given, held = read_column(explorer, "given-1"), read_column(explorer, "held-1")
    assert (np.flatnonzero(given[:130] >= 0) == np.arange(0, 130, 10)).all()
    assert (given[130:] >= 0).all()
    assert not ((given >= 0) & (held >= 0)).any()
    weights = read_column(explorer, "run-0/epoch-3/1/selection_weight")
    assert (np.isnan(weights) == (given >= 0)).all()
    # Where the features are there, the prediction is shown beside the given label; mtl_wf has none of `heads`.
    assert (read_column(explorer, "run-0/epoch-3/1/pseudo") >= 0).all()
    assert (read_column(explorer, "run-1/epoch-3/1/pseudo")[130:] == -1).all()


def test_soft_labels_are_those_before_the_temperature(experiment, explorer):
    folder, _ = experiment
    table = read_table(folder / "seed-0/mtl_sa/epoch-001/features/faces.parquet", FEATURES)
    shares = read_column(explorer, "run-0/epoch-1/1/soft")[:130]
    expected = np.sort(table["soft_label_pose"], axis=1)[:, ::-1]
    np.testing.assert_allclose(shares[:, 1::2] / 255, expected, atol=0.5 / 255 + 1e-6)
    assert (shares[:, 0] == table["soft_label_pose"].argmax(axis=1)).all()


def test_without_features_soft_labels_come_from_the_labels_and_the_map_is_left_out(tmp_path):
    options = write_experiment(tmp_path, SIZES, CLASSES, methods=["mtl_sa"])
    whole = read_column(export(tmp_path, options, runs=RUNS[:1]), "run-0/epoch-1/1/soft")
    for path in tmp_path.glob("seed-0/mtl_sa/epoch-*/features/*.parquet"):
        path.unlink()
    lacking = export(tmp_path, options, "lacking", runs=RUNS[:1])
    given = read_column(lacking, "given-1") >= 0
    shares = read_column(lacking, "run-0/epoch-1/1/soft")
    assert np.abs(shares[~given].astype(int) - whole[~given]).max() <= 1
    assert not shares[given].any()
    [index] = read_call(lacking, "index")
    assert not {"pca_x", "neighbor_distance"} & set(index["runs"][0]["views"]["pose"][-1]["columns"])


def test_names_reach_the_page_as_data_only(explorer):
    """No byte of a name stands where a browser reads markup or code, and every name comes back whole."""
    [index] = read_call(explorer, "index")
    assert index["tasks"][1]["classes"] == HOSTILE
    [paths] = read_call(explorer, "paths-0")
    assert paths[7] == 'it\'s "7" & <b>.png'
    assert (explorer / "data/index.js").read_bytes().isascii()
    page = (explorer / "index.html").read_text(encoding="utf-8")
    assert not any(name in page for name in (*HOSTILE, "made_up", "faces", "mtl_sa"))
    sources = "".join(path.read_text(encoding="utf-8") for path in explorer.glob("*.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org/2000/svg)", sources
    )
    assert not re.search(r"https?://", page)


def test_thumbnails_are_those_of_the_samples(experiment, explorer):
    folder, _ = experiment
    images = np.load(folder / "data/faces/train.npy")
    [index] = read_call(explorer, "index")
    lie = index["sheets"]
    assert (lie["height"], lie["width"], lie["pitch_x"], lie["pitch_y"]) == (12, 16, 16, 16)
    for row in (0, 99, 100, 129):
        sheet = np.asarray(Image.open(explorer / f"sheets/0-{row // 100}.jpg"))
        top, left = row % 100 // 10 * lie["pitch_y"], row % 10 * lie["pitch_x"]
        tile = sheet[top : top + 12, left : left + 16].astype(float)
        assert np.abs(tile.mean(axis=(0, 1)) - images[row].mean(axis=(0, 1))).max() < 8


def test_neighbours_are_the_nearest_and_never_the_sample_itself(experiment, explorer):
    folder, _ = experiment
    parts = [read_table(folder / f"seed-0/mtl_sa/epoch-003/features/{name}.parquet", FEATURES) for name in SIZES]
    features = np.concatenate([part["features_pose"] for part in parts])
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    neighbors = read_column(explorer, "run-0/epoch-3/1/neighbors")
    assert neighbors.shape == (220, 8)
    assert (neighbors != np.arange(220)[:, None]).all()
    np.testing.assert_allclose(np.take_along_axis(distances, neighbors, 1), np.sort(distances, 1)[:, :8], atol=1e-3)
    nearest = read_column(explorer, "run-0/epoch-3/1/neighbor_distance")
    np.testing.assert_allclose(nearest, distances.min(axis=1), atol=1e-3)


def digest_folder(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")}


def test_the_same_samples_give_the_same_bytes(experiment, explorer):
    digests = [digest_folder(folder) for folder in (explorer, export(*experiment, "again"))]
    for one in digests:
        # It names the folder.
        one.pop(next(path for path in one if path.name == "explorer.json"))
    assert digests[0] == digests[1]


def test_thinning_out_keeps_whole_samples(experiment, explorer):
    folder, options = experiment
    thinned = export(folder, options, "thinned", "--max-samples", "50")
    [index] = read_call(thinned, "index")
    sizes = [one["n"] for one in index["datasets"]]
    assert (sum(sizes), index["n_all"]) == (50, 220)
    assert min(sizes) > 10
    ids = read_column(thinned, "ids", sizes)
    rows = ids + np.repeat([0, SIZES["faces"]], sizes)
    for name in ("given-1", "run-0/epoch-3/1/selection_weight", "run-0/epoch-3/1/pseudo"):
        np.testing.assert_array_equal(read_column(thinned, name, sizes), read_column(explorer, name)[rows])


def test_samples_of_another_dataset_are_refused_and_nothing_is_left(experiment, tmp_path):
    folder, options = experiment
    swapped = [re.sub("(data/)(faces|heads)(/audit)?", r"\1heads\3", option) for option in options]
    place = f"{folder}/seed-0/mtl_sa/epoch-001/pose/faces"
    swapped[swapped.index("--augmented") + 1] = place
    with pytest.raises(ValueError, match=r"its samples are not those of .*heads/train\.parquet; run snakemake again"):
        main([*swapped, "--experiment", "x", "--runs", "mtl_sa/0", "--output", str(tmp_path / "explorer")])
    assert not list(tmp_path.iterdir())


def test_verify_knows_the_folder_as_one_artifact_and_finds_what_is_wrong_in_it(experiment, explorer):
    folder, _ = experiment
    plan = {"command": "snakemake", "results": "results/made_up"}
    plan["artifacts"] = [["results/made_up/explorer", "export_explorer", "viewing", False, "export_explorer explorer"]]
    (folder / "plan.json").write_text(json.dumps(plan))

    def look():
        findings = examine(folder, read_plan(folder))
        return findings.damaged, [path for path in findings.left_over if path.startswith("explorer")], findings

    assert set(read_json(explorer / "explorer.json", EXPLORER)["files"]) > {"index.html", "data/index.js"}
    assert look()[:2] == ({}, [])
    sheet = explorer / "sheets/0-0.jpg"
    content = sheet.read_bytes()
    for changed in (content[:-1] + b"x", None):
        sheet.unlink() if changed is None else sheet.write_bytes(changed)
        damaged, left_over, findings = look()
        assert damaged == {"explorer": "is damaged (explorer/sheets/0-0.jpg is not the file that was recorded)"}
        assert not left_over
        [command] = [one for one in write_commands(folder, read_plan(folder), findings).values() if "-- " in one]
        assert command.startswith("rm -rf results/made_up/explorer && snakemake -- results/made_up/explorer")
    sheet.write_bytes(content)
    (explorer / "more.html").touch()
    assert "explorer/more.html is not" in look()[0]["explorer"]
    (explorer / "more.html").unlink()
    assert look()[0] == {}


def test_faiss_and_torch_are_not_in_one_process(experiment, tmp_path):
    _, options = experiment
    arguments = [*options, "--experiment", "x", "--runs", "mtl_sa/0", "--max-embedded", "0"]
    script = (
        "import sys; from stages.report.export_explorer import main; main(sys.argv[1:]); "
        "assert 'faiss' in sys.modules and 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script, *arguments, "--output", str(tmp_path / "explorer")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
