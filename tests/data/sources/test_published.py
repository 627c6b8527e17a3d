from pathlib import Path
from typing import get_args

import pytest

from stages.data.sources.base import Sample, select_samples
from stages.data.sources.published import (
    IncompleteError,
    check_images,
    find_file,
    note_left_out,
    read_lines,
)
from stages.data.sources.registry import list_readers, read_source
from stages.settings.checks import EXPERIMENT, check_keys
from stages.settings.errors import SettingsError


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("aflw", r"aflw\.sqlite"),
        ("deepfashion", r"Anno/list_category_img\.txt or Anno_coarse/list_category_img\.txt"),
        ("expw", r"label/label\.lst"),
        ("ferplus", r"fer2013new\.csv"),
        ("peta", r"archive/Label\.txt in '3DPeS', .*'i-LID'"),
        ("sfew", r"a folder Train"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_dataset_is_one_line_with_what_where_and_whence(tmp_path, source, what, exists):
    if exists:
        (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=rf"/data: lacks {what}; get .* from its publisher \(http.*\)") as caught:
        read_source({"source": source, "task": "kind", "path": "data"}, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/data: ")
    assert str(caught.value).endswith("and unpack all of it, or correct `path` or `data_root`")
    assert "\n" not in str(caught.value)


def test_the_settings_know_every_reader():
    for name, reader in list_readers().items():
        assert get_args(reader.settings.model_fields["source"].annotation) == (name,)


def test_of_alternative_files_the_first_that_exists_is_taken(tmp_path):
    (tmp_path / "b").touch()
    assert find_file(tmp_path, "a", "b") == tmp_path / "b"
    (tmp_path / "a").touch()
    assert find_file(tmp_path, "a", "b") == tmp_path / "a"


def test_many_missing_images_are_an_error_and_few_are_left_to_the_decoder(tmp_path):
    names = [f"{number:03d}.png" for number in range(200)]
    for name in names[2:]:
        (tmp_path / name).touch()
    check_images(tmp_path, names, Path("list.txt"))
    (tmp_path / "100.png").unlink()
    message = r"lacks 3 of the 200 images labelled in list\.txt, such as '000\.png'$"
    with pytest.raises(IncompleteError, match=message):
        check_images(tmp_path, names, Path("list.txt"))


def test_lines_are_numbered_and_only_the_first_field_may_hold_blanks(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf2\r\nname id\r\n a b  1 \r\n\r\nc\t2\r\n")
    assert list(read_lines(path, ("name", "id"), n_header=2)) == [
        (f"{path}, line 3", ["a b", "1"]),
        (f"{path}, line 5", ["c", "2"]),
    ]


def test_a_line_cut_short_and_a_file_that_is_no_text_are_named(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a 1 2\nb 1\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2: has 2 of the 3 fields 'name', 'x', 'y'; unpack or"):
        list(read_lines(path, ("name", "x", "y")))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt: is not UTF-8 text; unpack or download it again"):
        list(read_lines(path, ("name",)))


def test_splits_follow_the_settings_and_not_the_order_of_the_lines():
    samples = [Sample(f"{number:02d}", {"letter": "ab"[number % 2]}, "train") for number in range(60)]

    def split(samples, **settings):
        settings = {"task": "letter", **settings}
        divided = select_samples(samples, settings, Path("x"), test=1 / 6, validation=1 / 5)
        return {sample.path: sample.split for sample in divided}

    def count(splits):
        return [list(splits.values()).count(name) for name in ("train", "validation", "test")]

    default = split(samples)
    assert count(default) == [40, 10, 10]
    assert split(samples[::-1]) == default
    assert split(samples, split={"test": 1 / 6, "seed": 0}, validation=0.2, seed=0) == default
    assert split(samples, split={"test": 1 / 6, "seed": 1}) != default
    assert count(split(samples, split={"test": 0.5}, validation=0.2)) == [24, 6, 30]


def test_only_what_was_left_out_is_noted(caplog):
    note_left_out(Path("x.csv"), {"rows": 0})
    assert not caplog.messages
    note_left_out(Path("x.csv"), {"rows": 3, "images": 0, "faces": 1})
    assert caplog.messages == ["x.csv: left out 3 rows, 1 faces"]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"source": "ferplus", "validation": 0.1}, r"x\.validation: unknown key"),
        ({"source": "sfew", "split": {"test": 0.2}}, r"x\.split: unknown key"),
        ({"source": "peta", "margin": 0.1}, r"x\.margin: unknown key"),
        ({"source": "expw", "margin": -0.1}, r"x\.margin: -0\.1 is too small; the least is 0"),
        ({"source": "expw", "split": "folders"}, r"x\.split: 'folders' is not of type object"),
        ({"source": "aflw", "yaw_edges": [-30, 30]}, r"x\.yaw_edges: is too short; at least 4 needed"),
        ({"source": "deepfashion", "crop": "no"}, r"x\.crop: 'no' is not of type boolean"),
    ],
)
def test_a_setting_that_a_source_has_no_use_for_is_refused(dataset, message):
    other = {"task": "b", "source": "sfew", "path": "y"}
    settings = {"experiment": "e", "datasets": {"x": {"task": "a", "path": "x", **dataset}, "y": other}}
    with pytest.raises(SettingsError, match=message):
        check_keys(settings, EXPERIMENT, "config.yaml")
