import shutil

import numpy as np
import pytest

from stages import evaluate_network, refine_labels
from stages.core import contracts
from stages.storage.tables import Provenance, write_table
from stages.verify_artifacts import CONTRACTS, main
from tests.conftest import EXPRESSIONS, write_split


@pytest.fixture
def results(run, tmp_path):
    """A folder laid out as an experiment's, with one epoch in it."""
    features = run.extract("initial", "verify")
    run.weigh("verify", features, trained="faces", task="pose", labeled="heads", number=1)
    for name in ("faces", "heads", "initial", "verify"):
        shutil.copytree(run.folder / name, tmp_path / name)
    return tmp_path


def test_a_finished_run_has_no_problems(results, capsys):
    main([str(results)])
    assert "0 inputs no longer there, 0 problems" in capsys.readouterr().out


def test_an_artifact_of_other_inputs_is_found(run, results, capsys):
    run.initialize("verify-other", "--seed", "9")
    shutil.copy(run.checkpoint("verify-other")["network"], results / "initial" / "network.safetensors")
    with pytest.raises(ValueError, match="3 of "):
        main([str(results)])
    problems = capsys.readouterr().err.splitlines()
    # The card beside it and the two tables of features that were made with it.
    assert len(problems) == 3
    assert all("does not belong to initial/network.safetensors as it is now" in line for line in problems)


def test_weights_that_no_table_was_made_from_are_checked_too(results, capsys):
    path = results / "initial/optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="1 of "):
        main([str(results)])
    assert "checkpoint.json: does not belong to initial/optimizer.safetensors" in capsys.readouterr().err


def test_a_missing_input_is_a_problem(results, capsys):
    (results / "heads/train.parquet").unlink()
    with pytest.raises(ValueError, match="have problems"):
        main([str(results)])
    assert "belongs to heads/train.parquet, which is missing; run snakemake again" in capsys.readouterr().err


def test_a_damaged_and_a_missing_file_are_told_apart(results, capsys):
    path = results / "verify/pose/density.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    (results / "verify/features/heads.parquet").unlink()
    with pytest.raises(ValueError, match="have problems"):
        main([str(results)])
    captured = capsys.readouterr()
    assert "density.parquet: is damaged" in captured.err
    assert "labels.parquet: does not belong to verify/pose/density.parquet" in captured.err
    assert "0 inputs no longer there" not in captured.out


def test_every_kind_of_table_is_looked_for():
    known = [value for value in vars(contracts).values() if isinstance(value, contracts.Contract)]
    assert sorted(contract.name for contract in CONTRACTS.values()) == sorted(contract.name for contract in known)


def test_a_damaged_refinement_is_found(results, capsys):
    path = results / "verify/pose/refinement.parquet"
    refine_labels.main(
        [
            *("--task", "pose", "--features", str(results / "verify/features/faces.parquet")),
            *("--strength", "1", "--neighbors", "3", "--threads", "1", "--output", str(path)),
        ]
    )
    main([str(results)])
    assert "0 problems" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="1 of "):
        main([str(results)])
    assert "refinement.parquet: is damaged" in capsys.readouterr().err


def test_metrics_belong_to_the_validation_split_too(results, capsys):
    def validate(seed):
        return write_split(results, "faces", "expression", EXPRESSIONS, 9, seed=seed, split="validation", first_id=42)

    split, folder = validate(5), results / "initial"
    evaluate_network.main(
        [
            *("--network", str(folder / "network.safetensors"), "--card", str(folder / "checkpoint.json")),
            *("--tables", str(split.table), "--images", str(split.images), "--threads", "1", "--device", "cpu"),
            *("--output", str(folder / "metrics.json")),
        ]
    )
    main([str(results)])
    assert "0 problems" in capsys.readouterr().out
    validate(6)
    with pytest.raises(ValueError, match="1 of "):
        main([str(results)])
    assert "metrics.json: does not belong to faces/validation.parquet as it is now" in capsys.readouterr().err


def test_a_network_that_was_thinned_is_no_problem_and_another_is(results, capsys):
    network = results / "initial/network.safetensors"
    network.unlink()
    with pytest.raises(ValueError, match="3 of "):
        main([str(results)])
    assert "belongs to initial/network.safetensors, which is missing" in capsys.readouterr().err
    row = {"epoch": 0, "task": "pose", "dataset": None, "split": "test", "accuracy": 0.5, "macro_f1": 0.5}
    row |= {"n_samples": 10, "trained_dataset": None}
    write_table(
        results / "run/metrics.parquet",
        contracts.METRICS,
        {name: np.array([value]) for name, value in row.items()},
        metadata={"select": "last", "selected_epoch": 0, "thinned": ["../initial/network.safetensors"]},
        provenance=Provenance("test", {}, []),
    )
    main([str(results)])
    assert "3 inputs no longer there, 0 problems" in capsys.readouterr().out


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no artifacts"):
        main([str(tmp_path)])
