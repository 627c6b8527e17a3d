import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.made_up_experiment import write_experiment
from stages.report.collect_samples import main
from stages.storage.contracts import LABELS, SAMPLES, WEIGHTS
from stages.storage.tables import read_table


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    classes = {"mood": ["angry", "happy", "sad"], "pose": ["left", "right"]}
    options = write_experiment(folder, {"faces": 60, "heads": 50}, classes)
    for method in ("mtl_sa", "mtl_wf"):
        main([*options, "--runs", f"{method}/0", "--output", str(folder / f"{method}.parquet")])
    return folder


def test_a_row_for_each_sample_with_its_image(experiment):
    samples = read_table(experiment / "mtl_sa.parquet", SAMPLES)
    assert samples["dataset"].tolist() == ["faces"] * 60 + ["heads"] * 50
    assert samples["sample_id"].tolist() == [*range(60), *range(50)]
    for row, path, number in ((3, "faces", 3), (75, "heads", 15)):
        image = np.asarray(Image.open(io.BytesIO(samples["image"][row])), dtype=float)
        pixels = np.load(experiment / f"data/{path}/train.npy")[number]
        assert image.shape == pixels.shape
        assert np.abs(image - pixels).mean() < 20


def test_columns_of_a_task_are_those_of_the_last_epoch_that_weighed_it(experiment):
    samples = read_table(experiment / "mtl_sa.parquet", SAMPLES)
    place = experiment / "seed-0/mtl_sa/epoch-003/pose/faces"
    weights, labels = read_table(place / "weights.parquet", WEIGHTS), read_table(place / "labels.parquet", LABELS)
    rows = weights["sample_id"]
    assert set(samples["epoch_pose"]) == {3}
    np.testing.assert_array_equal(samples["selection_weight_pose"][rows], weights["selection_weight"].astype("f4"))
    assert samples["pseudo_class_pose"][rows].tolist() == weights["pseudo_class"].tolist()
    np.testing.assert_array_equal(samples["training_label_pose"][rows], labels["training_label"][rows])
    given = np.array([label is not None for label in samples["label_pose"]])
    assert given.sum() == 6 + 50
    assert np.isnan(samples["selection_weight_pose"][given]).all()
    assert all(name is None for name in samples["held_back_pose"][given])
    assert np.isfinite(samples["x_mood"]).all()


def test_what_a_method_does_not_say_is_null(experiment):
    samples = read_table(experiment / "mtl_wf.parquet", SAMPLES)
    assert np.isnan(samples["density_weight_pose"]).all()
    assert samples["pseudo_class_pose"][60:].tolist() == [None] * 50
    assert np.isnan(samples["epoch_pose"][60:]).all()
    assert np.isnan(samples["x_pose"][60:]).all()
    assert samples.metadata["classes"]["pose"] == ["left", "right"]
