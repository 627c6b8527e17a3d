import pytest

from stages.report.collect_metrics import main
from stages.storage.contracts import EVALUATION, METRICS
from stages.storage.files import digest_file, write_json
from stages.storage.provenance import Provenance
from stages.storage.tables import read_table


def score(split, accuracy, n_samples):
    return {"split": split, "accuracy": accuracy, "macro_f1": accuracy / 2, "n_samples": n_samples}


def write_metrics(path, network, epoch, dataset, accuracy, validation=0.25):
    """Metrics of pose, which two datasets know, and of mood, whose accuracies are the same in every epoch."""
    parts = {"heads": score("test", accuracy, 6), "busts": score("test", accuracy, 4)}
    kept = {"heads": score("validation", validation, 3), "busts": score("validation", validation, 2)}
    content = {
        "epoch": epoch,
        "trained_dataset": dataset,
        "tasks": {
            "pose": {**score("test", accuracy, 10), "by_dataset": parts},
            "mood": {**score("test", 0.1, 10), "by_dataset": {}},
        },
        "validation": {
            "pose": {**score("validation", validation, 5), "by_dataset": kept},
            "mood": {**score("validation", 0.2, 5), "by_dataset": {}},
        },
    }
    write_json(path, EVALUATION, content, Provenance("test", {}, [network]))
    return str(path)


@pytest.fixture
def collect(tmp_path):
    """Collects epochs with these validation accuracies of pose; test accuracies are tenths of the epoch's number."""

    def call(validation, *options, missing=(), damaged=None, discarded=()):
        metrics, networks = [], []
        for epoch, accuracy in enumerate(validation):
            dataset = "heads" if epoch else None
            networks.append(tmp_path / f"network-{epoch}")
            networks[-1].write_text(f"weights of {epoch}")
            path = tmp_path / f"{epoch}.json"
            metrics.append(write_metrics(path, networks[-1], epoch, dataset, epoch / 10, accuracy))
            if epoch in missing:
                networks[-1].unlink()
            if epoch == damaged:
                networks[-1].write_text("other weights")
        files = {name: tmp_path / "run" / name for name in ("metrics.parquet", "network.safetensors")}
        main(
            [
                *("--metrics", *metrics[::-1], "--networks", *map(str, networks[::-1])),
                *("--output-metrics", str(files["metrics.parquet"])),
                *("--output-network", str(files["network.safetensors"]), *options),
                *("--discard", *(str(networks[epoch]) for epoch in discarded)),
            ]
        )
        left = [epoch for epoch, path in enumerate(networks) if path.exists()]
        table = read_table(files["metrics.parquet"], METRICS)
        return table, files["network.safetensors"].read_text(), left

    return call


def test_epochs_become_rows_in_order(tmp_path, capsys):
    networks = [tmp_path / "network-1", tmp_path / "network-0"]
    for path in networks:
        path.write_text("weights")
    paths = [
        write_metrics(tmp_path / "b.json", networks[0], 1, "heads", 0.75, 0.5),
        write_metrics(tmp_path / "a.json", networks[1], 0, None, 0.5),
    ]
    output = tmp_path / "run" / "metrics.parquet"
    main(
        [
            *("--metrics", *paths, "--networks", *map(str, networks)),
            *("--output-metrics", str(output), "--output-network", str(tmp_path / "run" / "network")),
        ]
    )
    table = read_table(output, METRICS)
    assert table["epoch"].tolist() == [0] * 8 + [1] * 8
    assert table["task"].tolist() == ["pose", "pose", "pose", "mood"] * 4
    assert table["dataset"].tolist() == [None, "heads", "busts", None] * 4
    assert table["split"].tolist() == (["validation"] * 4 + ["test"] * 4) * 2
    overall = [dataset is None for dataset in table["dataset"]]
    assert table["accuracy"][overall].tolist() == [0.25, 0.2, 0.5, 0.1, 0.5, 0.2, 0.75, 0.1]
    assert table["macro_f1"][overall].tolist()[6] == 0.375
    assert table["n_samples"].tolist() == [5, 3, 2, 5, 10, 6, 4, 10] * 2
    assert table["trained_dataset"].tolist() == [None] * 8 + ["heads"] * 8
    printed = capsys.readouterr().out
    assert "75.0%" in printed
    # What is printed is the test split's.
    assert "20.0%" not in printed
    assert str(output.parent) in printed


def test_the_final_network_is_that_of_the_epoch_that_validation_chose(collect, capsys, tmp_path):
    table, network, left = collect([0.1, 0.4, 0.9, 0.9, 0.3])
    assert network == "weights of 2"
    assert (table.metadata["select"], table.metadata["selected_epoch"]) == ("validation", 2)
    assert left == [0, 1, 2, 3, 4]
    # Of the networks only the chosen one is an input.
    expected = {f"../{epoch}.json": digest_file(tmp_path / f"{epoch}.json") for epoch in range(5)}
    assert table.metadata["inputs"] == expected | {"../network-2": digest_file(tmp_path / "network-2")}
    printed = capsys.readouterr().out.splitlines()
    assert "* best on validation: epoch 2 (pose 20.0%, mood 10.0% on test)" in printed
    assert [line.split()[0] for line in printed if line.endswith("  *")] == ["2"]


def test_joint_training_can_be_the_best(collect):
    table, network, _ = collect([0.4, 0.4, 0.2])
    assert (network, table.metadata["selected_epoch"]) == ("weights of 0", 0)


def test_the_last_network_is_final_where_the_setting_says_so(collect, capsys):
    table, network, _ = collect([0.1, 0.9, 0.3], "--select", "last")
    assert network == "weights of 2"
    assert (table.metadata["select"], table.metadata["selected_epoch"]) == ("last", 2)
    assert "* last: epoch 2 (pose 20.0%, mood 10.0% on test)" in capsys.readouterr().out


VALIDATION = [0.1, 0.2, 0.3, 0.9, 0.5, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    ("discarded", "kept"),
    [([], [0, 1, 2, 3, 4, 5, 6, 7]), ([1, 2, 3, 5], [0, 3, 4, 6, 7]), ([1, 2], [0, 3, 4, 5, 6, 7])],
)
def test_networks_are_thinned_but_never_the_chosen_one(collect, discarded, kept):
    _, network, left = collect(VALIDATION, discarded=discarded)
    assert network == "weights of 3"
    assert left == kept


def test_networks_that_were_thinned_before_are_not_missed(collect):
    _, network, left = collect(VALIDATION, discarded=range(1, 7), missing=[1, 2, 4])
    assert (network, left) == ("weights of 3", [0, 3, 7])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (3, r"network-3: does not exist, but epoch 3 is best on validation, so its network is the final one; make it"),
        (7, r"network-7: does not exist, but epoch 7 is the last; make it: snakemake --cores all \S*network-7$"),
    ],
)
def test_a_network_that_is_needed_and_missing_is_named_with_the_command_that_makes_it(
    collect, tmp_path, missing, message
):
    with pytest.raises(ValueError, match=message):
        collect(VALIDATION, discarded=range(1, 7), missing=[missing])
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "network-5").exists()


def test_a_network_that_is_not_the_one_scored_is_refused(collect, tmp_path):
    with pytest.raises(
        ValueError, match=r"network-3: is not the network that its epoch's metrics\.json scored; delete"
    ):
        collect(VALIDATION, discarded=range(1, 7), damaged=3)
    assert not list((tmp_path / "run").iterdir())
    assert (tmp_path / "network-5").exists()


def test_every_epoch_needs_a_network(tmp_path):
    outputs = ("--output-metrics", str(tmp_path / "m.parquet"), "--output-network", str(tmp_path / "n"))
    with pytest.raises(ValueError, match=r"^--metrics and --networks must name equally many files"):
        main(["--metrics", "a", "b", "--networks", "c", *outputs])


def test_a_score_out_of_range_is_refused_and_nothing_is_thinned(collect, tmp_path):
    with pytest.raises(ValueError, match="accuracy must be at most 1"):
        collect([0.1, 0.2, 1.5], discarded=[1])
    assert not (tmp_path / "run" / "metrics.parquet").exists()
    assert (tmp_path / "network-1").exists()
