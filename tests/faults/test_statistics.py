"""Predictions and features of which nothing can be learned: finite weights in [0, 1] and a flag, or one clear error.

Densities, mixtures and flows one by one: tests/core/.
"""

from functools import partial

import numpy as np
import pytest

from stages.epoch import fit_mixture
from stages.storage.contracts import DENSITY, FEATURES, LABELS, MIXTURE, WEIGHTS
from stages.storage.provenance import Provenance
from stages.storage.tables import read_table, write_table
from tests.conftest import weigh

CLASSES = ["frontal", "left", "right"]


def draw(n_samples, seed=0):
    features = np.random.default_rng(seed).normal(size=(n_samples, 4))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def soften(pseudo_labels, confidence=0.8):
    rows = np.full((len(pseudo_labels), len(CLASSES)), (1 - confidence) / (len(CLASSES) - 1), dtype=np.float32)
    rows[np.arange(len(rows)), pseudo_labels] = confidence
    return rows


def write_features(path, features, soft_labels, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "sample_id": np.arange(len(features)),
        "features_pose": features,
        "soft_label_pose": soft_labels,
        "label_pose": labels.astype(np.int32),
    }
    metadata = {"dataset": path.stem, "dim": 4, "dtype": "float32", "normalize": "l2", "classes": {"pose": CLASSES}}
    write_table(path, FEATURES, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return path


def call_with(main, *options):
    *added, given = options
    main([*given, *added])


N = 12
SPREAD = np.arange(N) % 3
CASES = {
    "one class predicted for everything": (draw(N), soften(np.zeros(N, dtype=int))),
    "and that with certainty": (draw(N), soften(np.zeros(N, dtype=int), confidence=1.0)),
    "identical features": (np.repeat(draw(1), N, axis=0), soften(SPREAD)),
    "features of zero": (np.zeros((N, 4), dtype=np.float32), soften(SPREAD)),
    "a class with one member": (draw(N), soften(np.where(np.arange(N) == 5, 2, 0))),
    "no idea": (draw(N), np.full((N, 3), 1 / 3, dtype=np.float32)),
    "fewer points than components": (np.repeat(draw(1), N, axis=0), soften(np.zeros(N, dtype=int))),
    "two samples": (draw(2), soften(np.array([0, 1]))),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_finite_and_within_their_bounds(tmp_path, case):
    features, soft_labels = CASES[case]
    n = len(features)
    unlabeled = write_features(tmp_path / "u.parquet", features, soft_labels, np.full(n, -1))
    labeled = write_features(tmp_path / "l.parquet", draw(N, seed=1), soften(SPREAD), SPREAD)
    files = weigh(tmp_path / "out", unlabeled, [labeled], "pose", 1)
    weights = read_table(files["weights"], WEIGHTS)
    for name in ("confidence_weight", "density_weight", "distribution_weight", "selection_weight"):
        assert np.isfinite(weights[name]).all(), name
        assert (weights[name] >= 0).all(), name
        assert (weights[name] <= 1).all(), name
    assert weights["selection_weight"].max() == 1
    labels = read_table(files["labels"], LABELS)["training_label"]
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
    # What makes a density say nothing stands beside it.
    density = read_table(files["density"], DENSITY)
    sizes = np.bincount(soft_labels.argmax(axis=1), minlength=3)
    assert density["group_size"].tolist() == sizes[soft_labels.argmax(axis=1)].tolist()
    nothing_near = density["local_density"] == 0
    assert (density["density_weight"][nothing_near & (density["group_size"] == 1)] == 1).all()


def test_a_mixture_that_does_not_converge_is_flagged_and_its_weights_are_finite(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fit_mixture, "main", partial(call_with, fit_mixture.main, "--max-iterations", "1"))
    features = np.random.default_rng(3).normal(size=(60, 4)).astype(np.float32)
    unlabeled = write_features(tmp_path / "u.parquet", features, soften(np.arange(60) % 3), np.full(60, -1))
    labeled = write_features(tmp_path / "l.parquet", draw(60, seed=1), soften(np.arange(60) % 3), np.arange(60) % 3)
    files = weigh(tmp_path / "out", unlabeled, [labeled], "pose", 1)
    assert read_table(files["unlabeled"], MIXTURE).metadata["converged"] is False
    assert "the unlabeled mixture for 'pose' did not converge in 1 iterations; raise" in capsys.readouterr().out
    weights = read_table(files["weights"], WEIGHTS)
    assert np.isfinite(weights["selection_weight"]).all()
    assert weights["selection_weight"].max() == 1


def test_a_component_that_has_died_spoils_no_weight(tmp_path, monkeypatch):
    """Two points, three components: the third has nothing of its own."""
    monkeypatch.setattr(fit_mixture, "main", partial(call_with, fit_mixture.main, "--components", "3"))
    points = np.eye(4, dtype=np.float32)[np.arange(N) % 2]
    unlabeled = write_features(tmp_path / "u.parquet", points, soften(SPREAD), np.full(N, -1))
    labeled = write_features(tmp_path / "l.parquet", points, soften(SPREAD), SPREAD)
    files = weigh(tmp_path / "out", unlabeled, [labeled], "pose", 1)
    mixture = read_table(files["unlabeled"], MIXTURE)
    assert mixture["mixing_weight"].sum() == pytest.approx(1)
    assert np.isfinite(mixture["mean"]).all()
    weights = read_table(files["weights"], WEIGHTS)
    for name in ("distribution_weight", "selection_weight"):
        assert np.isfinite(weights[name]).all()
        assert (weights[name] >= 0).all()
        assert (weights[name] <= 1).all()
