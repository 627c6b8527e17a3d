import errno
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from stages.storage.contracts import Document
from stages.storage.files import describe_inputs, digest_file, read_json, replace_when_complete, write_json
from stages.storage.provenance import Provenance

NOTE = Document("note", ("κ",), version=3)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("reason"), "^reason$"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            r"a\.txt: cannot be written: the disk is full; free some space",
        ),
    ],
)
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error, message):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replace_when_complete(path) as path_temporary:
            path_temporary.write_text("half")
            raise error

    with pytest.raises(type(error), match=message):
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


def test_what_is_written_as_json_is_read_with_its_identity(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, NOTE, {"κ": 0.6}, Provenance("test", {"λ": 1}, [], device="cpu", precision="float32"))
    found = read_json(path, NOTE)
    assert (found["κ"], found["contract"]) == (0.6, {"name": "note", "version": 3})
    assert (found["stage"], found["parameters"], found["inputs"]) == ("test", {"λ": 1}, {})
    assert (found["device"], found["precision"]) == ("cpu", "float32")
    assert found["versions"]["pyarrow"] == version("pyarrow")
    assert not set(found["versions"]) & {"faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs"}


def test_broken_and_strange_json_is_one_line(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"a\.json: does not exist; run snakemake for it first$"):
        read_json(path, NOTE)
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json: is not valid JSON .* run snakemake again$"):
        read_json(path, NOTE)
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"was written by an earlier version of this project; delete it and run"):
        read_json(path, NOTE)
    with pytest.raises(ValueError, match=r"lacks the keys \['κ'\]"):
        write_json(path, NOTE, {"k": 1}, Provenance("test", {}, []))
    write_json(path, NOTE, {"κ": 1}, Provenance("test", {}, []))
    for other, message in (
        (Document("letter", ()), "is of the kind .*'note'.*, not letter of version 1"),
        (Document("note", ("κ",), version=4), "is of the kind .*'version': 3}, not note of version 4"),
    ):
        with pytest.raises(ValueError, match=rf"a\.json: {message}; delete it and run snakemake again"):
            read_json(path, other)


def test_every_flipped_byte_of_a_json_file_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, NOTE, {"κ": "x" * 50}, Provenance("test", {}, []))
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ValueError, match=r"a\.json: .* run snakemake again$"):
            read_json(path, NOTE)


def test_texts_that_look_like_a_seal_are_none(tmp_path):
    path = tmp_path / "a.json"
    seal = f'"digest": "sha256:{"0" * 64}"'
    write_json(path, NOTE, {"κ": {"digest": f"sha256:{'0' * 64}", seal: seal}}, Provenance("test", {}, []))
    assert read_json(path, NOTE)["κ"][seal] == seal
    # The seal is what sha256sum says of the file with zeros in its place.
    sealed = json.loads(path.read_text())["digest"]
    path.write_text(path.read_text().replace(sealed, f"sha256:{'0' * 64}"))
    assert digest_file(path) == sealed


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    host = platform.node()
    abandoned = tmp_path / f".a.txt.{host}.{dead.pid}.tmp"
    kept = [f".a.txt.{host}.{os.getppid()}.tmp", f".a.txt.other.{dead.pid}.tmp", f".b.txt.{host}.{dead.pid}.tmp"]
    for path in (abandoned, *(tmp_path / name for name in kept)):
        path.write_text("half")
    with replace_when_complete(tmp_path / "a.txt") as path_temporary:
        path_temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.txt"])
