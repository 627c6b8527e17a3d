"""Golden digests: what small runs of every kind of method contain, to the bit.

    python -m tests.workflow.golden

records them for the libraries and the processor of this machine, in `golden.json` beside this file. A
change that means to keep results leaves that file as it is; one that means to change them records it
anew and says why. Paths, metadata and wall times are no part of a digest, the content is.
"""

import hashlib
import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from tests.workflow.conftest import copy_project
from tests.workflow.test_pipeline import write_three_tasks

PATH_GOLDEN = Path(__file__).with_name("golden.json")
METHODS = ["mtl_sa", "mtl_wf", "only_mmd", "all_in_one", "stl", "lel_ltn", "dcn_ap", "sfsmr"]
TOLERANCE = 0.02
"""Of the norms, where other libraries or another processor round differently and training makes more of it."""
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pot", "faiss-cpu", "pillow", "pyarrow")


def run_experiment(name, folder):
    """Run two tasks of drawn faces or three tasks of small tables in a folder; returns that of the results."""
    project = copy_project(folder)
    RUNS[name](project)
    project.snakemake("--cores", "all", config="golden.yaml")
    return project.folder / "results/golden"


def check_digests(name, found):
    """To the bit on a machine whose digests were recorded, the norms of networks on any other."""
    records = json.loads(PATH_GOLDEN.read_text(encoding="utf-8"))
    machine = describe_machine()
    same = [record for record in records if record["machine"] == machine]
    record = (same or records)[0]["runs"][name]
    assert found.keys() == record.keys()
    if same:
        changed = [path for path, (digest, _) in record.items() if found[path][0] != digest]
        assert not changed, f"{len(changed)} artifacts of '{name}' changed, the first {changed[0]}"
    networks = {path: norm for path, (_, norm) in record.items() if path.endswith("network.safetensors")}
    assert len(networks) > 20
    for path, norm in networks.items():
        assert found[path][1] == pytest.approx(norm, rel=TOLERANCE), path


def write_two_tasks(project):
    project.write_config("golden.yaml", experiment="golden", methods=METHODS, training__epochs=3)


def write_three(project):
    write_three_tasks(project, experiment="golden", methods=METHODS, training__epochs=4)
    shutil.move(project.folder / "three.yaml", project.folder / "golden.yaml")


RUNS = {"two": write_two_tasks, "three": write_three}


def digest_columns(path):
    """Digest and norm of every column, tensor or score of an artifact, by name; None for other files."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        names = [name for name in table.column_names if not _came_later(table.schema.field(name))]
        return {name: (_digest(repr(table[name].to_pylist())), _norm(table[name])) for name in names}
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        return {
            name: (_digest(array.dtype.str, array.shape, array.tobytes()), float(np.linalg.norm(array)))
            for name, array in tensors.items()
        }
    if path.suffix == ".npy":
        array = np.load(path)
        return {"images": (_digest(array.shape, array.tobytes()), float(array.mean()))}
    return None


def _came_later(field):
    """Whether labels and features were recorded without this column: what is given, which their manifest says."""
    return field.name == "given" or (field.name.startswith("label_") and pa.types.is_int32(field.type))


def digest_results(results):
    """Digest and norm of every artifact below a results folder, by its path in it."""
    found = {}
    for path in sorted(results.rglob("*")):
        if path.is_file() and (columns := digest_columns(path)):
            digest = _digest(*(f"{name}={one}" for name, (one, _) in sorted(columns.items())))
            norm = float(np.sqrt(sum(value**2 for _, value in columns.values())))
            found[path.relative_to(results).as_posix()] = (digest[:16], float(f"{norm:.6g}"))
    return found


def describe_machine():
    """What decides the bits of a run beside the code and its settings."""
    import torch

    return {
        "versions": {name: version(name) for name in LIBRARIES},
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability(), _find_vendor()],
    }


def _find_vendor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")


def _digest(*parts):
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


def _norm(column):
    if pa.types.is_fixed_size_binary(column.type):
        values = np.frombuffer(b"".join(column.to_pylist()), dtype="<f4")
    elif pa.types.is_list(column.type):
        values = pa.compute.list_flatten(column).to_numpy()
    elif pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return 0.0
    else:
        values = pa.compute.fill_null(column, 0).to_numpy()
    return float(np.linalg.norm(values.astype(np.float64)))


def main():
    recorded = json.loads(PATH_GOLDEN.read_text(encoding="utf-8")) if PATH_GOLDEN.exists() else []
    machine = describe_machine()
    runs = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = digest_results(run_experiment(name, Path(folder)))
    recorded = [one for one in recorded if one["machine"] != machine] + [{"machine": machine, "runs": runs}]
    text = json.dumps(recorded, separators=(",", ":")).replace("],", "],\n")
    PATH_GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{PATH_GOLDEN}: {sum(map(len, runs.values()))} artifacts of {yaml.safe_dump(machine, sort_keys=False)}")


if __name__ == "__main__":
    sys.exit(main())
