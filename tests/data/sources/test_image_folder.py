from collections import Counter

import pytest
from PIL import Image

from stages.data.sources.registry import read_source
from tests.single import classes_of, label_of

RATIO = {"test": 0.25, "seed": 0}


def add_images(folder, *names, colour=0):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), colour).save(folder / name)


def read(root, **settings):
    return read_source({"source": "image_folder", "task": "kind", "path": "faces", **settings}, root)


@pytest.fixture
def split_folders(tmp_path):
    add_images(tmp_path / "faces", "train/b/2.png", "train/b/1.JPG", "train/a/x.jpeg", "test/a/1.png", "test/b/1.png")
    add_images(tmp_path / "faces", "validation/b/1.png")
    return tmp_path


def test_split_folders(split_folders):
    manifest = read(split_folders)
    assert [(sample.path, label_of(sample), sample.split) for sample in manifest.samples] == [
        ("train/a/x.jpeg", "a", "train"),
        ("train/b/1.JPG", "b", "train"),
        ("train/b/2.png", "b", "train"),
        ("validation/b/1.png", "b", "validation"),
        ("test/a/1.png", "a", "test"),
        ("test/b/1.png", "b", "test"),
    ]
    assert classes_of(manifest) == ("a", "b")
    with manifest.load(manifest.samples[0], 32) as image:
        assert image.size == (4, 4)


def test_hidden_and_other_files_are_ignored(split_folders):
    faces = split_folders / "faces"
    before = read(split_folders).samples
    add_images(faces, "train/.hidden/1.png", "train/a/.hidden.png", "train/a/.cache/1.png", "val/a/1.png")
    (faces / "train" / "a" / "notes.txt").write_text("no image")
    (faces / "train" / "README.md").write_text("no class")
    assert read(split_folders).samples == before


def test_subfolders_belong_to_their_class(split_folders):
    add_images(split_folders / "faces", "train/a/album/1.png")
    assert ("train/a/album/1.png", "a") in [(sample.path, label_of(sample)) for sample in read(split_folders).samples]


def test_absolute_path(split_folders):
    assert read(split_folders / "elsewhere", path=str(split_folders / "faces")).samples == read(split_folders).samples


def test_ratio_is_stratified_and_seeded(tmp_path):
    add_images(tmp_path / "faces", *[f"{label}/{number}.png" for label in "ab" for number in range(8)])
    manifest = read(tmp_path, split=RATIO)
    splits = {sample.path: sample.split for sample in manifest.samples}
    assert [sample.split for sample in manifest.samples] == ["train"] * 10 + ["validation"] * 2 + ["test"] * 4
    assert sum(split == "test" and path.startswith("a/") for path, split in splits.items()) == 2
    assert read(tmp_path, split=RATIO).samples == manifest.samples
    others = [read(tmp_path, split={**RATIO, "seed": seed}).samples for seed in range(1, 4)]
    assert any(samples != manifest.samples for samples in others)


def test_class_order_can_be_fixed(split_folders):
    assert classes_of(read(split_folders, classes=["b", "a"])) == ("b", "a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere"}, r"nowhere: is not a folder; correct `path` or `data_root`"),
        ({"classes": ["a", "c"]}, r"`classes` lacks 'b' and `classes` names 'c', of which there are no images"),
        ({"classes": ["a", "b", "b"]}, r"`classes` names a class twice"),
    ],
)
def test_wrong_settings(split_folders, settings, message):
    with pytest.raises(ValueError, match=message):
        read(split_folders, **settings)


def test_missing_split_folder(tmp_path):
    add_images(tmp_path / "faces", "train/a/1.png", "train/b/1.png", "Test/a/1.png")
    with pytest.raises(ValueError, match=r"has no folder 'test' \(it has 'Test', 'train'\); add or rename it$"):
        read(tmp_path)
    for name in ("train", "Test"):
        (tmp_path / f"faces/{name}").rename(tmp_path / f"faces/{name} 1")
    with pytest.raises(
        ValueError, match=r"has no folder 'train', 'test' .*; add or rename it, or set `split` to a ratio"
    ):
        read(tmp_path)


def test_empty_class_folder(split_folders):
    (split_folders / "faces" / "train" / "c").mkdir()
    with pytest.raises(ValueError, match=r"train/c: holds no images .*remove it"):
        read(split_folders)


def test_empty_split(split_folders):
    for folder in "ab":
        (split_folders / "faces" / "test" / folder / "1.png").unlink()
        (split_folders / "faces" / "test" / folder).rmdir()
    with pytest.raises(ValueError, match="the split 'test' is empty"):
        read(split_folders)


def test_an_own_validation_folder_must_hold_something(split_folders):
    (split_folders / "faces" / "validation" / "b" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"validation/b: holds no images .*remove it"):
        read(split_folders)


def test_too_few_images_to_validate_with_are_an_error_like_any_empty_split(tmp_path):
    add_images(tmp_path / "faces", "train/a/1.png", "train/b/1.png", "test/a/1.png")
    with pytest.raises(ValueError, match="the split 'validation' is empty"):
        read(tmp_path)


def test_an_own_validation_folder_is_kept_and_nothing_is_carved(split_folders):
    names = [f"train/{label}/more{number}.png" for label in "ab" for number in range(20)]
    add_images(split_folders / "faces", *names)
    samples = read(split_folders).samples
    assert [sample.path for sample in samples if sample.split == "validation"] == ["validation/b/1.png"]
    assert sum(sample.split == "train" for sample in samples) == 43
    with pytest.raises(ValueError, match="faces: has a validation split of its own; remove `validation`"):
        read(split_folders, validation=0.5)


def test_without_a_validation_folder_a_share_of_every_class_is_taken(tmp_path):
    names = [f"train/{label}/{number:02d}.png" for label, size in (("a", 30), ("b", 10)) for number in range(size)]
    add_images(tmp_path / "faces", *names, "test/a/1.png", "test/b/1.png")

    def count(**settings):
        found = Counter((one.split, label_of(one)) for one in read(tmp_path, **settings).samples)
        assert [found["test", label] for label in "ab"] == [1, 1]
        assert [found["train", label] + found["validation", label] for label in "ab"] == [30, 10]
        return [found["validation", label] for label in "ab"]

    assert count() == [3, 1]
    assert count(validation=0.2) == [6, 2]
    assert read(tmp_path).samples == read(tmp_path, validation=0.1, seed=0).samples
    assert read(tmp_path).samples != read(tmp_path, seed=1).samples


def test_samples_thins_out_the_training_split_only(tmp_path):
    add_images(tmp_path / "faces", *[f"{label}/{number:02d}.png" for label in "ab" for number in range(40)])
    everything = read(tmp_path, split=RATIO).samples
    few = read(tmp_path, split=RATIO, samples=20).samples
    assert Counter(label_of(one) for one in few if one.split == "train") == {"a": 10, "b": 10}
    assert {one.path for one in few} < {one.path for one in everything}
    assert [one for one in few if one.split != "train"] == [one for one in everything if one.split != "train"]


def test_no_images_at_all(tmp_path):
    (tmp_path / "faces" / "train").mkdir(parents=True)
    (tmp_path / "faces" / "test").mkdir()
    with pytest.raises(ValueError, match="holds no images; check the path"):
        read(tmp_path)


def test_one_class(tmp_path):
    add_images(tmp_path / "faces", "train/a/1.png", "train/a/2.png", "test/a/1.png")
    with pytest.raises(ValueError, match="has only one class, 'a'; a task needs two or more"):
        read(tmp_path)


def test_class_only_in_test_and_long_lists_are_cut(split_folders):
    add_images(split_folders / "faces", *[f"test/new{number:02d}/1.png" for number in range(14)])
    with pytest.raises(ValueError, match=r"that train lacks: 'new00', .*'new09' and 4 more; add them") as caught:
        read(split_folders)
    assert "\n" not in str(caught.value)


def test_one_class_by_ratio_needs_two_images_to_test_and_three_to_validate(tmp_path):
    add_images(tmp_path / "faces", "a/1.png", "a/2.png", "b/1.png", "c/1.png", "c/2.png", "c/3.png")
    samples = read(tmp_path, split=RATIO).samples
    assert [sample.split for sample in samples if label_of(sample) == "b"] == ["train"]
    assert sorted(sample.split for sample in samples if label_of(sample) == "a") == ["test", "train"]
    assert [sample.split for sample in samples if label_of(sample) == "c"] == ["train", "validation", "test"]


def test_unknown_source(tmp_path):
    with pytest.raises(ValueError, match="unknown source 'ftp'; set `source` to image_folder, table, synthetic_faces"):
        read_source({"source": "ftp", "task": "kind"}, tmp_path)
