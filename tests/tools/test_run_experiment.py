import sys

import pytest

from stages.tools import run_experiment
from stages.tools.run_experiment import BASE, write_command

BEGIN = [sys.executable, "-P", "-m", "snakemake"]
SNAKEFILE = ["--snakefile", str(BASE / "Snakefile")]
PROFILE = ["--profile", str(BASE / "workflow/profiles/default")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [*SNAKEFILE, "--cores", "all", *PROFILE]),
        (["mine.yaml", "-c4"], ["-c4", *SNAKEFILE, "--configfile", "mine.yaml", *PROFILE]),
        (["comparison", "--cores=2", "-n"], ["comparison", "--cores=2", "-n", *SNAKEFILE, *PROFILE]),
        (["-c1", "--", "file"], ["-c1", *SNAKEFILE, *PROFILE, "--", "file"]),
        (["mine.yaml", "--profile", "p"], ["--profile", "p", *SNAKEFILE, "--configfile", "mine.yaml"]),
    ],
)
def test_the_rest_is_snakemakes(tmp_path, monkeypatch, given, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert write_command(given) == BEGIN + expected


def test_what_is_not_there_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^mine\.yaml: does not exist; name the config of an experiment$"):
        write_command(["mine.yaml"])
    monkeypatch.setattr(run_experiment, "BASE", tmp_path)
    with pytest.raises(ValueError, match="holds no Snakefile: training needs the clone of the project"):
        write_command([])
