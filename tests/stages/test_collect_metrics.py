import pytest

from stages.collect_metrics import main
from stages.core.contracts import EVALUATION, METRICS
from stages.storage.files import write_json
from stages.storage.tables import Provenance, read_table


def write_metrics(path, epoch, dataset, accuracy):
    scores = {"split": "test", "accuracy": accuracy, "macro_f1": accuracy / 2, "n_samples": 10}
    kept = {"split": "validation", "accuracy": accuracy / 4, "macro_f1": accuracy / 8, "n_samples": 5}
    content = {
        "epoch": epoch,
        "trained_dataset": dataset,
        "tasks": {"pose": scores, "mood": {**scores, "accuracy": 0.1}},
        "validation": {"pose": kept, "mood": {**kept, "accuracy": 0.2}},
    }
    write_json(path, EVALUATION, content, Provenance("test", {}, []))
    return str(path)


def test_epochs_become_rows_in_order_and_the_network_is_copied(tmp_path, capsys):
    paths = [
        write_metrics(tmp_path / "b.json", 1, "heads", 0.75),
        write_metrics(tmp_path / "a.json", 0, None, 0.5),
    ]
    (tmp_path / "net").write_bytes(b"weights")
    output = tmp_path / "run" / "metrics.parquet"
    network = tmp_path / "run" / "network.safetensors"
    main(
        [
            *("--metrics", *paths, "--network", str(tmp_path / "net")),
            *("--output-metrics", str(output), "--output-network", str(network)),
        ]
    )
    table = read_table(output, METRICS)
    assert table["epoch"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert table["task"].tolist() == ["pose", "mood"] * 4
    assert table["split"].tolist() == ["validation", "validation", "test", "test"] * 2
    assert table["accuracy"].tolist() == [0.125, 0.2, 0.5, 0.1, 0.1875, 0.2, 0.75, 0.1]
    assert table["macro_f1"].tolist()[6] == 0.375
    assert table["n_samples"].tolist() == [5, 5, 10, 10] * 2
    assert table["trained_dataset"].tolist() == [None] * 4 + ["heads"] * 4
    assert network.read_bytes() == b"weights"
    printed = capsys.readouterr().out
    assert "75.0%" in printed
    # What is printed is the test split's.
    assert "18.8%" not in printed
    assert "20.0%" not in printed
    assert str(output.parent) in printed


def test_a_score_out_of_range_is_refused(tmp_path):
    (tmp_path / "net").write_bytes(b"weights")
    with pytest.raises(ValueError, match="accuracy must be at most 1"):
        main(
            [
                *(
                    "--metrics",
                    write_metrics(tmp_path / "a.json", 0, None, 1.5),
                    "--network",
                    str(tmp_path / "net"),
                ),
                *("--output-metrics", str(tmp_path / "m.parquet"), "--output-network", str(tmp_path / "n")),
            ]
        )
    assert not (tmp_path / "m.parquet").exists()
