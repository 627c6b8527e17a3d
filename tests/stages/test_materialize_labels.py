import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.core.contracts import DENSITY, FEATURES, LABELS, RESPONSIBILITIES, TRANSPORT, WEIGHTS
from stages.materialize_labels import main
from stages.storage.tables import read_table


@pytest.fixture(scope="module")
def files(run):
    features = run.extract("initial", "labels")
    files = run.weigh("labels", features, trained="faces", task="pose", labeled="heads", number=1)
    return {**files, "features": str(features["faces"])}


def test_every_weight_can_be_recomputed_from_the_tables(files):
    weights = read_table(files["weights"], WEIGHTS)
    soft = read_table(files["features"], FEATURES)["soft_label_pose"].astype(np.float64)
    density = read_table(files["density"], DENSITY)["density_weight"]
    gamma = read_table(files["responsibilities"], RESPONSIBILITIES)["responsibilities"]
    transport = read_table(files["transport"], TRANSPORT)
    np.testing.assert_array_equal(weights["confidence_weight"], soft.max(1))
    np.testing.assert_array_equal(weights["density_weight"], density)
    np.testing.assert_allclose(weights["confident_weight"], soft.max(1) * density)
    np.testing.assert_allclose(weights["sample_distance"], gamma @ transport["transport_distance"])
    np.testing.assert_allclose(weights["distribution_weight"], np.exp(-0.1 * weights["sample_distance"]))
    product = weights["confident_weight"] * weights["distribution_weight"]
    np.testing.assert_allclose(weights["selection_weight"], product / product.max())
    assert weights["selection_weight"].max() == 1.0
    assert weights["pseudo_class"].tolist() == [["frontal", "left"][k] for k in soft.argmax(1)]


def test_training_labels_interpolate_pseudo_and_tempered_labels(files):
    labels, weights = read_table(files["labels"], LABELS), read_table(files["weights"], WEIGHTS)
    soft = read_table(files["features"], FEATURES)["soft_label_pose"].astype(np.float64)
    tempered = np.sqrt(soft) / np.sqrt(soft).sum(1, keepdims=True)
    np.testing.assert_allclose(labels["soft_label"], tempered, atol=1e-6)
    w = weights["selection_weight"][:, None]
    np.testing.assert_allclose(labels["training_label"], w * np.eye(2)[soft.argmax(1)] + (1 - w) * tempered, atol=1e-6)
    np.testing.assert_allclose(labels["training_label"].sum(1), 1, atol=1e-6)


def materialize(files, folder, *options):
    outputs = ["--output-weights", str(folder / "w.parquet"), "--output-labels", str(folder / "l.parquet")]
    main(["--task", "pose", "--features", files["features"], *outputs, *options])


def test_without_forgetting_is_the_soft_label_and_leaves_the_rest_null(files, tmp_path):
    materialize(files, tmp_path, "--selection", "0", "--temperature", "1")
    soft = read_table(files["features"], FEATURES)["soft_label_pose"]
    np.testing.assert_allclose(read_table(tmp_path / "l.parquet", LABELS)["training_label"], soft, atol=1e-6)
    weights = pq.read_table(tmp_path / "w.parquet")
    for name in ("density_weight", "confident_weight", "sample_distance", "distribution_weight"):
        assert weights[name].null_count == 30
    assert weights["selection_weight"].to_pylist() == [0.0] * 30
    assert weights["confidence_weight"].null_count == 0


def test_a_constant_weight_of_one_is_the_pseudo_label(files, tmp_path):
    materialize(files, tmp_path, "--selection", "1")
    soft = read_table(files["features"], FEATURES)["soft_label_pose"]
    np.testing.assert_array_equal(
        read_table(tmp_path / "l.parquet", LABELS)["training_label"],
        np.eye(2, dtype=np.float32)[soft.argmax(1)],
    )


def test_tables_of_other_samples_or_missing_ones_are_refused(run, files, tmp_path):
    features = run.extract("initial", "labels-other", trained="heads")
    others = run.weigh("labels-other", features, trained="heads", task="expression", labeled="faces", number=1)
    with pytest.raises(ValueError, match=r"density\.parquet: its samples are not those of the features"):
        materialize(files, tmp_path, "--selection", '["density"]', "--density", others["density"])
    with pytest.raises(ValueError, match="criterion 'density' was asked for, but its table was not given"):
        materialize(files, tmp_path, "--selection", '["density"]')
    assert list(tmp_path.iterdir()) == []
