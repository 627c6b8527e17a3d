import numpy as np
import pytest

from stages.data.sources.base import SPLITS
from stages.data.sources.faces import EXPRESSIONS, POSES
from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of


def read(**settings):
    samples = {"train": 30, "validation": 6, "test": 10}
    defaults = {"task": "expression", "style": "bright_clean", "seed": 1, "samples": samples}
    return read_source({"source": "synthetic_faces", **defaults, **settings}, "unused")


def draw(manifest, number):
    return np.asarray(manifest.load(manifest.samples[number], 16))


def test_manifest():
    manifest = read()
    assert [one.path for one in manifest.samples[:2]] == ["train/000000.png", "train/000001.png"]
    assert manifest.samples[30].path == "validation/000000.png"
    assert manifest.samples[36].path == "test/000000.png"
    assert classes_of(manifest) == EXPRESSIONS
    assert {one.audit["pose"] for one in manifest.samples} == set(POSES)
    assert classes_of(read(task="pose")) == tuple(sorted(POSES))


def test_tasks_label_the_same_faces():
    expression, pose = read(), read(task="pose")
    for one, other in zip(expression.samples, pose.samples, strict=True):
        assert (label_of(one), one.audit["pose"]) == (other.audit["expression"], label_of(other))
    assert (draw(expression, 7) == draw(pose, 7)).all()


def test_faces_do_not_depend_on_how_many_there_are():
    few, many = read(samples={"train": 8, "validation": 2, "test": 5}), read()
    assert few.samples[:8] == many.samples[:8]
    assert few.samples[8:10] == many.samples[30:32]
    assert few.samples[10:] == many.samples[36:41]
    assert (draw(few, 3) == draw(many, 3)).all()
    assert (draw(few, 9) == draw(many, 31)).all()
    assert (draw(few, 11) == draw(many, 37)).all()


@pytest.mark.parametrize("settings", [{"seed": 2}, {"style": "dark_noisy"}])
def test_datasets_share_no_face(settings):
    first, second = read(), read(**settings)
    faces = {draw(manifest, number).tobytes() for manifest in (first, second) for number in range(46)}
    assert len(faces) == 92
    assert [label_of(one) for one in first.samples] != [label_of(one) for one in second.samples]


def test_classes_are_nearly_but_not_exactly_balanced():
    samples = read(samples={"train": 2000, "validation": 2, "test": 2}).samples
    counts = np.unique([label_of(one) for one in samples], return_counts=True)[1]
    assert counts.min() > 280
    assert counts.max() < 520
    assert np.ptp(counts) > 20


@pytest.mark.parametrize("task", ["expression", "pose"])
@pytest.mark.parametrize("n_samples", [2, 3, 5])
def test_smallest_datasets_have_their_classes_in_every_split(task, n_samples):
    manifest = read(task=task, samples=dict.fromkeys(SPLITS, n_samples))
    assert len(classes_of(manifest)) == n_samples
    for split in SPLITS:
        assert len({label_of(one) for one in manifest.samples if one.split == split}) == n_samples


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "age"}, r"labelled for expression or pose, not for 'age'; correct `task`"),
        ({"style": "sepia"}, r"no style 'sepia'; set `style` to dark_noisy or bright_clean"),
        ({"classes": ["happy", "sad"]}, r"`classes` lacks 'angry', 'neutral', 'surprised'"),
        ({"samples": {"train": 5, "validation": 5, "test": 0}}, r"the split 'test' is empty"),
        ({"samples": {"train": 5, "validation": 0, "test": 5}}, r"the split 'validation' is empty"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        read(**settings)
