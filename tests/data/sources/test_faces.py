import numpy as np
import pytest

from stages.data.sources.faces import EXPRESSIONS, POSES, STYLES, draw_face


def draw(seed=0, expression="happy", pose="frontal", style="bright_clean", size=32):
    return draw_face(np.random.default_rng(seed), expression=expression, pose=pose, style=style, size=size)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [16, 32, 50])
def test_shape_and_type(style, size):
    face = draw(style=style, size=size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.std() > 5


def test_same_generator_same_face():
    assert (draw(3) == draw(3)).all()
    assert (draw(3) != draw(4)).any()


@pytest.mark.parametrize("style", STYLES)
def test_size_changes_only_the_resolution(style):
    small = draw(5, style=style, size=16).astype(float)
    large = draw(5, style=style, size=64).astype(float).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.85


def test_every_class_looks_different():
    faces = [draw(1, expression, "frontal").astype(int) for expression in EXPRESSIONS]
    faces += [draw(1, "neutral", pose).astype(int) for pose in POSES if pose != "frontal"]
    for number, face in enumerate(faces):
        for other in faces[:number]:
            assert np.abs(face - other).max() > 50


def mean_face(**options):
    return np.mean([draw(seed, **options) for seed in range(40)], axis=0)


def test_left_is_the_mirror_image_of_right():
    left, right = mean_face(pose="left_profile"), mean_face(pose="right_profile")
    # Light falls from anywhere, so in the mean only the pose tells left from right.
    assert np.abs(left - right[:, ::-1]).mean() < 0.6 * np.abs(left - right).mean()


def test_dark_is_darker_and_noisier_than_bright():
    dark, bright = draw(2, style="dark_noisy", size=64).astype(float), draw(2, style="bright_clean", size=64)
    assert mean_face(style="dark_noisy").mean() < 0.7 * mean_face(style="bright_clean").mean()
    roughness = [np.median(np.abs(np.diff(face.astype(float), axis=0))) for face in (dark, bright)]
    assert roughness[0] > roughness[1]


@pytest.mark.parametrize("wrong", [{"expression": "bored"}, {"pose": "upside_down"}, {"style": "sepia"}])
def test_unknown_choices_are_named(wrong):
    with pytest.raises(ValueError, match=f"unknown '{next(iter(wrong.values()))}'; choose one of"):
        draw(**wrong)
