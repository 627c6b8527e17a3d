"""What poses as an artifact or as pretrained weights is refused in one line, and nothing in it is executed.

Names that shells and templates might take for more: test_places.py.
"""

import io
import os
import pickle
import zipfile

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stages.storage.checkpoints import load_network
from stages.storage.contracts import CHECKPOINT, WEIGHTS
from stages.storage.datasets import open_split
from stages.storage.files import read_json
from stages.storage.pretrained import load_pretrained
from stages.storage.tables import read_table
from stages.tools.show_artifact import main as show


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def pose_as_array(content):
    """A .npy file of Python objects."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def pose_as_torch(content):
    """What torch.save writes: an archive with a pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return file.getvalue()


@pytest.mark.parametrize("pose", [bytes, pose_as_array, pose_as_torch], ids=["pickle", "array", "torch"])
@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("network.safetensors", load_network),
        ("network.safetensors", lambda path: load_pretrained("vgg16", str(path))),
        ("weights.pth", lambda path: load_pretrained("vgg16", str(path))),
        ("weights.pt", lambda path: load_pretrained("vgg16", str(path))),
        ("weights.parquet", lambda path: read_table(path, WEIGHTS)),
        ("checkpoint.json", lambda path: read_json(path, CHECKPOINT)),
        ("train.npy", lambda path: show([str(path)])),
    ],
)
def test_a_pickle_is_refused_and_not_executed(tmp_path, pose, name, load):
    mark = tmp_path / "executed"
    # The protocol that torch writes.
    content = pickle.dumps(Payload(mark), protocol=2)
    path = tmp_path / name
    path.write_bytes(pose(content))
    with pytest.raises(ValueError, match=rf"{name}") as error:
        load(path)
    assert str(error.value).isprintable()
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "it would have"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # numpy leaves the archive open
@pytest.mark.parametrize("pose", [pose_as_array, pose_as_torch], ids=["array", "torch"])
def test_images_of_a_split_that_are_a_pickle_are_refused_and_not_executed(run, tmp_path, pose):
    images = tmp_path / "train.npy"
    images.write_bytes(pose(pickle.dumps(Payload(tmp_path / "executed"))))
    with pytest.raises(ValueError, match=r"train\.npy: is (damaged|no array) .* run snakemake again$"):
        open_split(str(run.faces.table), str(images))
    assert not (tmp_path / "executed").exists()


def test_weights_of_other_names_and_shapes_are_listed(run, tmp_path):
    source = run.checkpoint("initial")["network"]
    tensors = load_file(source)
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    names = sorted(name for name in tensors if name.startswith("heads."))
    missing, reshaped = names[0], names[1]
    tensors["strange"] = tensors.pop(missing)
    tensors[reshaped] = tensors[reshaped].flatten()[:1]
    path = tmp_path / "network.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"network\.safetensors: its weights do not fit") as error:
        load_network(path)
    assert f"({missing} is missing; strange is unknown; {reshaped} is float32 (1,), not" in str(error.value)
