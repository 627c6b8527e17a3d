import numpy as np
import pytest

from stages.baselines.measure_discrepancy import main
from stages.core.discrepancy import estimate_bandwidth, measure_discrepancies
from stages.core.seeds import derive_seed
from stages.storage.contracts import DISCREPANCY, FEATURES, RESPONSIBILITIES
from stages.storage.tables import Provenance, read_table, write_table


def write_features(path, dataset, n_samples, dim=4, seed=0, label=-1):
    values = np.random.default_rng(seed).normal(size=(n_samples, dim)).astype(np.float32)
    write_table(
        path,
        FEATURES,
        {"sample_id": np.arange(n_samples), "features_pose": values, "label_pose": np.full(n_samples, label)},
        metadata={
            "dataset": dataset,
            "dim": dim,
            "dtype": "float32",
            "normalize": "none",
            "classes": {"pose": ["up", "down"]},
        },
        provenance=Provenance("extract_features", {}, []),
    )
    return values


def write_responsibilities(path, dataset, n_samples, first_id=0):
    values = np.random.default_rng(9).dirichlet(np.ones(3), n_samples)
    write_table(
        path,
        RESPONSIBILITIES,
        {"sample_id": np.arange(n_samples) + first_id, "responsibilities": values},
        metadata={"dataset": dataset},
        provenance=Provenance("fit_mixture", {}, []),
    )
    return values


@pytest.fixture
def domains(tmp_path):
    unlabeled = write_features(tmp_path / "faces.parquet", "faces", 1200, seed=1)
    labeled = write_features(tmp_path / "heads.parquet", "heads", 30, seed=2, label=0)
    return unlabeled, write_responsibilities(tmp_path / "responsibilities.parquet", "faces", 1200), labeled


def measure(folder, *changes):
    path_output = folder / "discrepancy.parquet"
    main(
        [
            *("--task", "pose", "--unlabeled", str(folder / "faces.parquet")),
            *("--labeled", str(folder / "heads.parquet")),
            *("--responsibilities", str(folder / "responsibilities.parquet"), "--decay", "0.3", "--seed", "4"),
            *("--epoch", "2", "--threads", "1", "--output", str(path_output), *changes),
        ]
    )
    return path_output


def test_discrepancies_are_those_of_the_core(domains, tmp_path):
    unlabeled, responsibilities, labeled = domains
    table = read_table(measure(tmp_path), DISCREPANCY)
    bandwidth = estimate_bandwidth(unlabeled, labeled, derive_seed(4, 2, "bandwidth for pose"))
    expected = measure_discrepancies(unlabeled, responsibilities, labeled, bandwidth)
    assert table["component"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(table["kernel_discrepancy"], expected, rtol=1e-12)
    assert table.metadata["bandwidth"] == bandwidth
    assert table.metadata["decay"] == 0.3
    assert table.metadata["parameters"] == {"task": "pose", "decay": 0.3, "seed": 4, "epoch": 2}
    assert set(table.metadata["inputs"]) == {"faces.parquet", "heads.parquet", "responsibilities.parquet"}


def test_seed_and_epoch_decide_the_samples_behind_the_bandwidth(domains, tmp_path):
    first = measure(tmp_path).read_bytes()
    assert measure(tmp_path).read_bytes() == first
    bandwidths = {
        read_table(measure(tmp_path, *change), DISCREPANCY).metadata["bandwidth"]
        for change in ((), ("--seed", "5"), ("--epoch", "3"))
    }
    assert len(bandwidths) == 3


@pytest.mark.parametrize(("dataset", "first_id"), [("heads", 0), ("faces", 1)])
def test_responsibilities_of_other_samples_are_refused(domains, tmp_path, dataset, first_id):
    write_responsibilities(tmp_path / "responsibilities.parquet", dataset, 1200, first_id)
    with pytest.raises(ValueError, match=r"responsibilities\.parquet: its samples are not those of the features"):
        measure(tmp_path)
    assert not (tmp_path / "discrepancy.parquet").exists()


def test_bad_options_and_features_leave_nothing(domains, tmp_path):
    for decay in ("-1", "nan", "inf"):
        with pytest.raises(ValueError, match=f"--decay must be 0 or more, not {float(decay)}"):
            measure(tmp_path, "--decay", decay)
    with pytest.raises(ValueError, match=r"faces\.parquet: has no features of task 'age'; its tasks are pose"):
        measure(tmp_path, "--task", "age")
    write_features(tmp_path / "heads.parquet", "heads", 30, dim=3, label=0)
    with pytest.raises(ValueError, match=r"heads\.parquet: unlabeled features have 4 dimensions, labeled ones 3"):
        measure(tmp_path)
    assert not (tmp_path / "discrepancy.parquet").exists()
