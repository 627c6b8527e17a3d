import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.baselines.refine_labels import main
from stages.core.refinement import build_graph, refine_soft_labels
from stages.storage.contracts import FEATURES, REFINEMENT
from stages.storage.tables import Provenance, read_table, write_table


@pytest.fixture
def path_features(tmp_path):
    """Two clusters of ten whose predictions are right but for sample 4, which is in doubt."""
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(10, 3)), rng.normal(size=(10, 3)) + 50]).astype(np.float32)
    soft_labels = np.repeat(np.array([[0.95, 0.05], [0.05, 0.95]], dtype=np.float32), 10, axis=0)
    soft_labels[4] = [0.45, 0.55]
    path = tmp_path / "features.parquet"
    write_table(
        path,
        FEATURES,
        {
            "sample_id": np.arange(0, 40, 2),
            "features_pose": features,
            "soft_label_pose": soft_labels,
            "label_pose": np.full(20, -1),
        },
        metadata={
            "dataset": "faces",
            "dim": 3,
            "dtype": "float32",
            "normalize": "none",
            "classes": {"pose": ["frontal", "left"]},
        },
        provenance=Provenance("extract_features", {}, []),
    )
    return path


def refine(path_features, *changes):
    path_output = path_features.parent / "refinement.parquet"
    main(
        [
            *("--task", "pose", "--features", str(path_features), "--strength", "1.5", "--neighbors", "4"),
            *("--threads", "1", "--output", str(path_output), *changes),
        ]
    )
    return path_output


def test_the_table_holds_the_field_of_the_core(path_features, capsys):
    table = read_table(refine(path_features), REFINEMENT)
    features = read_table(path_features, FEATURES)
    graph = build_graph(features["features_pose"], 4, n_threads=1)
    expected = refine_soft_labels(features["soft_label_pose"], graph, 1.5)
    np.testing.assert_array_equal(table["sample_id"], features["sample_id"])
    np.testing.assert_array_equal(table["refined_probability"], expected.probabilities.astype(np.float32))
    assert table["refined_label"].tolist() == [0] * 10 + [1] * 10
    assert np.flatnonzero(table["pseudo_label"] != table["refined_label"]).tolist() == [4]
    described = {
        "dataset": "faces",
        "classes": ["frontal", "left"],
        "strength": 1.5,
        "n_neighbors": 4,
        "iterations": expected.iterations,
        "converged": True,
        "stage": "refine_labels",
        "parameters": {"task": "pose", "strength": 1.5, "n_neighbors": 4},
    }
    assert {key: table.metadata[key] for key in described} == described
    assert set(table.metadata["inputs"]) == {"features.parquet"}
    assert capsys.readouterr().out == (
        f"refine_labels: the random field changed 1 of 20 pseudo labels of 'pose' in {expected.iterations} iterations\n"
    )


def test_a_strength_of_zero_changes_no_label(path_features, capsys):
    table = read_table(refine(path_features, "--strength", "0"), REFINEMENT)
    assert table["refined_label"].tolist() == table["pseudo_label"].tolist()
    assert "changed 0 of 20 pseudo labels" in capsys.readouterr().out


def test_the_file_does_not_depend_on_threads(path_features):
    first = refine(path_features).read_bytes()
    assert refine(path_features, "--threads", "2").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--strength", "-1"), r"features\.parquet: the strength must be 0 or more and finite, not -1\.0"),
        (("--strength", "nan"), r"the strength must be 0 or more and finite, not nan"),
        (("--neighbors", "0"), r"features\.parquet: n_neighbors must be 1 or more, not 0"),
        (("--task", "age"), r"features\.parquet: has no features of task 'age'; its tasks are pose"),
    ],
)
def test_bad_options_leave_nothing(path_features, change, message):
    with pytest.raises(ValueError, match=message):
        refine(path_features, *change)
    assert not (path_features.parent / "refinement.parquet").exists()


def test_torch_is_never_imported(path_features):
    path_output = path_features.parent / "refinement.parquet"
    options = ["--features", str(path_features), "--task", "pose", "--output", str(path_output)]
    code = (
        f"import stages.baselines.refine_labels as stage, sys; stage.main({options}); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    finished = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
