import numpy as np
import pytest

from stages.epoch.weigh_distribution import main
from stages.storage.contracts import MIXTURE, TRANSPORT, ContractError
from stages.storage.tables import Provenance, read_table, write_table


def write_mixture(path, means, mixing_weights, domain):
    n = len(means)
    columns = {
        "component": np.arange(n, dtype=np.int32),
        "mixing_weight": np.array(mixing_weights),
        "mean": np.array(means, dtype=float),
        "covariance": np.ones((n, 2)),
    }
    metadata = {
        "domain": domain,
        "covariance_type": "diag",
        "converged": True,
        "iterations": 1,
        "log_likelihood": 0.0,
    }
    write_table(path, MIXTURE, columns, metadata=metadata, provenance=Provenance("test", {}, []))
    return str(path)


def test_distances_are_those_of_the_paper(tmp_path):
    unlabeled = write_mixture(tmp_path / "u.parquet", [[0, 0], [3, 4]], [0.5, 0.5], "unlabeled")
    labeled = write_mixture(tmp_path / "l.parquet", [[0, 0], [0, 2]], [0.25, 0.75], "labeled")
    output = tmp_path / "t.parquet"
    main(["--unlabeled", unlabeled, "--labeled", labeled, "--decay", "0.3", "--output", str(output)])
    table = read_table(output, TRANSPORT)
    np.testing.assert_allclose(table["component_distance"], [[0, 4], [25, 13]])
    np.testing.assert_allclose(table["flow"], [[0.25, 0.75]] * 2)
    np.testing.assert_allclose(table["transport_distance"], [3, 16])
    # The labeled domain's mean is (0, 1.5), its spread 0.75.
    np.testing.assert_allclose(table["mean_distance"], [2.25, 15.25])
    assert table.metadata["decay"] == 0.3
    assert set(table.metadata["inputs"]) == {"u.parquet", "l.parquet"}
    main(
        [
            "--unlabeled",
            unlabeled,
            "--labeled",
            labeled,
            "--ground-distance",
            "euclidean",
            "--output",
            str(output),
        ]
    )
    table = read_table(output, TRANSPORT)
    np.testing.assert_allclose(table["component_distance"], [[0, 2], [5, np.sqrt(13)]])
    np.testing.assert_allclose(table["mean_distance"], [1.5, np.sqrt(15.25)])


def test_bad_options_and_mixtures_leave_nothing(tmp_path):
    unlabeled = write_mixture(tmp_path / "u.parquet", [[0, 0]], [1.0], "unlabeled")
    labeled = write_mixture(tmp_path / "l.parquet", [[0, 0], [0, 2]], [0.25, 0.25], "labeled")
    output = tmp_path / "t.parquet"
    with pytest.raises(ValueError, match="mixing weights must sum to 1"):
        main(["--unlabeled", unlabeled, "--labeled", labeled, "--output", str(output)])
    with pytest.raises(ValueError, match="--decay must be 0 or more, not nan"):
        main(["--unlabeled", unlabeled, "--labeled", labeled, "--decay", "nan", "--output", str(output)])
    narrow = write_mixture(tmp_path / "n.parquet", [[0]], [1.0], "labeled")
    with pytest.raises(ValueError, match="means of different length"):
        main(["--unlabeled", unlabeled, "--labeled", narrow, "--output", str(output)])
    with pytest.raises(ContractError, match="mean must be finite"):
        write_mixture(tmp_path / "nan.parquet", [[0, np.nan]], [1.0], "labeled")
    assert not output.exists()
