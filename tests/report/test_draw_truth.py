import numpy as np
import pytest

from stages.report.draw_truth import main
from tests.conftest import write_audit
from tests.report.conftest import HOSTILE, read_drawn, read_texts, write_weights

CLASSES = ["angry", "happy", "sad"]
NAMES = ("ranks", "epochs", "reliability")


def draw(folder, tables, epochs, audit, output="out"):
    outputs = {name: folder / output / f"{name}.svg" for name in NAMES}
    record = folder / output / "figures.json"
    main(
        [
            *("--task", "mood", "--audit-table", str(audit)),
            *("--weights", *map(str, tables), "--epochs", *map(str, epochs)),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    return outputs, record


def make(folder, n_samples=60, classes=CLASSES, **options):
    """Weights of the even samples in two epochs, and labels held back of all but a few."""
    rng = np.random.default_rng(4)
    ids = np.arange(0, 2 * n_samples, 2)
    paths = [folder / f"{epoch}.parquet" for epoch in (1, 3)]
    tables = [
        write_weights(path, ids, rng.integers(0, len(classes), n_samples), classes, seed=k, **options)
        for k, path in enumerate(paths)
    ]
    names = np.array(classes, dtype=object)[rng.integers(0, len(classes), 2 * n_samples)]
    names[::10] = None
    names[4] = "no class of the network"
    audit = folder / "audit" / "train.parquet"
    write_audit(audit, "heads", np.arange(2 * n_samples), {"mood": names})
    return paths, tables, names, audit


def test_accuracy_is_that_of_a_plain_count(tmp_path, watch):
    paths, tables, names, audit = make(tmp_path)
    outputs, record = draw(tmp_path, paths, (1, 3), audit)
    drawn = read_drawn(record)
    for place, table in enumerate(tables):
        # Joined by sample id: row 1 of the weights is sample 2.
        rows = [
            (weight, density, pseudo == names[sample])
            for sample, pseudo, weight, density in zip(
                table["sample_id"],
                table["pseudo_class"],
                table["selection_weight"],
                table["density_weight"],
                strict=True,
            )
            if names[sample] in CLASSES
        ]
        assert drawn["n_samples"] == len(rows)
        assert drawn["accuracy"][place] == pytest.approx(np.mean([right for *_, right in rows]))
        in_order = [right for _, _, right in sorted(rows)]
        for n_parts in (5, 10):
            size, more = divmod(len(rows), n_parts)
            start = 0
            for part in range(n_parts):
                end = start + size + (part < more)
                share = drawn["accuracy_by_part"][str(n_parts)]["selection_weight"][place][part]
                assert share == pytest.approx(np.mean(in_order[start:end]))
                start = end
        dense = [right for _, density, right in rows if density > 0.95]
        accuracy, number = drawn["accuracy_and_number_by_density"]["dense"][place]
        assert number == len(dense)
        assert accuracy == (pytest.approx(np.mean(dense)) if dense else None)
    assert sum(drawn["reliability"]["3"]["n_samples"]) == drawn["n_samples"]
    texts = read_texts(outputs["epochs"])
    assert any("in the paper: 96 %" in text for text in texts)
    assert not watch.cut


def test_the_same_tables_give_the_same_bytes(tmp_path):
    paths, _, _, audit = make(tmp_path)
    first, _ = draw(tmp_path, paths, (1, 3), audit, "one")
    second, _ = draw(tmp_path, paths, (1, 3), audit, "two")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in NAMES)


def test_one_epoch_any_names_and_a_method_without_density_can_be_drawn(tmp_path, watch):
    paths, _, _, audit = make(tmp_path, classes=HOSTILE, density=False)
    outputs, record = draw(tmp_path, paths[:1], (1,), audit)
    assert read_drawn(record)["accuracy_and_number_by_density"]["dense"] == [[None, 0]]
    assert "ranks nothing here" in read_texts(outputs["ranks"])
    assert not watch.cut


def test_labels_of_another_dataset_or_of_other_classes_are_refused(tmp_path):
    paths, *_ = make(tmp_path)
    ids = np.arange(120)
    other = tmp_path / "other.parquet"
    write_audit(other, "faces", ids, {"mood": np.array(["sad"] * 120)})
    with pytest.raises(ValueError, match="is about 'faces', not 'heads'"):
        draw(tmp_path, paths, (1, 3), other)
    write_audit(other, "heads", ids, {"mood": np.array(["bored"] * 120)})
    with pytest.raises(ValueError, match="no label of 'mood' is one of the classes"):
        draw(tmp_path, paths, (1, 3), other)
