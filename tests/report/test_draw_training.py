import numpy as np
import pytest

from stages.report import draw_cross_stitch, draw_training
from stages.storage.contracts import CHECKPOINT, EVALUATION, METRICS
from stages.storage.files import write_json
from stages.storage.tables import write_table
from tests.report.conftest import HOSTILE, NOWHERE, read_drawn, read_texts

NAMES = ("scores", "losses", "confusion")


def write_epochs(folder, classes, n_epochs=5, tasks=("mood", "pose")):
    """Evaluations and cards of epochs that take turns on two datasets, and the metrics of the run."""
    rng = np.random.default_rng(0)
    evaluations, cards = [], []
    for epoch in range(n_epochs):
        dataset = None if epoch == 0 else ("faces", "heads")[(epoch - 1) % 2]
        scores = {}
        for task in tasks:
            confusion = rng.integers(0, 9, (len(classes), len(classes))).tolist()
            scores[task] = {
                "accuracy": 0.1 * epoch,
                "macro_f1": 0.05 * epoch,
                "n_samples": int(np.sum(confusion)),
                "classes": list(classes),
                "confusion_matrix": confusion,
            }
        losses = {
            task: {
                "labels": "given" if epoch == 0 or (dataset == "faces") == (task == "mood") else "materialized",
                "n_samples": 9,
                "cross_entropy": 1.5,
                "label_entropy": 1.2,
                "divergence": 0.3,
            }
            for task in tasks
        }
        content = {"epoch": epoch, "trained_dataset": dataset, "tasks": scores, "validation": scores}
        card = {"epoch": epoch, "dataset": dataset, "n_samples": 9, "losses": losses, "seed": 0, "threads": 1}
        evaluations.append(folder / str(epoch) / "metrics.json")
        cards.append(folder / str(epoch) / "checkpoint.json")
        write_json(evaluations[-1], EVALUATION, content, NOWHERE)
        write_json(cards[-1], CHECKPOINT, card | {"files": {}}, NOWHERE)
    columns = {
        "epoch": np.array([0]),
        "task": np.array(["mood"], dtype=object),
        "dataset": np.array([None], dtype=object),
        "split": np.array(["test"], dtype=object),
        "accuracy": np.array([0.5]),
        "macro_f1": np.array([0.5]),
        "n_samples": np.array([9]),
        "trained_dataset": np.array([None], dtype=object),
    }
    metadata = {"select": "validation", "selected_epoch": n_epochs - 2}
    write_table(folder / "metrics.parquet", METRICS, columns, metadata=metadata, provenance=NOWHERE)
    return evaluations, cards


def draw(folder, evaluations, cards, output="out"):
    outputs = {name: folder / output / f"{name}.svg" for name in NAMES}
    record = folder / output / "figures.json"
    draw_training.main(
        [
            *("--metrics", str(folder / "metrics.parquet"), "--evaluations", *map(str, evaluations)),
            *("--cards", *map(str, cards)),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    return outputs, record


def test_losses_are_split_into_what_can_be_learned_and_what_cannot(tmp_path, watch):
    evaluations, cards = write_epochs(tmp_path, ["left", "right"])
    outputs, record = draw(tmp_path, evaluations[::-1], cards)
    drawn = read_drawn(record)
    assert drawn["trained"] == ["all, jointly", "faces", "heads", "faces", "heads"]
    assert drawn["losses"]["mood"][:3] == [[1.5, None, None], [1.5, None, None], [None, 1.2, 0.3]]
    assert drawn["losses"]["pose"][1] == [None, 1.2, 0.3]
    # Validation, then test, accuracy and macro-F1 each.
    assert drawn["scores"]["pose"][3] == [[pytest.approx(0.3), pytest.approx(0.15)]] * 2
    assert drawn["chosen"] == 3
    texts = read_texts(outputs["scores"])
    assert {"trained on faces", "trained on heads", "chosen: epoch 3"} <= set(texts)
    assert {"left", "right"} <= set(read_texts(outputs["confusion"]))
    shown = np.array(drawn["confusions"]["mood"])
    share = 100 * shown[0, 1] / shown[0].sum()
    assert f"{share:.0f} %" in read_texts(outputs["confusion"])
    assert not watch.cut


def test_the_same_run_gives_the_same_bytes(tmp_path):
    paths = write_epochs(tmp_path, ["left", "right"])
    first, _ = draw(tmp_path, *paths, "one")
    second, _ = draw(tmp_path, *paths, "two")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in NAMES)


@pytest.mark.parametrize(
    ("classes", "n_epochs", "tasks"),
    [
        (HOSTILE, 2, ("mood", "pose")),
        ([f"style {k}" for k in range(50)], 60, ("style", "age")),
        (["a", "b"], 3, "abcd"),
    ],
)
def test_any_names_and_numbers_fit(tmp_path, watch, classes, n_epochs, tasks):
    outputs, _ = draw(tmp_path, *write_epochs(tmp_path, classes, n_epochs, tasks))
    assert any(classes[1][:8] in text for text in read_texts(outputs["confusion"]))
    assert not watch.cut


def test_the_cross_stitch_unit_is_read_from_the_networks_that_are_there(run, tmp_path, watch):
    files = run.checkpoint("initial")
    record = tmp_path / "figures.json"
    options = ["--output", str(tmp_path / "cross_stitch.svg"), "--output-record", str(record)]
    # The network of a second epoch was thinned out.
    _, cards = write_epochs(tmp_path, ["left", "right"], 2)
    draw_cross_stitch.main(["--cards", str(files["card"]), str(cards[1]), *options])
    drawn = read_drawn(record)
    from stages.storage.checkpoints import load_network

    network = load_network(files["network"])
    assert drawn["epochs"] == [0]
    assert drawn["tasks"] == network.specification.tasks
    assert np.array(drawn["matrices"]) == pytest.approx(network.cross_stitch.detach().numpy()[None])
    assert "its own head" in " ".join(read_texts(tmp_path / "cross_stitch.svg"))
    assert not watch.cut
    with pytest.raises(ValueError, match="there is no network beside it"):
        draw_cross_stitch.main(["--cards", str(cards[1]), *options])
