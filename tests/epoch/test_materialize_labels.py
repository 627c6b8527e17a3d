import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.epoch import weigh_distribution
from stages.epoch.materialize_labels import main
from stages.storage.contracts import (
    DENSITY,
    DISCREPANCY,
    FEATURES,
    LABELS,
    REFINEMENT,
    RESPONSIBILITIES,
    TRANSPORT,
    WEIGHTS,
)
from stages.storage.tables import Provenance, read_metadata, read_table, write_table


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


def weigh(files, folder, *options, selection='["distribution"]'):
    """The weights by the cluster's distances, and whatever else is wanted."""
    materialize(files, folder, "--selection", selection, "--responsibilities", files["responsibilities"], *options)
    return read_table(folder / "w.parquet", WEIGHTS)


def transport(files, folder, *options):
    """Distances of the clusters, by a decay at which the nearby features of the test differ."""
    path = str(folder / "t.parquet")
    mixtures = ("--unlabeled", files["unlabeled"], "--labeled", files["labeled"])
    weigh_distribution.main([*mixtures, "--decay", "1000", "--output", path, *options])
    return path


def test_the_distance_to_the_mean_gives_the_weights_of_the_squared_emd(files, tmp_path):
    path = transport(files, tmp_path)
    by_name = {name: weigh(files, tmp_path, "--transport", path, "--distance", name) for name in ("emd", "mean")}
    assert np.ptp(by_name["emd"]["selection_weight"]) > 1e-3
    np.testing.assert_allclose(
        by_name["mean"]["selection_weight"], by_name["emd"]["selection_weight"], rtol=0, atol=1e-12
    )
    gamma = read_table(files["responsibilities"], RESPONSIBILITIES)["responsibilities"]
    mean_distance = read_table(path, TRANSPORT)["mean_distance"]
    np.testing.assert_allclose(by_name["mean"]["sample_distance"], gamma @ mean_distance)
    assert (by_name["mean"]["sample_distance"] < by_name["emd"]["sample_distance"]).all()


def test_with_euclidean_distances_emd_and_mean_weigh_differently(files, tmp_path):
    path = transport(files, tmp_path, "--ground-distance", "euclidean")
    emd, mean = (weigh(files, tmp_path, "--transport", path, "--distance", name) for name in ("emd", "mean"))
    assert np.abs(emd["selection_weight"] - mean["selection_weight"]).max() > 1e-4


def test_distances_by_mmd_come_from_the_table_of_discrepancies(files, tmp_path):
    path = tmp_path / "discrepancy.parquet"
    discrepancies = np.array([0.25, 1.5])
    write_table(
        path,
        DISCREPANCY,
        {"component": np.arange(2, dtype=np.int32), "kernel_discrepancy": discrepancies},
        metadata={"bandwidth": 1.0, "decay": 0.7},
        provenance=Provenance("measure_discrepancy", {}, []),
    )
    # The transport table is no part of it, even where it is given.
    options = ("--discrepancy", str(path), "--transport", files["transport"], "--distance", "mmd")
    weights = weigh(files, tmp_path, *options)
    distances = read_table(files["responsibilities"], RESPONSIBILITIES)["responsibilities"] @ discrepancies
    np.testing.assert_allclose(weights["sample_distance"], distances, rtol=1e-12)
    np.testing.assert_allclose(weights["distribution_weight"], np.exp(-0.7 * distances), rtol=1e-12)
    expected = np.exp(-0.7 * (distances - distances.min()))
    np.testing.assert_allclose(weights["selection_weight"], expected, rtol=1e-12)
    recorded = read_metadata(tmp_path / "w.parquet")
    assert recorded["parameters"]["distance"] == "mmd"
    assert {name.rsplit("/", 1)[-1] for name in recorded["inputs"]} == {
        "faces.parquet",
        "responsibilities.parquet",
        "discrepancy.parquet",
    }


@pytest.mark.parametrize(("distance", "table"), [("mmd", "transport"), ("emd", None), ("mean", None)])
def test_a_distance_without_its_table_is_refused(files, tmp_path, distance, table):
    given = (f"--{table}", files[table]) if table else ()
    with pytest.raises(ValueError, match="criterion 'distribution' was asked for, but its table was not given"):
        weigh(files, tmp_path, "--distance", distance, *given)
    assert list(tmp_path.iterdir()) == []


def test_alignment_takes_the_class_mix_from_the_manifests_of_the_labeled_samples(run, files, tmp_path):
    options = ("--selection", "0", "--temperature", "1", "--labeled", str(run.heads.table))
    materialize(files, tmp_path, *options, "--alignment", "full")
    labels, recorded = read_table(tmp_path / "l.parquet", LABELS), read_metadata(tmp_path / "l.parquet")
    frequencies = np.bincount(run.heads.labels) / len(run.heads.labels)
    np.testing.assert_allclose(labels["training_label"].mean(0), frequencies, atol=1e-4)
    assert recorded["parameters"]["alignment"] == "full"
    assert any(name.endswith("heads/train.parquet") for name in recorded["inputs"])
    weights = read_table(tmp_path / "w.parquet", WEIGHTS)
    np.testing.assert_array_equal(weights["pseudo_label"], labels["training_label"].argmax(1))
    np.testing.assert_allclose(weights["confidence_weight"], labels["training_label"].max(1), rtol=1e-6)
    materialize(files, tmp_path, *options)
    soft = read_table(files["features"], FEATURES)["soft_label_pose"]
    np.testing.assert_allclose(read_table(tmp_path / "l.parquet", LABELS)["training_label"], soft, atol=1e-6)
    assert "heads" not in " ".join(read_metadata(tmp_path / "l.parquet")["inputs"])


def test_an_alignment_to_another_tasks_labels_is_refused(run, files, tmp_path):
    with pytest.raises(ValueError, match=r"faces/train\.parquet: lacks the columns \['label_pose'\]"):
        materialize(files, tmp_path, "--selection", "0", "--alignment", "once", "--labeled", str(run.faces.table))


def write_refinement(path, refined, *, dataset="faces", sample_ids=None):
    n = len(refined)
    write_table(
        path,
        REFINEMENT,
        {
            "sample_id": np.arange(n) if sample_ids is None else sample_ids,
            "pseudo_label": np.zeros(n, dtype=np.int32),
            "refined_label": refined.astype(np.int32),
            "refined_probability": np.eye(2, dtype=np.float32)[refined],
        },
        metadata={
            "dataset": dataset,
            "classes": ["frontal", "left"],
            "strength": 1.0,
            "n_neighbors": 3,
            "iterations": 1,
            "converged": True,
        },
        provenance=Provenance("refine_labels", {}, []),
    )
    return str(path)


def test_refined_labels_take_the_place_of_the_pseudo_labels(files, tmp_path):
    soft = read_table(files["features"], FEATURES)["soft_label_pose"].astype(np.float64)
    refined = 1 - soft.argmax(1)
    path = write_refinement(tmp_path / "refinement.parquet", refined)
    for selection, weight in (("1", np.ones(30)), ('["confidence"]', soft.max(1) / soft.max())):
        materialize(files, tmp_path, "--selection", selection, "--refinement", path, "--temperature", "1")
        weights, labels = read_table(tmp_path / "w.parquet", WEIGHTS), read_table(tmp_path / "l.parquet", LABELS)
        assert weights["pseudo_label"].tolist() == labels["pseudo_label"].tolist() == refined.tolist()
        assert weights["pseudo_class"].tolist() == [["frontal", "left"][k] for k in refined]
        # How sure the network was is still its own.
        np.testing.assert_array_equal(weights["confidence_weight"], soft.max(1))
        np.testing.assert_allclose(weights["selection_weight"], weight)
        expected = weight[:, None] * np.eye(2)[refined] + (1 - weight[:, None]) * soft
        np.testing.assert_allclose(labels["training_label"], expected, atol=1e-6)
        inputs = read_metadata(tmp_path / "l.parquet")["inputs"]
        assert "refinement.parquet" in inputs


def test_refined_labels_of_other_samples_are_refused(files, tmp_path):
    refined = np.zeros(30, dtype=np.int32)
    for changes in ({"dataset": "heads"}, {"sample_ids": np.arange(1, 31)}):
        path = write_refinement(tmp_path / "refinement.parquet", refined, **changes)
        with pytest.raises(ValueError, match=r"refinement\.parquet: its samples are not those of the features"):
            materialize(files, tmp_path, "--selection", "1", "--refinement", path)


@pytest.mark.parametrize(("quantile", "n_selected"), [("0", 30), ("0.5", 15), ("0.9", 3), ("1", 1)])
def test_a_threshold_gives_the_best_their_pseudo_labels_and_the_others_their_soft_ones(
    files, tmp_path, quantile, n_selected
):
    soft = read_table(files["features"], FEATURES)["soft_label_pose"].astype(np.float64)
    assert len(set(soft.max(1))) == 30
    options = ("--interpolation", "threshold", "--quantile", quantile, "--temperature", "1")
    materialize(files, tmp_path, "--selection", '["confidence"]', *options)
    labels, weights = read_table(tmp_path / "l.parquet", LABELS), read_table(tmp_path / "w.parquet", WEIGHTS)
    best = np.argsort(-soft.max(1))[:n_selected]
    expected = soft.copy()
    expected[best] = np.eye(2)[soft.argmax(1)[best]]
    np.testing.assert_allclose(labels["training_label"], expected, atol=1e-6)
    assert set(np.flatnonzero(weights["selection_weight"] == 1)) == set(best)
    assert weights["selection_weight"].sum() == n_selected
    assert read_metadata(tmp_path / "w.parquet")["parameters"]["quantile"] == float(quantile)


def test_soft_interpolation_is_the_default_and_heeds_no_quantile(files, tmp_path):
    contents = []
    for options in ((), ("--interpolation", "soft"), ("--interpolation", "soft", "--quantile", "0.9")):
        materialize(files, tmp_path, "--selection", '["confidence"]', *options)
        contents.append([(tmp_path / name).read_bytes() for name in ("w.parquet", "l.parquet")])
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("weight", ["0", "0.5", "1"])
def test_a_threshold_leaves_constant_weights_alone(files, tmp_path, weight):
    materialize(files, tmp_path, "--selection", weight, "--interpolation", "threshold", "--quantile", "0.5")
    assert (read_table(tmp_path / "w.parquet", WEIGHTS)["selection_weight"] == float(weight)).all()
    assert read_metadata(tmp_path / "w.parquet")["parameters"]["interpolation"] == "soft"
