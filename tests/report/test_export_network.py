import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stages.report.export_network import main
from stages.storage.checkpoints import load_network
from stages.storage.contracts import METRICS
from stages.storage.files import digest_file
from stages.storage.tables import Provenance, write_table


def export(run, folder, name="initial", *options):
    splits, network = (run.test_faces, run.test_heads), run.checkpoint(name)["network"]
    metrics = write_metrics(run.folder / f"metrics of {name}.parquet", {network.name: digest_file(network)})
    main(
        [
            *("--network", str(network), "--metrics", str(metrics), "--threads", "1"),
            *("--tables", *(str(split.table) for split in splits)),
            *("--images", *(str(split.images) for split in splits)),
            *("--output-model", str(folder / "network.onnx"), "--output-report", str(folder / "export.json")),
            *options,
        ]
    )


def write_metrics(path, files):
    """A run's metrics, which record the digest of its network."""
    columns = {"epoch": np.ones(1, dtype=np.int32), "n_samples": np.ones(1, dtype=np.int64)}
    columns |= dict.fromkeys(("task", "dataset", "split", "trained_dataset"), np.array(["test"], dtype=object))
    columns |= dict.fromkeys(("accuracy", "macro_f1"), np.ones(1))
    metadata = {"files": files, "select": "last", "selected_epoch": 1}
    write_table(path, METRICS, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export(run, folder)
    return folder


@pytest.mark.parametrize("n_images", [1, 5, 12])
def test_onnx_runtime_gives_what_pytorch_gives_for_any_batch(run, exported, n_images):
    images = run.test_faces.pixels[:n_images].transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(exported / "network.onnx"))
    names = [output.name for output in session.get_outputs()]
    assert names == ["probabilities_expression", "probabilities_pose", "features_expression", "features_pose"]
    found = session.run(names, {"images": images})
    with torch.inference_mode():
        features, scores = load_network(run.checkpoint("initial")["network"]).eval().extract(torch.from_numpy(images))
    expected = [*(torch.softmax(values, 1) for values in scores.values()), *features.values()]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


def test_the_report_and_the_model_describe_themselves(run, exported):
    report = json.loads((exported / "export.json").read_text())
    assert report["n_images"] == 22
    assert 0 <= max(report["maximum_difference"].values()) < 1e-5
    assert report["files"] == {"network.onnx": digest_file(exported / "network.onnx")}
    model = onnx.load(exported / "network.onnx")
    network = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "network"))
    assert network["classes"] == {"expression": ["angry", "happy", "sad"], "pose": ["frontal", "left"]}


def test_a_model_is_the_same_anywhere_and_names_no_file_of_this_machine(run, exported, tmp_path):
    export(run, tmp_path)
    assert digest_file(tmp_path / "network.onnx") == digest_file(exported / "network.onnx")
    assert b".py" not in (exported / "network.onnx").read_bytes()


def test_separate_networks_become_one_model(run, tmp_path):
    run.initialize("separate for export", "--separate", "True", "--passes", "1")
    export(run, tmp_path, "separate for export")
    assert json.loads((tmp_path / "export.json").read_text())["maximum_difference"]["features_pose"] < 1e-5


def test_a_model_that_differs_is_not_written(run, tmp_path, monkeypatch):
    from stages.report import onnx_model

    convert = onnx_model.convert_network

    def convert_badly(network):
        with torch.no_grad():
            for parameter in network.classifiers.parameters():
                parameter.add_(torch.randn_like(parameter))
        model = convert(network)
        network.load_state_dict(load_network(run.checkpoint("initial")["network"]).state_dict())
        return model

    monkeypatch.setattr(onnx_model, "convert_network", convert_badly)
    with pytest.raises(ValueError, match=r"as ONNX its probabilities_\w+ differ by .* no model was written"):
        export(run, tmp_path)
    assert not list(tmp_path.iterdir())
