import errno
import os

import pytest

from stages.storage.files import describe_inputs, digest_file, read_json, replace_when_complete, write_json


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replace_when_complete(path) as path_temporary:
            path_temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_new_file_replaces_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with replace_when_complete(path) as path_temporary:
        path_temporary.write_text("new")
        assert not path.exists()
        assert path_temporary.parent == path.parent
    assert path.read_text() == "new"


def test_digests_are_those_of_sha256sum_under_relative_paths(tmp_path):
    path = tmp_path / "in" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_file(path) == expected
    assert describe_inputs([path], tmp_path / "out" / "b.txt") == {"../in/a.txt": expected}


def test_broken_json_is_one_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json: is not valid JSON .* run snakemake again$"):
        read_json(path)
    write_json(path, {"κ": 0.6})
    assert read_json(path) == {"κ": 0.6}


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fill():
        with replace_when_complete(path) as path_temporary:
            path_temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"a\.txt: cannot be written: the disk is full; free some space"):
        fill()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
