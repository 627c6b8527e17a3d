import numpy as np
import pytest

from stages.core.reliability import estimate_accuracy, rate_accuracy
from stages.core.seeds import derive_seed
from stages.core.selection import soften_labels
from stages.epoch import estimate_reliability, evaluate_network, materialize_labels
from stages.report import audit_weights
from stages.storage.contracts import AUDIT, EVALUATION, FEATURES, LABELS, RELIABILITY
from stages.storage.files import read_json
from stages.storage.tables import read_metadata, read_table
from tests.conftest import EXPRESSIONS, POSES, write_split


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """Features of faces, and the metrics of the network that gave them, with and without validation splits."""
    folder = tmp_path_factory.mktemp("reliability")
    held_out = [
        write_split(folder, "faces", "expression", EXPRESSIONS, 9, seed=5, split="validation", first_id=42),
        write_split(folder, "heads", "pose", POSES, 11, seed=6, split="validation", first_id=48),
    ]
    checkpoint = run.checkpoint("initial")
    for name, splits in (("metrics", [run.test_faces, run.test_heads, *held_out]), ("tested", [run.test_heads])):
        evaluate_network.main(
            [
                *("--network", str(checkpoint["network"]), "--card", str(checkpoint["card"]), "--threads", "1"),
                *("--tables", *(str(split.table) for split in splits)),
                *("--images", *(str(split.images) for split in splits)),
                *("--output", str(folder / f"{name}.json")),
            ]
        )
    features = run.extract("initial", "reliability")
    return {
        "features": str(features["faces"]),
        **{name: str(folder / f"{name}.json") for name in ("metrics", "tested")},
    }


def estimate(run, files, folder, *options, metrics="metrics"):
    path = folder / "reliability.json"
    estimate_reliability.main(
        [
            *("--task", "pose", "--features", files["features"], "--labeled", str(run.heads.table)),
            *("--metrics", files[metrics], "--seed", "3", "--epoch", "1", "--output", str(path), *options),
        ]
    )
    return read_json(path, RELIABILITY)


def test_both_estimates_are_written_whichever_counts(run, files, tmp_path, capsys):
    found = {name: estimate(run, files, tmp_path, "--estimate", name) for name in ("none", "validation", "transport")}
    held_out = read_json(files["metrics"], EVALUATION)["validation"]["pose"]
    soft = read_table(files["features"], FEATURES)["soft_label_pose"]
    frequencies = np.bincount(run.heads.labels) / 38
    expected = {
        "validation": held_out["accuracy"],
        "transport": estimate_accuracy(
            soften_labels(soft, held_out["temperature"]), frequencies, derive_seed(3, 1, "reliability of pose")
        ),
    }
    for name, one in found.items():
        assert one["estimates"] == expected
        assert one["frequencies"] == dict(zip(POSES, frequencies, strict=True))
        assert (one["n_unlabeled"], one["n_labeled"], one["balance"]) == (30, 38, 1)
        worth = 1 if name == "none" else rate_accuracy(expected[name], frequencies.max())
        assert one["reliability"] == one["strength"] == worth
        assert any(path.endswith("metrics.json") for path in one["inputs"])
    assert "by transport of the pseudo labels are right, 50% would be by guessing" in capsys.readouterr().out


def test_few_samples_without_a_label_scale_the_strength(run, files, tmp_path):
    found = estimate(run, files, tmp_path, "--estimate", "validation", "--balance", "rows")
    assert found["balance"] == 30 / 38
    assert found["strength"] == found["reliability"] * 30 / 38


def test_without_a_validation_split_only_transport_estimates(run, files, tmp_path):
    found = estimate(run, files, tmp_path, "--estimate", "transport", metrics="tested")
    assert found["estimates"]["validation"] is None
    assert found["temperature"] == 1
    (tmp_path / "reliability.json").unlink()
    with pytest.raises(ValueError, match=r"tested\.json: no validation split has a label for 'pose'; keep some"):
        estimate(run, files, tmp_path, "--estimate", "validation", metrics="tested")
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_scales_the_strength_of_the_labels_and_nothing_else(run, files, tmp_path):
    found = estimate(run, files, tmp_path, "--balance", "rows")

    def materialize(*options):
        outputs = ("--output-weights", str(tmp_path / "w.parquet"), "--output-labels", str(tmp_path / "l.parquet"))
        common = ("--task", "pose", "--features", files["features"], "--selection", '["confidence"]')
        materialize_labels.main([*common, "--strength", "0.5", *options, *outputs])
        return read_table(tmp_path / "l.parquet", LABELS)

    plain, scaled = materialize(), materialize("--reliability", str(tmp_path / "reliability.json"))
    assert plain.metadata["strength"] == 0.5
    assert scaled.metadata["strength"] == 0.5 * found["strength"] < 0.5
    assert "reliability.json" in scaled.metadata["inputs"]
    for name in plain.columns:
        np.testing.assert_array_equal(plain[name], scaled[name])


def test_an_estimate_for_another_task_is_refused(run, files, tmp_path):
    estimate(run, files, tmp_path)
    others = run.extract("initial", "reliability-other", trained="heads")
    with pytest.raises(ValueError, match=r"reliability\.json: is not about 'expression' of heads; make it anew"):
        materialize_labels.main(
            [
                *("--task", "expression", "--features", str(others["heads"]), "--selection", "0"),
                *("--reliability", str(tmp_path / "reliability.json")),
                *("--output-weights", str(tmp_path / "w.parquet"), "--output-labels", str(tmp_path / "l.parquet")),
            ]
        )


def test_an_audit_sets_the_estimates_beside_the_truth(run, files, tmp_path, capsys):
    found = estimate(run, files, tmp_path)
    weights = run.weigh(
        "reliability", run.extract("initial", "reliability"), trained="faces", task="pose", labeled="heads", number=1
    )["weights"]
    options = ["--task", "pose", "--weights-table", weights, "--audit-table", str(run.faces.audit)]
    options += ["--output", str(tmp_path / "audit.parquet")]
    audit_weights.main([*options, "--reliability", str(tmp_path / "reliability.json")])
    audit = read_table(tmp_path / "audit.parquet", AUDIT)
    rows = audit["weight"] == "selection_weight"
    truth = np.average(audit["pseudo_label_accuracy"][rows], weights=audit["n_samples"][rows])
    assert audit.metadata["pseudo_label_accuracy"] == pytest.approx(truth)
    assert audit.metadata["estimates"] == found["estimates"]
    assert f"(estimated: {found['estimates']['validation']:.0%} by validation" in capsys.readouterr().out
    audit_weights.main([*options, "--reliability"])
    assert read_metadata(tmp_path / "audit.parquet")["estimates"] == {}
