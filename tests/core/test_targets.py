import numpy as np
import pytest

from stages.core.targets import balance_classes, make_given, one_hot, share_loss


def test_given_labels_are_smoothed_and_weighted_by_class():
    labels = np.array([0, 0, 0, 1, -1])
    weights = balance_classes(labels, 3)
    np.testing.assert_allclose(weights[:2], [4 / (2 * 3), 4 / 2])
    assert weights[labels[:4]].mean() == 1
    np.testing.assert_array_equal(make_given(labels, 3), one_hot(labels, 3))
    vectors = make_given(labels, 3, smoothing=0.3, class_weights=weights)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], np.array([0.8, 0.1, 0.1]) * 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(vectors[3], np.array([0.1, 0.8, 0.1]) * 2, rtol=1e-6)
    assert not vectors[4].any()
    # One class after the other has the same part in the loss.
    np.testing.assert_allclose(vectors[:3].sum(), vectors[3].sum(), rtol=1e-6)
    assert balance_classes(np.array([-1]), 2).tolist() == [0, 0]


def test_where_all_are_given_or_all_are_made_apart_is_a_plain_mean_times_the_strength():
    every, none = np.full(4, True), np.full(4, False)
    ones, halves = np.ones(4), np.full(4, 0.5)
    for separate in (False, True):
        np.testing.assert_array_equal(share_loss(ones, ones, every, separate=separate), 0.25)
        np.testing.assert_array_equal(share_loss(halves, ones, none, separate=separate), 0.125)


def test_few_given_labels_keep_their_loss_apart_from_many_made_ones():
    given = np.arange(32) < 4
    strengths = np.where(given, 1, 0.5)
    joint = share_loss(strengths, np.ones(32), given)
    assert joint[given].sum() == pytest.approx(2 / 9)
    apart = share_loss(strengths, np.ones(32), given, separate=True)
    assert (apart[given].sum(), apart[~given].sum()) == pytest.approx((1, 0.5))
