import numpy as np
import pytest

from stages.storage.contracts import FEATURES, MIXTURE, RESPONSIBILITIES
from stages.storage.tables import read_table


@pytest.fixture(scope="module")
def features(run):
    return run.extract("initial", "mixture")


def fit(folder, features, *options):
    from stages.epoch.fit_mixture import main

    main(
        [
            *("--task", "pose", "--unlabeled", str(features["faces"]), "--labeled", str(features["heads"])),
            *("--epoch", "1", "--threads", "1", "--output-unlabeled", str(folder / "unlabeled.parquet")),
            *("--output-labeled", str(folder / "labeled.parquet")),
            *("--output-responsibilities", str(folder / "responsibilities.parquet"), *options),
        ]
    )


def test_mixtures_and_responsibilities_belong_together(features, tmp_path):
    fit(tmp_path, features, "--components", "3")
    mixture = read_table(tmp_path / "unlabeled.parquet", MIXTURE)
    responsibilities = read_table(tmp_path / "responsibilities.parquet", RESPONSIBILITIES)["responsibilities"]
    unlabeled = read_table(features["faces"], FEATURES)["features_pose"]
    assert mixture["mean"].shape == (3, 6)
    assert mixture["mixing_weight"].sum() == pytest.approx(1)
    assert responsibilities.shape == (30, 3)
    # At an EM fixed point the means are the responsibilities' means of the features.
    means = (responsibilities.T @ unlabeled) / responsibilities.sum(0)[:, None]
    np.testing.assert_allclose(mixture["mean"], means, atol=1e-2)
    assert mixture.metadata["domain"] == "unlabeled"
    assert mixture.metadata["converged"] is True
    assert read_table(tmp_path / "labeled.parquet", MIXTURE).metadata["domain"] == "labeled"


def test_seed_and_epoch_decide_the_start(features, tmp_path):
    for name, options in (("a", ()), ("b", ()), ("c", ("--seed", "5"))):
        (tmp_path / name).mkdir()
        fit(tmp_path / name, features, "--components", "4", *options)
    content = {name: (tmp_path / name / "responsibilities.parquet").read_bytes() for name in "abc"}
    assert content["a"] == content["b"]
    assert content["a"] != content["c"]


def test_no_more_components_than_samples(features, tmp_path, capsys):
    fit(tmp_path, features, "--components", "31")
    assert "fit_mixture: 30 components, as many as 'pose' has unlabeled samples" in capsys.readouterr().out
    responsibilities = read_table(tmp_path / "responsibilities.parquet", RESPONSIBILITIES)["responsibilities"]
    assert responsibilities.shape == (30, 30)
    assert (responsibilities.max(axis=1) > 0.5).all()


def test_a_fit_that_ended_early_is_said_and_recorded(features, tmp_path, capsys):
    fit(tmp_path, features, "--components", "5", "--max-iterations", "1", "--tolerance", "1e-12")
    assert "did not converge in 1 iterations; raise mixture.max_iterations" in capsys.readouterr().out
    assert read_table(tmp_path / "unlabeled.parquet", MIXTURE).metadata["converged"] is False
