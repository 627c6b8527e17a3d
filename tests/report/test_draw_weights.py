import itertools

import numpy as np
import pytest

from stages.report.draw_weights import main
from tests.report.conftest import HOSTILE, read_drawn, read_texts, write_weights

CLASSES = ["angry", "happy", "sad"]
NAMES = ("distributions", "classes", "flips")


def draw(folder, tables, epochs, output="out"):
    outputs = {name: folder / output / f"{name}.svg" for name in NAMES}
    record = folder / output / "figures.json"
    main(
        [
            *("--weights", *map(str, tables), "--epochs", *map(str, epochs)),
            *(part for name, path in outputs.items() for part in (f"--output-{name}", str(path))),
            *("--output-record", str(record)),
        ]
    )
    return outputs, record


@pytest.fixture
def tables(tmp_path):
    """Of epochs 2, 4 and 6; in the last a sample is gone and another has come."""
    rng = np.random.default_rng(0)
    ids = [np.arange(40), np.arange(40), np.arange(1, 41)]
    labels = [rng.integers(0, 3, 40) for _ in range(3)]
    paths = [tmp_path / f"{epoch}.parquet" for epoch in (2, 4, 6)]
    columns = [
        write_weights(path, one, label, CLASSES, seed=k)
        for k, (path, one, label) in enumerate(zip(paths, ids, labels, strict=True))
    ]
    return paths, columns


def test_the_numbers_drawn_are_those_of_the_tables(tmp_path, tables, watch):
    paths, columns = tables
    # In any order: they are sorted by epoch.
    outputs, record = draw(tmp_path, paths[::-1], (6, 4, 2))
    drawn = read_drawn(record)
    assert drawn["epochs"] == [2, 4, 6]
    for number, table in enumerate(columns):
        assert drawn["pseudo_labels"][number] == [int((table["pseudo_label"] == k).sum()) for k in range(3)]
        expected = np.quantile(table["selection_weight"], (0.05, 0.25, 0.5, 0.75, 0.95))
        assert drawn["quantiles"]["selection_weight"][number] == pytest.approx(expected)
        assert sum(drawn["histograms"]["distribution_weight"]["counts"][number]) == 40
    of_class = columns[2]["density_weight"][columns[2]["pseudo_label"] == 1]
    assert drawn["quantiles_by_class"]["6"]["density_weight"][1][2] == pytest.approx(np.median(of_class))
    by_id = [dict(zip(one["sample_id"].tolist(), one["pseudo_label"].tolist(), strict=True)) for one in columns]
    for place, (before, after) in enumerate(itertools.pairwise(by_id), start=1):
        both = before.keys() & after.keys()
        share = sum(before[one] != after[one] for one in both) / len(both)
        assert drawn["flipped_since_previous"][place] == pytest.approx(share)
    assert drawn["flipped_since_previous"][0] is None
    both = by_id[0].keys() & by_id[2].keys()
    moves = [[sum(by_id[0][one] == a and by_id[2][one] == b for one in both) for b in range(3)] for a in range(3)]
    assert drawn["moves_from_first_to_last"] == moves
    assert watch.n_figures == 3
    assert not watch.cut
    assert set(CLASSES) <= set(read_texts(outputs["flips"]))


def test_the_same_tables_give_the_same_bytes(tmp_path, tables):
    first, _ = draw(tmp_path, tables[0], (2, 4, 6), "one")
    second, _ = draw(tmp_path, tables[0], (2, 4, 6), "two")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in NAMES)


def test_any_names_are_texts_that_fit(tmp_path, watch):
    path = tmp_path / "1.parquet"
    write_weights(path, np.arange(30), np.arange(30) % len(HOSTILE), HOSTILE)
    outputs, record = draw(tmp_path, [path], (1,))
    assert read_drawn(record)["classes"] == HOSTILE
    texts = "\n".join(read_texts(outputs["flips"]))
    assert '<b>&"angry"' in texts
    assert "$\\alpha$ cost" in texts
    assert "two\\nlines_" in texts
    assert "快乐" in texts
    assert "xx1" in texts
    assert "xx2" in texts, "names that begin alike still differ"
    assert not watch.cut


def test_many_classes_and_epochs_and_weights_that_a_method_lacks_can_be_drawn(tmp_path, watch):
    classes = [f"style number {k}" for k in range(50)]
    rng = np.random.default_rng(0)
    epochs = range(1, 41)
    paths = [tmp_path / f"{epoch}.parquet" for epoch in epochs]
    for path in paths:
        write_weights(path, np.arange(200), rng.integers(0, 49, 200), classes, density=False)
    outputs, record = draw(tmp_path, paths, epochs)
    drawn = read_drawn(record)
    assert drawn["quantiles"]["density_weight"] == [[None] * 5] * 40
    assert "not used by this method" in read_texts(outputs["distributions"])
    assert any("43 other classes" in text for text in read_texts(outputs["flips"]))
    assert not watch.cut


def test_tables_without_their_epochs_are_refused(tmp_path, tables):
    with pytest.raises(ValueError, match="2 epochs for 3 tables"):
        draw(tmp_path, tables[0], (2, 4))
