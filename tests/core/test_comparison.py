import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.comparison import (
    MEAN_OVER_TASKS,
    aggregate_run,
    arrange_run,
    choose_epochs,
    find_best_epoch,
    student_interval,
    summarize_runs,
    summarize_seeds,
)

TASKS = ("pose", "mood")


def metrics(validation, test):
    """Columns of a metrics table from accuracies of shape (E, K); macro-F1 is half of them."""
    rows = [
        (epoch, task, split, scores[epoch][place])
        for epoch in range(len(validation))
        for place, task in enumerate(TASKS)
        for split, scores in (("validation", validation), ("test", test))
    ]
    epoch, task, split, accuracy = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "epoch": epoch,
        "task": task.astype(object),
        "dataset": np.full(len(rows), None),
        "split": split.astype(object),
        "accuracy": accuracy,
        "macro_f1": accuracy / 2,
    }


VALIDATION = [[0.5, 0.5], [0.9, 0.3], [0.6, 0.7], [0.7, 0.6]]
TEST = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]


def aggregated(validation=VALIDATION, test=TEST, last_epochs=2, method="mtl_sa", seed=0):
    return aggregate_run(arrange_run(method, seed, metrics(validation, test)), last_epochs)


def compared(accuracies):
    """Columns of a comparison from test accuracies of shape (n seeds, K) by method."""
    rows = [
        row
        for method, values in accuracies.items()
        for seed, scores in enumerate(values)
        for row in aggregated([scores], [scores], method=method, seed=seed)
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def summary_of(accuracies, task="pose", **changes):
    rows = summarize_runs(compared(accuracies) | changes, "mtl_sa")
    return {
        row["method"]: row for row in rows if (row["task"], row["split"], row["epoch"]) == (task, "test", "validation")
    }


def test_aggregates_are_those_counted_by_hand():
    rows = {(row["epoch"], row["task"], row["split"]): row for row in aggregated()}
    assert len(rows) == 3 * 2 * 2
    assert rows["last", "pose", "test"]["accuracy"] == 0.7
    # Epochs 2 and 3 have the same mean over tasks, 0.65: the earlier one counts.
    assert rows["validation", "pose", "test"]["accuracy"] == 0.5
    assert rows["validation", "mood", "test"]["macro_f1"] == 0.3
    assert rows["validation", "mood", "validation"]["accuracy"] == 0.7
    assert rows["mean_of_last", "mood", "test"]["accuracy"] == pytest.approx(0.7)
    epochs = {name: (row["first_epoch"], row["last_epoch"]) for (name, _, _), row in rows.items()}
    assert epochs == {"last": (3, 3), "validation": (2, 2), "mean_of_last": (2, 3)}


def test_equal_means_are_ties_whatever_their_last_bit():
    assert np.mean([0.1, 0.2, 0.3]) != np.mean([0.3, 0.2, 0.1])
    for order in ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]):
        validation_accuracy = np.array([order, order[::-1]])
        assert find_best_epoch(validation_accuracy) == 0
        assert choose_epochs(validation_accuracy, 1)["validation"] == slice(0, 1)


def test_joint_training_can_be_the_epoch_that_validation_chooses():
    rows = aggregated(VALIDATION[::-1])
    assert {row["first_epoch"] for row in rows if row["epoch"] == "validation"} == {0}


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=4, max_size=4))
def test_the_test_split_never_chooses_the_epoch(test):
    chosen = {(row["epoch"], row["first_epoch"], row["last_epoch"]) for row in aggregated(test=test)}
    assert chosen == {("validation", 2, 2), ("mean_of_last", 2, 3), ("last", 3, 3)}


def test_fewer_epochs_than_asked_for_are_all_averaged_but_joint_training():
    rows = [row for row in aggregated(last_epochs=9) if row["epoch"] == "mean_of_last" and row["split"] == "test"]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.5, 0.6])
    assert {(row["first_epoch"], row["last_epoch"]) for row in rows} == {(1, 3)}


def test_rows_of_single_datasets_are_not_the_runs():
    overall = metrics(VALIDATION, TEST)
    of_dataset = overall | {"dataset": np.full(len(overall["epoch"]), "heads"), "accuracy": overall["accuracy"] / 3}
    both = {name: np.concatenate([of_dataset[name], values]) for name, values in overall.items()}
    np.testing.assert_array_equal(arrange_run("mtl_sa", 3, both).scores, arrange_run("mtl_sa", 3, overall).scores)


def test_a_missing_split_names_the_run():
    columns = metrics(VALIDATION, TEST)
    columns = {name: values[columns["split"] == "test"] for name, values in columns.items()}
    with pytest.raises(ValueError, match=r"^run mtl_sa/3: its metrics have no row for epoch 0, task pose, split val"):
        arrange_run("mtl_sa", 3, columns)


def test_a_row_twice_names_the_run():
    columns = {name: np.append(values, values[-1:]) for name, values in metrics(VALIDATION, TEST).items()}
    with pytest.raises(ValueError, match=r"^run mtl_sa/3: its metrics have two rows for epoch 3, task mood, split t"):
        arrange_run("mtl_sa", 3, columns)


def test_mean_and_standard_deviation_over_seeds():
    mean, deviation = summarize_seeds(np.array([0.5, 0.6, 0.7]))
    assert mean == pytest.approx(0.6)
    assert deviation == pytest.approx(0.1)


def test_summary_of_two_seeds_is_that_counted_by_hand():
    accuracies = {"stl": [[0.5, 0.4], [0.6, 0.8]], "mtl_sa": [[0.7, 0.6], [0.7, 0.9]]}
    stl = summary_of(accuracies)["stl"]
    assert stl["n_seeds"] == 2
    assert stl["accuracy"] == pytest.approx(0.55)
    assert stl["accuracy_std"] == pytest.approx(0.1 / np.sqrt(2))
    assert stl["macro_f1"] == pytest.approx(0.275)
    assert stl["difference"] == pytest.approx(-0.15)
    # t with one degree of freedom is tan(0.475 π) = 12.706, and s / √2 is half the distance of two values.
    half = 12.7062047 * 0.05
    assert (stl["difference_low"], stl["difference_high"]) == pytest.approx((-0.15 - half, -0.15 + half))
    assert (stl["accuracy_low"], stl["accuracy_high"]) == pytest.approx((0.55 - half, 0.55 + half))
    assert (stl["macro_f1_low"], stl["macro_f1_high"]) == pytest.approx((0.275 - half / 2, 0.275 + half / 2))
    over_tasks = summary_of(accuracies, MEAN_OVER_TASKS)["stl"]
    assert over_tasks["accuracy"] == pytest.approx((0.45 + 0.7) / 2)
    assert over_tasks["accuracy_std"] == pytest.approx(0.25 / np.sqrt(2))
    assert over_tasks["difference"] == pytest.approx((-0.2 - 0.1) / 2)


def test_the_reference_does_not_differ_from_itself():
    reference = summary_of({"stl": [[0.5, 0.4], [0.6, 0.8]], "mtl_sa": [[0.7, 0.6], [0.7, 0.9]]})["mtl_sa"]
    assert [reference[name] for name in ("difference", "difference_low", "difference_high")] == [0, 0, 0]


def test_differences_are_paired_by_seed():
    reference = np.array([[0.5, 0.5], [0.6, 0.6], [0.7, 0.7]])
    paired = summary_of({"stl": reference + 0.1, "mtl_sa": reference})["stl"]
    permuted = summary_of({"stl": reference[[2, 0, 1]] + 0.1, "mtl_sa": reference})["stl"]
    assert permuted["difference"] == pytest.approx(paired["difference"])
    assert (paired["difference_low"], paired["difference_high"]) == pytest.approx((0.1, 0.1))
    # Its differences are 0.3, 0 and 0: s / √3 is 0.1, and t with two degrees of freedom 4.303.
    half = 4.30265273 * 0.1
    assert (permuted["difference_low"], permuted["difference_high"]) == pytest.approx((0.1 - half, 0.1 + half))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-1, 1), st.floats(0, 9))
def test_the_interval_surrounds_the_mean_and_follows_shift_and_scale(values, shift, scale):
    values = np.array(values)
    low, high = student_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=1e-12)
    moved = student_interval(shift + scale * values)
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), abs=1e-9)


def test_intervals_of_several_cells_are_those_of_each():
    values = np.random.default_rng(1).random((5, 3, 2))
    low, high = student_interval(values)
    for cell in np.ndindex(3, 2):
        assert (low[cell], high[cell]) == pytest.approx(student_interval(values[:, *cell]))


def count_covered(low, high):
    """Share of the intervals that hold the truth, 0."""
    return ((low <= 0) & (high >= 0)).mean()


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_interval_covers_the_truth_in_95_percent_of_experiments(n_seeds):
    n_experiments = 20_000
    values = np.random.default_rng(n_seeds).normal(size=(n_seeds, n_experiments))
    standard_error = np.sqrt(0.95 * 0.05 / n_experiments)
    assert count_covered(*student_interval(values)) == pytest.approx(0.95, abs=4 * standard_error)


@pytest.mark.parametrize(("n_seeds", "covered"), [(3, 0.75), (5, 0.84)])
def test_a_percentile_bootstrap_would_not(n_seeds, covered):
    """Why the intervals are Student's: no resample leaves the range of the few values."""
    rng = np.random.default_rng(n_seeds)
    values = rng.normal(size=(n_seeds, 4000))
    means = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=2000) / n_seeds @ values
    assert count_covered(*np.percentile(means, [2.5, 97.5], axis=0)) == pytest.approx(covered, abs=0.025)


def test_one_seed_shows_no_spread_and_no_interval():
    stl = summary_of({"stl": [[0.5, 0.4]], "mtl_sa": [[0.7, 0.6]]})["stl"]
    assert stl["difference"] == pytest.approx(-0.2)
    unknown = [f"{score}_{what}" for score in ("accuracy", "macro_f1") for what in ("std", "low", "high")]
    assert np.isnan([stl[name] for name in (*unknown, "difference_low", "difference_high")]).all()


def test_a_missing_run_is_named():
    with pytest.raises(ValueError, match=r"^no run 'stl/1': all methods need the same seeds, \[0, 1\]$"):
        summary_of({"stl": [[0.5, 0.4]], "mtl_sa": [[0.7, 0.6], [0.7, 0.9]]})


def test_a_reference_that_did_not_run_is_refused():
    with pytest.raises(ValueError, match=r"^the reference 'mtl_sa' is none of the methods compared: 'stl'$"):
        summary_of({"stl": [[0.5, 0.4]]})
