import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.core.selection import (
    align_labels,
    interpolate_labels,
    normalise_weights,
    soften_labels,
    threshold_weights,
    weigh_samples,
)


def draw_labels(n_samples, n_classes, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), n_samples)


def test_the_weight_is_the_product_of_the_criteria_over_its_maximum():
    soft = draw_labels(50, 4)
    density = np.random.default_rng(1).uniform(0.1, 1, 50)
    responsibilities = draw_labels(50, 3, seed=2)
    distances = np.array([0.5, 2.0, 7.0])
    selection = weigh_samples(
        soft,
        criteria=["confidence", "density", "distribution"],
        density_weights=density,
        responsibilities=responsibilities,
        transport_distances=distances,
        decay=0.1,
    )
    expected = soft.max(1) * density * np.exp(-0.1 * (responsibilities * distances).sum(1))
    np.testing.assert_allclose(selection.selection_weights, expected / expected.max(), rtol=1e-12)
    np.testing.assert_allclose(selection.confident_weights, soft.max(1) * density)
    np.testing.assert_allclose(selection.sample_distances, responsibilities @ distances)
    np.testing.assert_array_equal(selection.pseudo_labels, soft.argmax(1))


@pytest.mark.parametrize("criterion", ["confidence", "density", "distribution"])
def test_a_single_criterion_is_that_weight_over_its_maximum(criterion):
    soft, density = draw_labels(30, 4), np.random.default_rng(1).uniform(0.1, 0.9, 30)
    responsibilities = draw_labels(30, 2, seed=2)
    selection = weigh_samples(
        soft,
        criteria=[criterion],
        density_weights=density,
        responsibilities=responsibilities,
        transport_distances=np.array([1.0, 3.0]),
        decay=0.5,
    )
    alone = {
        "confidence": selection.confidence_weights,
        "density": density,
        "distribution": selection.distribution_weights,
    }[criterion]
    np.testing.assert_allclose(selection.selection_weights, alone / alone.max(), rtol=1e-12)


def weigh_all(**changes):
    """The weights of fifty samples by all criteria."""
    settings = {
        "criteria": ["confidence", "density", "distribution"],
        "density_weights": np.random.default_rng(1).uniform(0.1, 1, 50),
        "responsibilities": draw_labels(50, 3, seed=2),
        "transport_distances": np.array([0.5, 2.0, 7.0]),
        "decay": 0.1,
    }
    return weigh_samples(draw_labels(50, 4), **settings | changes)


@pytest.mark.parametrize("sharpness", [0.5, 3, 2000])
def test_sharpness_is_a_power_of_the_weight_whatever_underflows(sharpness):
    plain, sharp = weigh_all().selection_weights, weigh_all(sharpness=sharpness).selection_weights
    np.testing.assert_allclose(sharp, plain**sharpness, rtol=1e-9, atol=1e-300)
    assert sharp.max() == 1.0
    np.testing.assert_array_equal(weigh_all(sharpness=1).selection_weights, plain)


@given(st.floats(1e-3, 1e9))
def test_per_median_distance_the_weights_do_not_depend_on_the_scale_of_the_features(scale):
    distances = np.array([0.5, 2.0, 7.0])
    expected = weigh_all(decay_scale="median")
    found = weigh_all(decay_scale="median", transport_distances=scale * distances)
    np.testing.assert_allclose(found.selection_weights, expected.selection_weights, rtol=1e-9)
    np.testing.assert_allclose(found.distribution_weights, expected.distribution_weights, rtol=1e-9)
    middle = np.exp(-0.1 * expected.sample_distances / np.median(expected.sample_distances))
    np.testing.assert_allclose(expected.distribution_weights, middle, rtol=1e-12)
    if abs(scale - 1) > 0.01:
        absolute = weigh_all(transport_distances=scale * distances).selection_weights
        assert np.abs(absolute - weigh_all().selection_weights).max() > 1e-4


def test_an_absolute_scale_is_the_default_and_a_median_of_zero_leaves_the_unit():
    np.testing.assert_array_equal(weigh_all(decay_scale="absolute").selection_weights, weigh_all().selection_weights)
    near = {"responsibilities": np.eye(3)[[0] * 40 + [1] * 10], "transport_distances": np.array([0.0, 3.0, 9.0])}
    np.testing.assert_array_equal(
        weigh_all(**near, decay_scale="median").distribution_weights, weigh_all(**near).distribution_weights
    )


@given(st.floats(1e2, 1e12))
def test_distances_that_underflow_still_rank_the_samples(scale):
    responsibilities = np.eye(3)
    selection = weigh_samples(
        np.full((3, 2), 0.5),
        criteria=["distribution"],
        responsibilities=responsibilities,
        transport_distances=scale + np.array([0.0, 1.0, 2.0]) * max(1.0, scale * 1e-9),
        decay=0.1,
    )
    weights = selection.selection_weights
    assert weights[0] == 1.0
    assert weights[0] > weights[1] > weights[2] >= 0
    assert np.isfinite(weights).all()


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 0)))
def test_normalised_weights_have_one_as_their_maximum(log_weights):
    weights = normalise_weights(log_weights)
    assert weights.max() == 1.0
    assert (weights >= 0).all()


def test_the_pseudo_label_of_a_tie_is_the_lowest_index():
    selection = weigh_samples(np.array([[0.2, 0.4, 0.4], [0.5, 0.0, 0.5]]), criteria=["confidence"])
    assert selection.pseudo_labels.tolist() == [1, 0]
    assert selection.pseudo_labels.dtype == np.int32


def test_given_pseudo_labels_take_the_place_of_the_largest_and_leave_the_weights_alone():
    soft = draw_labels(20, 3)
    refined = ((soft.argmax(1) + 1) % 3).astype(np.int32)
    own = weigh_samples(soft, criteria=["confidence"])
    given_ones = weigh_samples(soft, criteria=["confidence"], pseudo_labels=refined)
    np.testing.assert_array_equal(given_ones.pseudo_labels, refined)
    np.testing.assert_array_equal(given_ones.selection_weights, own.selection_weights)
    np.testing.assert_array_equal(given_ones.confidence_weights, soft.max(1))
    constant = weigh_samples(soft, criteria=1, pseudo_labels=refined)
    np.testing.assert_array_equal(constant.pseudo_labels, refined)


WEIGHTS = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


@given(WEIGHTS, st.floats(0, 1))
def test_a_threshold_always_selects_the_best_and_no_lesser_weight_before_a_greater(weights, quantile):
    selected = threshold_weights(weights, quantile)
    assert selected.dtype == np.float64
    assert set(selected.tolist()) <= {0.0, 1.0}
    assert (selected[weights == weights.max()] == 1).all()
    assert weights[selected == 1].min() > max(weights[selected == 0], default=-1)
    # As many as reach the quantile, and one where it lies on a sample.
    assert selected.sum() >= np.floor((1 - quantile) * (len(weights) - 1) + 1e-9)


@given(WEIGHTS)
def test_a_quantile_of_zero_selects_all_and_of_one_only_the_best(weights):
    assert (threshold_weights(weights, 0) == 1).all()
    np.testing.assert_array_equal(threshold_weights(weights, 1), weights == weights.max())


def test_a_threshold_leaves_out_a_quantile_and_treats_equal_weights_alike():
    assert threshold_weights(np.array([0.1, 0.4, 0.3, 0.2]), 0.5).tolist() == [0, 1, 1, 0]
    assert threshold_weights(np.arange(101), 0.7).sum() == 31
    assert threshold_weights(np.array([0.5, 1, 0.5, 0.2]), 0.5).tolist() == [1, 1, 1, 0]
    assert threshold_weights(np.array([0.2, 1, 0.2, 0.2]), 0.5).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("quantile", [-0.1, 1.1])
def test_a_quantile_that_is_no_share_is_refused(quantile):
    with pytest.raises(ValueError, match="range"):
        threshold_weights(np.ones(3), quantile)


@pytest.mark.parametrize("constant", [0, 0.5, 1])
def test_a_constant_weight_is_not_normalised(constant):
    selection = weigh_samples(draw_labels(5, 3), criteria=constant)
    assert selection.selection_weights.tolist() == [constant] * 5
    assert selection.density_weights is None


def test_a_criterion_without_its_table_is_refused():
    with pytest.raises(ValueError, match="criterion 'density' was asked for"):
        weigh_samples(draw_labels(5, 3), criteria=["density"])
    with pytest.raises(ValueError, match="unknown criterion 'hope'"):
        weigh_samples(draw_labels(5, 3), criteria=["hope"])


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 1, 5]))
def test_a_full_alignment_gives_the_mean_of_the_labels_the_class_mix(seed, concentration):
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet(np.full(4, concentration), 60).astype(np.float32)
    frequencies = rng.dirichlet(np.ones(4))
    aligned = align_labels(soft, frequencies, "full")
    np.testing.assert_allclose(aligned.mean(0), frequencies, atol=2e-5)
    np.testing.assert_allclose(aligned.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(align_labels(aligned, frequencies, "once"), aligned, atol=1e-3)
    # Only the classes are scaled: the ratio of two classes changes alike for all samples.
    sure = (soft > 1e-20).all(1)
    odds = np.log(aligned[sure, 1:] / aligned[sure, :1]) - np.log(soft[sure, 1:].astype(float) / soft[sure, :1])
    assert not sure.any() or np.ptp(odds, axis=0).max() < 1e-6


def test_one_alignment_is_the_rule_and_labels_with_the_mix_stay():
    soft, frequencies = draw_labels(30, 3), np.array([0.2, 0.3, 0.5])
    scaled = soft * frequencies / soft.mean(0)
    np.testing.assert_allclose(align_labels(soft, frequencies, "once"), scaled / scaled.sum(1, keepdims=True))
    np.testing.assert_allclose(align_labels(soft, soft.mean(0), "once"), soft, rtol=1e-12)
    np.testing.assert_array_equal(align_labels(soft, frequencies, "none"), soft)


def test_certain_labels_are_aligned_too_and_no_sample_gets_a_class_that_never_occurs():
    certain = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    aligned = align_labels(certain, np.array([0.5, 0.5, 0.0]), "full")
    assert np.isfinite(aligned).all()
    np.testing.assert_allclose(aligned.mean(0), [0.5, 0.5, 0.0], atol=1e-5)
    only = align_labels(np.eye(3)[[2, 2]], np.array([0.25, 0.75, 0.0]), "full")
    np.testing.assert_allclose(only, [[0.25, 0.75, 0.0]] * 2, atol=1e-5)


def test_temperature_one_changes_nothing_and_a_high_one_flattens():
    soft = draw_labels(20, 5)
    np.testing.assert_allclose(soften_labels(soft, 1), soft, rtol=1e-12)
    np.testing.assert_allclose(soften_labels(soft, 1e9), np.full((20, 5), 0.2), rtol=1e-6)


@given(st.floats(0.05, 50), st.integers(0, 10))
def test_softening_is_the_power_formula_and_keeps_order_and_sum(temperature, seed):
    soft = draw_labels(10, 4, seed)
    softened = soften_labels(soft, temperature)
    np.testing.assert_allclose(softened.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(softened.argmax(1), soft.argmax(1))
    logarithm = np.log(soft) / temperature
    powers = np.exp(logarithm - logarithm.max(1, keepdims=True))
    np.testing.assert_allclose(softened, powers / powers.sum(1, keepdims=True), rtol=1e-9, atol=1e-300)


def test_softening_keeps_zeros_and_refuses_a_temperature_of_zero():
    assert soften_labels(np.array([[1.0, 0.0]]), 2).tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="temperature must be above 0"):
        soften_labels(np.array([[1.0, 0.0]]), 0)


def test_interpolation_ends_at_the_soft_and_at_the_pseudo_label():
    soft = draw_labels(6, 3)
    pseudo = soft.argmax(1)
    np.testing.assert_array_equal(interpolate_labels(soft, pseudo, np.zeros(6)), soft)
    np.testing.assert_array_equal(interpolate_labels(soft, pseudo, np.ones(6)), np.eye(3)[pseudo])
    np.testing.assert_allclose(
        interpolate_labels(soft, pseudo, np.full(6, 0.25)), 0.25 * np.eye(3)[pseudo] + 0.75 * soft
    )
