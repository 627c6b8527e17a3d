import numpy as np
import pytest

from benchmarks.merge_comparisons import SCORE, merge
from stages.core.comparison import summarize_runs
from stages.storage.contracts import COMPARISON


def make_table(methods, accuracy):
    """Two seeds of one task, for every split and aggregate."""
    rows = [
        (method, seed, "pose", None, split, epoch, accuracy[method] + seed / 100, 0.5)
        for method in methods
        for seed in (0, 1)
        for split in ("validation", "test")
        for epoch in ("last", "validation", "mean_of_last")
    ]
    found = dict(zip(SCORE, map(np.array, zip(*rows, strict=True)), strict=True))
    rest = {column.name: np.zeros(len(rows)) for column in COMPARISON.columns if column.name not in found}
    return found | rest


def test_methods_that_were_compared_apart_stand_side_by_side():
    accuracy = {"a": 0.5, "b": 0.6, "c": 0.8}
    merged = merge([make_table("ab", accuracy), make_table("bc", accuracy)])
    assert len(merged["method"]) == 3 * 2 * 2 * 3
    rows = summarize_runs(merged, "a")
    found = {row["method"]: row["difference"] for row in rows if row["task"] == "pose"}
    assert found == {"a": 0, "b": pytest.approx(0.1), "c": pytest.approx(0.3)}


def test_other_settings_and_nothing_in_common_are_refused():
    first = make_table("ab", {"a": 0.5, "b": 0.6})
    with pytest.raises(ValueError, match="scores differ of 'b/0', 'b/1'"):
        merge([first, make_table("bc", {"b": 0.61, "c": 0.8})])
    with pytest.raises(ValueError, match="no method with the same seeds is in both"):
        merge([first, make_table("c", {"c": 0.8})])
