import pytest

from stages.report.sum_benchmarks import main
from stages.storage.benchmarks import read_benchmarks, sum_epochs

JOBS = {
    "compare_methods": 99,
    "data/heads/prepare_images": 4,
    "seed-0/initial/initialize_network": 6,
    "seed-0/mtl_sa/collect_metrics": 1,
    "seed-0/mtl_sa/epoch-001/train_epoch": 2,
    "seed-0/mtl_sa/epoch-001/extract_features.heads": 1,
    "seed-0/mtl_sa/epoch-001/extract_features.faces": 3,
    "seed-0/mtl_sa/epoch-002/pose/heads/fit_mixture": 5,
    "seed-1/mtl_sa/epoch-001/train_epoch": 4.5,
    "seed-1/stl/epoch-001/train_epoch": 0.5,
}
LATER = "seed-1/mtl_sa/epoch-003/train_epoch"
"""What an earlier, longer config has left."""


@pytest.fixture
def logs(tmp_path):
    for name, seconds in {**JOBS, LATER: 1000}.items():
        path = tmp_path / "logs" / f"{name}.benchmark.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t-\n")
    return tmp_path / "logs"


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_stages_and_methods_are_summed(logs, tmp_path, capsys):
    output = tmp_path / "timing.md"
    main(["--logs", str(logs), "--epochs", "2", "--output", str(output)])
    rows = cells(output.read_text())
    assert rows[2:9] == [
        ["train_epoch", "3", "7.0", "2.3", "26%"],
        ["initialize_network", "1", "6.0", "6.0", "22%"],
        ["fit_mixture", "1", "5.0", "5.0", "19%"],
        ["extract_features", "2", "4.0", "2.0", "15%"],
        ["prepare_images", "1", "4.0", "4.0", "15%"],
        ["collect_metrics", "1", "1.0", "1.0", "4%"],
        ["all", "9", "27.0", "", ""],
    ]
    # Seed 0 of MTL-SA took 11 s for two epochs, seed 1 4.5 s for one.
    assert rows[11:] == [
        ["mtl_sa", "2", "5.0", "train_epoch (42%)"],
        ["stl", "1", "0.5", "train_epoch (100%)"],
    ]
    assert "initialize_network" in capsys.readouterr().out


def test_epochs_are_averaged_by_run(logs):
    jobs = read_benchmarks(logs)
    assert sum_epochs(jobs, 2) == {("mtl_sa", 0): 5.5, ("mtl_sa", 1): 4.5, ("stl", 1): 0.5}
    assert sum_epochs(jobs, 3)["mtl_sa", 1] == (4.5 + 1000) / 2


def test_jobs_know_the_dataset_free_name_of_their_stage(logs):
    assert {job.stage for job in read_benchmarks(logs) if job.epoch == 1} == {"train_epoch", "extract_features"}


def test_missing_logs_are_said(tmp_path):
    main(["--logs", str(tmp_path / "none"), "--epochs", "2", "--output", str(tmp_path / "timing.md")])
    assert "No job left a benchmark file." in (tmp_path / "timing.md").read_text()


@pytest.mark.parametrize("text", ["", "x\n1\n", "s\nsoon\n"])
def test_a_file_without_seconds_is_named(logs, text):
    (logs / "data" / "broken.benchmark.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"broken\.benchmark\.tsv: has no seconds in its column 's'; delete it"):
        read_benchmarks(logs)
