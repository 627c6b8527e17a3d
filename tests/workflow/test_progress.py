"""What a person sees while a run is under way: a line for each epoch, errors in one line, and what to do next."""

import json
import logging
import os
import pkgutil
from types import SimpleNamespace

import pytest
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from workflow.progress import SILENCE, EpochHandler, Progress, find_error, name_run

RUN = "results/tiny/seed-0/mtl_sa"


def describe(epoch, trained, accuracy, validation):
    tasks = {"pose": {"accuracy": accuracy}}
    return {
        "epoch": epoch,
        "trained_dataset": trained,
        "tasks": tasks,
        "validation": {"pose": {"accuracy": validation}},
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two of three epochs of a run, and what it needs beside them; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SILENCE, "")
    monkeypatch.delenv("MAKELEVEL", raising=False)
    epochs = {"initial": (0, None, 0.5, 0.4), "mtl_sa/epoch-001": (1, "heads", 0.625, 0.6)}
    for place, content in {**epochs, "mtl_sa/epoch-002": (2, "faces", 0.75, 0.5)}.items():
        path = tmp_path / "results/tiny/seed-0" / place / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(describe(*content)))
    plan = {
        "command": "snakemake --cores all --configfile my.yaml",
        "artifacts": [[f"{RUN}/epoch-003/metrics.json", "evaluate_network", "all", False, ""]],
    }
    (tmp_path / "results/tiny/plan.json").write_text(json.dumps(plan))
    (tmp_path / "collect.log").write_text(
        "epoch …\n    0  …\n* best on validation: epoch 1 (pose 62.5% on test)\nEnd.\n"
    )
    (tmp_path / "train.log").write_text("Traceback of a stage\ntrain_epoch: error: what.npy: is damaged\nlast words\n")
    return tmp_path


@pytest.fixture
def handler(folder):
    return EpochHandler(SimpleNamespace(verbose=False, dryrun=False, quiet={Quietness.HOST}), None)


def say(handler, event=None, level=logging.INFO, message="", **about):
    record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(record).update({"event": event, **about})
    handler.emit(record)


def run_job(handler, number, rule, output, log="collect.log"):
    say(handler, LogEvent.JOB_INFO, jobid=number, rule_name=rule, output=output, log=[log])
    say(handler, LogEvent.JOB_FINISHED, job_id=number)


def test_snakemake_finds_it():
    assert "snakemake_logger_plugin_epochs" in {found.name for found in pkgutil.iter_modules() if found.ispkg}


def test_a_line_for_each_epoch_and_the_result_at_the_end(handler, capsys):
    say(handler, LogEvent.RUN_INFO, stats={"evaluate_network": 4, "collect_metrics": 1, "total": 20})
    run_job(handler, 1, "evaluate_network", ["results/tiny/seed-0/initial/metrics.json"])
    run_job(handler, 2, "extract_features", [f"{RUN}/epoch-001/features/heads.parquet"])
    run_job(handler, 3, "evaluate_network", [f"{RUN}/epoch-001/metrics.json"])
    run_job(handler, 4, "evaluate_network", [f"{RUN}/epoch-002/metrics.json"])
    run_job(handler, 5, "collect_metrics", [f"{RUN}/metrics.parquet", f"{RUN}/network.safetensors"])
    handler.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch   0 of 3  all, jointly      pose  50.0% *"
    assert lines[1].startswith("epoch   1 of 3  heads             pose  62.5% *  about 1 s left")
    # The best on test is not the best on validation.
    assert lines[2].startswith("epoch   2 of 3  faces             pose  75.0%    about 1 s left")
    assert lines[3:6] == ["* best on validation: epoch 1 (pose 62.5% on test)", "End.", "next:"]
    report, explorer, predict = lines[6:]
    assert report.split(" && ")[0] == "  snakemake report --cores all --configfile my.yaml"
    assert explorer == "  snakemake explorer --cores all --configfile my.yaml"
    assert predict.startswith(f"  mtl-sa predict --network {RUN}/network.safetensors --images ")


def test_of_several_runs_lines_say_which(handler, capsys):
    say(handler, LogEvent.RUN_INFO, stats={"evaluate_network": 9, "collect_metrics": 2})
    run_job(handler, 1, "evaluate_network", [f"{RUN}/epoch-001/metrics.json"])
    run_job(handler, 2, "collect_metrics", [f"{RUN}/metrics.parquet", f"{RUN}/network.safetensors"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mtl_sa, seed 0        epoch   1 of 3")
    assert lines[1].startswith("mtl_sa, seed 0: * best on validation")
    assert name_run("results/tiny/seed-3/initial/metrics.json") == "seed 3"


def test_the_time_left_is_that_of_the_epochs_so_far(folder):
    progress = Progress(n_epochs=100)
    path = f"{RUN}/epoch-001/metrics.json"
    # Joint training, before the first, is no measure.
    lines = [progress.describe_epoch(path, now) for now in (500, 510, 530)]
    assert not lines[0].endswith("left")
    assert lines[1].endswith("about 16 min left")
    assert lines[2].endswith(f"about {97 * 15 / 60:.0f} min left")
    progress.n_epochs = 3
    assert progress.estimate_rest() == ""


def test_a_failed_job_says_its_one_line_once_and_where_its_log_is(handler, capsys):
    error = {"jobid": 7, "rule_name": "train_epoch", "log": ["train.log"], "output": []}
    say(handler, None, logging.ERROR, "RuleException:\nCalledProcessError in file …: Command 'set -euo …'")
    say(handler, LogEvent.JOB_ERROR, logging.ERROR, **error)
    say(handler, LogEvent.JOB_ERROR, logging.ERROR, **error)
    say(handler, None, logging.ERROR, "Exiting because a job execution failed.")
    handler.close()
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        "train_epoch: error: what.npy: is damaged",
        "  all that train_epoch said: train.log",
        "Exiting because a job execution failed.",
    ]
    assert find_error("nowhere.log") is None


def test_nothing_to_do_is_said_and_chatter_is_not(handler, capsys):
    say(handler, message="Building DAG of jobs...")
    say(handler, message="Nothing to be done (all requested files are present and up to date).")
    assert capsys.readouterr().out.splitlines() == [
        "Nothing to be done (all requested files are present and up to date)."
    ]


@pytest.mark.parametrize("changed", [{"verbose": True}, {"dryrun": True}, {"quiet": {Quietness.PROGRESS}}])
def test_the_log_comes_back(folder, monkeypatch, changed, capsys):
    monkeypatch.delenv(SILENCE)
    settings = SimpleNamespace(**{"verbose": False, "dryrun": False, "quiet": None} | changed)
    handler = EpochHandler(settings, None)
    assert not handler.has_filter
    say(handler, message="Building DAG of jobs...")
    assert capsys.readouterr().err == "Building DAG of jobs...\n"
    assert SILENCE not in os.environ


def test_a_metrics_file_that_is_not_there_stops_nothing(handler, capsys):
    run_job(handler, 1, "evaluate_network", [f"{RUN}/epoch-009/metrics.json"])
    run_job(handler, 2, "evaluate_network", [f"{RUN}/epoch-001/metrics.json"])
    assert "epoch   1 of 3" in capsys.readouterr().out
