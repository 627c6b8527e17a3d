from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.splits import draw_part, draw_stratified, split_stratified

RATIOS = st.floats(0.05, 0.9).map(lambda share: {"train": 1 - share, "test": share})
LABELS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=80)


@given(LABELS, RATIOS, st.integers(0, 2**31))
def test_every_class_keeps_its_share(labels, ratios, seed):
    splits = split_stratified(labels, ratios, seed)
    for label in set(labels):
        drawn = splits[np.array(labels) == label]
        counts = {name: int((drawn == name).sum()) for name in ratios}
        assert sum(counts.values()) == len(drawn)
        if len(drawn) == 1:
            assert counts["train"] == 1
            continue
        for name, ratio in ratios.items():
            assert counts[name] >= 1
            # Rounding moves less than one sample, filling an empty split one more.
            assert abs(counts[name] - len(drawn) * ratio) < 2


@given(LABELS, st.integers(0, 2**31))
def test_other_classes_do_not_matter(labels, seed):
    ratios = {"train": 0.7, "test": 0.3}
    splits = split_stratified(labels, ratios, seed)
    for label in set(labels):
        members = np.array(labels) == label
        assert (split_stratified([label] * int(members.sum()), ratios, seed) == splits[members]).all()


def test_known_result():
    # Fixed for ever: another result would move images of existing runs between train and test.
    splits = split_stratified(["a", "b"] * 5, {"train": 0.6, "test": 0.4}, 0)
    assert splits[::2].tolist() == ["train", "train", "test", "test", "train"]
    assert splits[1::2].tolist() == ["test", "train", "train", "test", "train"]


def test_seed_changes_who_is_drawn():
    labels = ["a"] * 100
    ratios = {"train": 0.5, "test": 0.5}
    assert (split_stratified(labels, ratios, 0) != split_stratified(labels, ratios, 1)).any()


def test_small_classes_reach_every_split():
    assert sorted(split_stratified(["a"] * 3, {"train": 0.98, "val": 0.01, "test": 0.01}, 0)) == [
        "test",
        "train",
        "val",
    ]
    assert sorted(split_stratified(["a"] * 2, {"train": 0.98, "val": 0.01, "test": 0.01}, 0)) == ["train", "val"]


@pytest.mark.parametrize(
    "ratios", [{}, {"train": 1.0, "test": 0.0}, {"train": 0.5, "test": 0.4}, {"train": 1.5, "test": -0.5}]
)
def test_impossible_ratios(ratios):
    with pytest.raises(ValueError, match="must be positive and sum to 1"):
        split_stratified(["a", "b"], ratios, 0)


@given(LABELS, st.data(), st.integers(0, 2**31))
def test_exactly_so_many_are_drawn_and_every_class_keeps_its_share(labels, data, seed):
    n_classes = len(set(labels))
    n_samples = data.draw(st.integers(n_classes, len(labels)))
    chosen = draw_stratified(labels, n_samples, seed)
    assert chosen.dtype == bool
    assert chosen.shape == (len(labels),)
    assert chosen.sum() == n_samples
    for label in set(labels):
        size, count = labels.count(label), int(chosen[np.array(labels) == label].sum())
        exact = n_samples * size / len(labels)
        assert 1 <= count <= size
        assert count <= max(1, np.ceil(exact + 1e-9))
        # Classes that would have none take theirs from the largest.
        assert count >= min(np.floor(exact - 1e-9), exact - n_classes)


@given(LABELS, st.data(), st.integers(0, 2**31))
def test_the_draw_is_the_same_again_and_heeds_no_order_among_classes(labels, data, seed):
    n_samples = data.draw(st.integers(len(set(labels)), len(labels)))
    chosen = draw_stratified(labels, n_samples, seed)
    assert (draw_stratified(labels, n_samples, seed) == chosen).all()
    order = np.argsort(np.array(labels), kind="stable")
    assert (draw_stratified([labels[place] for place in order], n_samples, seed) == chosen[order]).all()


@given(LABELS, st.integers(0, 2**31))
def test_drawing_all_samples_draws_all_of_them(labels, seed):
    assert draw_stratified(labels, len(labels), seed).all()


def test_large_classes_are_drawn_in_proportion():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    chosen = draw_stratified(labels, 20, 0)
    assert [int(chosen[np.array(labels) == label].sum()) for label in "abc"] == [12, 6, 2]
    assert (chosen != draw_stratified(labels, 20, 1)).any()


def test_a_known_draw():
    # Fixed for ever, like the known split above.
    assert np.flatnonzero(draw_stratified(["a", "b"] * 5, 5, 0)).tolist() == [0, 2, 3, 5, 8]
    assert np.flatnonzero(draw_part([f"{number}.png" for number in range(10)], 0, 0.4, 0)).tolist() == [1, 3, 4, 7, 9]


@pytest.mark.parametrize("n_samples", [-1, 0, 1, 6])
def test_more_samples_than_there_are_or_fewer_than_classes_are_refused(n_samples):
    with pytest.raises(ValueError, match=f"{n_samples} samples cannot be drawn from 5 of 2 classes; ask for 2 to 5"):
        draw_stratified(list("aabbb"), n_samples, 0)


NAMES = st.lists(st.text("abc/.", min_size=1, max_size=6), unique=True, max_size=60)


@given(NAMES, st.lists(st.floats(0, 1), max_size=3), st.integers(0, 2**31))
def test_parts_side_by_side_hold_every_name_once(names, cuts, seed):
    cuts = sorted({0.0, *cuts, 1.0})
    parts = [draw_part(names, start, end, seed) for start, end in pairwise(cuts)]
    assert (np.sum(parts, axis=0) == 1).all()


def test_a_part_has_nearly_its_share():
    names = [f"{number}.png" for number in range(10_000)]
    # Five standard deviations of a binomial draw.
    assert abs(draw_part(names, 0.2, 0.5, 0).sum() - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5


def test_gaps_in_one_of_two_lists_move_no_name_into_the_other_part():
    names = [f"{number}.png" for number in range(200)]
    first = {name for name, taken in zip(names, draw_part(names, 0, 0.3, 0), strict=True) if taken}
    thinned = names[::3]
    second = {name for name, taken in zip(thinned, draw_part(thinned, 0.3, 1, 0), strict=True) if taken}
    assert first.isdisjoint(second)
    assert second


@given(NAMES, st.integers(0, 2**31), st.randoms())
def test_a_part_depends_on_the_names_and_not_on_their_order(names, seed, random):
    def draw(listed):
        chosen = draw_part(listed, 0, 0.3, seed)
        return {name for name, taken in zip(listed, chosen, strict=True) if taken}

    shuffled = list(names)
    random.shuffle(shuffled)
    assert draw(shuffled) == draw(names)
    assert draw(names).isdisjoint(
        name for name, taken in zip(names, draw_part(names, 0.3, 1, seed), strict=True) if taken
    )


def test_the_seed_changes_who_is_in_a_part():
    names = [str(number) for number in range(100)]
    assert (draw_part(names, 0, 0.5, 0) != draw_part(names, 0, 0.5, 1)).any()


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1)])
def test_impossible_parts(start, end):
    with pytest.raises(ValueError, match=r"a part goes from a share to a larger one"):
        draw_part(["a", "b"], start, end, 0)
