"""The stage on small tables: columns, metadata, its line of output and its one-line errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.density import estimate_local_density
from stages.core.errors import UserError
from stages.epoch.estimate_density import main
from stages.storage.contracts import DENSITY, FEATURES
from stages.storage.tables import Provenance, close_sealed, read_table, write_table

CLASSES = {"expression": ["calm", "glad", "cross"], "gender": ["f", "m"]}


@pytest.fixture
def path_features(tmp_path):
    rng = np.random.default_rng(0)
    n_samples = 40
    scores = rng.random((n_samples, 3)).astype(np.float32)
    scores[:, 2] = 0
    scores[5] = [1, 1, 0]
    path = tmp_path / "features.parquet"
    write_table(
        path,
        FEATURES,
        {
            "sample_id": np.arange(0, 3 * n_samples, 3),
            "features_expression": rng.normal(size=(n_samples, 6)).astype(np.float32),
            "label_expression": np.full(n_samples, -1),
            "soft_label_expression": scores / scores.sum(axis=1, keepdims=True),
        },
        metadata={
            "dataset": "faces",
            "dim": 6,
            "dtype": "float32",
            "normalize": "none",
            "classes": {"expression": CLASSES["expression"]},
        },
        provenance=Provenance("extract_features", {}, []),
    )
    return path


def run(path_features, *changes):
    path_output = path_features.parent / "density.parquet"
    options = [
        "--features",
        str(path_features),
        "--task",
        "expression",
        "--cutoff-quantile",
        "0.6",
        "--seed",
        "3",
    ]
    main([*options, "--threads", "2", "--device", "cpu", "--output", str(path_output), *changes])
    return path_output


def test_writes_density_per_pseudo_class(path_features, capsys):
    density = read_table(run(path_features), DENSITY)
    features = read_table(path_features, FEATURES)
    labels = features["soft_label_expression"].argmax(axis=1)
    expected = estimate_local_density(
        features["features_expression"], labels, 3, cutoff_quantile=0.6, n_threads=1, seed=0
    )
    assert density["sample_id"].tolist() == list(range(0, 120, 3))
    assert density["pseudo_label"].tolist() == labels.tolist()
    assert density["pseudo_label"][5] == 0
    assert density["group_size"].tolist() == expected.group_size.tolist()
    assert density["local_density"].tolist() == expected.local_density.tolist()
    assert density["density_weight"].tolist() == expected.density_weight.tolist()
    assert density.metadata["classes"] == CLASSES["expression"]
    assert density.metadata["density_cutoff"] == {
        "calm": expected.cutoff[0],
        "glad": expected.cutoff[1],
        "cross": None,
    }
    assert density.metadata["cutoff_quantile"] == 0.6
    assert density.metadata["exact"] is True
    assert density.metadata["stage"] == "estimate_density"
    assert density.metadata["parameters"] == {"task": "expression", "cutoff_quantile": 0.6}
    line = capsys.readouterr().out
    assert line.startswith("density of 'expression' over 40 samples in 2 groups, largest ")
    assert line.count("\n") == 1


def test_file_does_not_depend_on_seed_or_threads(path_features):
    first = run(path_features).read_bytes()
    assert run(path_features, "--seed", "8", "--threads", "1", "--device", "auto").read_bytes() == first


def test_a_sampled_group_says_how_far_it_is_from_exact(path_features, capsys):
    exact = read_table(run(path_features, "--mode", "exact", "--sample-size", "8"), DENSITY)
    assert (exact.metadata["mode"], exact.metadata["exact"], exact.metadata["sampled"]) == ("exact", True, {})
    options = ("--mode", "sampled", "--sample-size", "8", "--epoch", "2")
    density = read_table(run(path_features, *options), DENSITY)
    assert (density.metadata["mode"], density.metadata["exact"]) == ("sampled", False)
    assert set(density.metadata["sampled"]) == {"calm", "glad"}
    error = density.metadata["sampled"]["calm"]
    members = density["pseudo_label"] == 0
    assert (error["sample_size"], error["checked"]) == (8, members.sum() - 8)
    assert 0 < error["mean_relative_error"] <= error["largest_relative_error"]
    assert 0 <= error["mean_weight_error"] <= error["largest_weight_error"] < 1
    found = {"task": "expression", "cutoff_quantile": 0.6, "sample_size": 8, "seed": 3, "epoch": 2}
    assert density.metadata["parameters"] == found
    assert "2 of them sampled (mean error of rho up to " in capsys.readouterr().out
    # The same seed and epoch draw the same; auto takes samples of larger groups only.
    again = read_table(run(path_features, *options, "--threads", "1"), DENSITY)
    assert again["local_density"].tolist() == density["local_density"].tolist()
    other = read_table(run(path_features, *options, "--seed", "4"), DENSITY)
    assert other["local_density"].tolist() != density["local_density"].tolist()
    auto = read_table(run(path_features, "--sample-size", "8", "--exact-up-to", "40"), DENSITY)
    assert auto["local_density"].tolist() == exact["local_density"].tolist()
    auto = read_table(run(path_features, "--sample-size", "8", "--exact-up-to", "9", "--epoch", "2"), DENSITY)
    assert auto["local_density"].tolist() == density["local_density"].tolist()


def test_a_sample_of_one_is_refused(path_features):
    with pytest.raises(UserError, match="must have 2 samples or more, not 1"):
        run(path_features, "--mode", "sampled", "--sample-size", "1")


def test_unknown_task_lists_the_tasks(path_features):
    with pytest.raises(ValueError, match=r"no features of task 'gender'; its tasks are expression"):
        run(path_features, "--task", "gender")


@pytest.mark.parametrize("quantile", ["0", "1.5", "-0.6", "nan"])
def test_quantile_out_of_range(path_features, quantile):
    with pytest.raises(ValueError, match="quantile must be above 0 and at most 1"):
        run(path_features, "--cutoff-quantile", quantile)
    assert not (path_features.parent / "density.parquet").exists()


def test_features_that_are_not_finite_name_their_row(path_features):
    # The contract refuses to write such a table, so the value is swapped in behind its back.
    table = pq.read_table(path_features)
    raw = np.stack([np.frombuffer(value, dtype="<f4") for value in table["features_expression"].to_pylist()])
    raw[7, 2] = np.nan
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), len(raw), [None, pa.py_buffer(raw)])
    table = table.set_column(1, table.schema.field("features_expression"), values)
    writer = pq.ParquetWriter(path_features, table.schema, write_page_checksum=True)
    writer.write_table(table)
    close_sealed(writer, path_features)
    with pytest.raises(ValueError, match=r"features\.parquet: .*features_expression must be finite.*row 7"):
        run(path_features)


def test_error_is_one_line_and_torch_is_never_imported(path_features):
    path_output = path_features.parent / "density.parquet"
    options = ["--features", str(path_features), "--task", "expression", "--output", str(path_output)]
    code = (
        f"import stages.epoch.estimate_density as stage, sys; stage.main({options}); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    command = [sys.executable, "-m", "stages.epoch.estimate_density", *options, "--task", "gender"]
    failed = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "its tasks are expression" in failed.stderr
