import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.report.audit_weights import main
from stages.storage.contracts import AUDIT, AUDIT_LABELS, WEIGHTS
from stages.storage.tables import read_table
from tests.conftest import write_audit


@pytest.fixture(scope="module")
def weights(run):
    features = run.extract("initial", "audit")
    return run.weigh("audit", features, trained="faces", task="pose", labeled="heads", number=1)["weights"]


def test_every_weight_is_ranked_against_the_audit_labels(run, weights, tmp_path, capsys):
    output = tmp_path / "audit.parquet"
    main(["--task", "pose", "--weights-table", weights, "--audit-table", str(run.faces.audit), "--output", str(output)])
    audit, table = read_table(output, AUDIT), read_table(weights, WEIGHTS)
    truth = np.array(pq.read_table(run.faces.audit)["audit_pose"].to_pylist(), dtype=object)
    correct = (table["pseudo_class"] == truth).astype(float)
    for name in ("confidence_weight", "density_weight", "distribution_weight", "selection_weight"):
        rows = audit["weight"] == name
        assert audit["fifth"][rows].tolist() == [1, 2, 3, 4, 5]
        assert audit["n_samples"][rows].sum() == 30
        top = np.argsort(table[name], kind="stable")[-6:]
        assert audit["pseudo_label_accuracy"][rows][-1] == pytest.approx(correct[top].mean())
    assert f"{correct.mean():.0%} of the pseudo labels are right" in capsys.readouterr().out


def test_a_dataset_without_that_audit_column_is_refused(run, weights, tmp_path):
    with pytest.raises(ValueError, match=r"lacks the columns \['audit_mood'\]"):
        main(
            [
                "--task",
                "mood",
                "--weights-table",
                weights,
                "--audit-table",
                str(run.faces.audit),
                "--output",
                str(tmp_path / "a"),
            ]
        )
    with pytest.raises(ValueError, match="its samples are not those of"):
        main(
            [
                *("--task", "expression", "--weights-table", weights, "--audit-table", str(run.heads.audit)),
                *("--output", str(tmp_path / "a")),
            ]
        )


def rewrite_audit(run, folder, names, dataset="faces"):
    path = folder / "train.parquet"
    write_audit(path, dataset, read_table(run.faces.audit, AUDIT_LABELS)["sample_id"], {"pose": names})
    return str(path)


def test_samples_without_an_audit_label_are_left_out(run, weights, tmp_path):
    pseudo = read_table(weights, WEIGHTS)["pseudo_class"].tolist()
    names = [name if number < 20 else None for number, name in enumerate(pseudo)]
    table, output = rewrite_audit(run, tmp_path, names), tmp_path / "audit.parquet"
    main(["--task", "pose", "--weights-table", weights, "--audit-table", table, "--output", str(output)])
    audit = read_table(output, AUDIT)
    assert (audit["pseudo_label_accuracy"] == 1).all()
    assert audit["n_samples"][audit["weight"] == "selection_weight"].sum() == 20


@pytest.mark.parametrize("name", [None, "Frontal"])
def test_audit_labels_that_are_no_classes_are_refused(run, weights, tmp_path, name):
    table, output = rewrite_audit(run, tmp_path, [name] * 30), tmp_path / "audit.parquet"
    with pytest.raises(ValueError, match="no audit label of 'pose' is one of its classes"):
        main(["--task", "pose", "--weights-table", weights, "--audit-table", table, "--output", str(output)])
    assert not output.exists()


def test_audit_labels_of_another_dataset_are_refused_though_its_samples_have_the_same_numbers(run, weights, tmp_path):
    table = rewrite_audit(run, tmp_path, ["frontal"] * 30, dataset="heads")
    with pytest.raises(ValueError, match=r"its samples are not those of .*train\.parquet; run snakemake again"):
        main(["--task", "pose", "--weights-table", weights, "--audit-table", table, "--output", str(tmp_path / "a")])
