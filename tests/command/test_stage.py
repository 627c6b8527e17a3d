import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.command.console import find_stages
from stages.command.stage import _LineStream, show_progress

ROOT = Path(__file__).parents[2]
STAGES = sorted(module.removeprefix("stages.") for module in find_stages().values())


def call(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def test_an_error_is_one_line_without_a_traceback():
    done = call("stages.tools.verify_artifacts", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("verify_artifacts: error: nowhere: holds no plan.json, so that nobody knows what")
    assert done.stderr.count("\n") == 1
    assert "Traceback" in call("stages.tools.verify_artifacts", "nowhere", STAGE_TRACEBACK="1").stderr


def test_an_interrupt_is_one_line_too():
    program = "from stages.command.stage import run_stage\ndef main(): raise KeyboardInterrupt\nrun_stage(main)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "-c: interrupted\n")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage):
    done = call(f"stages.{stage}", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m stages.{stage} ")
    docstring = (ROOT / "stages" / f"{stage.replace('.', '/')}.py").read_text().split('"""')[1].splitlines()[0]
    assert docstring[:40] in " ".join(done.stdout.split())


def test_what_a_stage_prints_arrives_although_it_leaves_at_once():
    done = call(
        "stages.report.audit_weights", "--task", "x", "--weights-table", "no", "--audit-table", "no", "--output", "no"
    )
    assert done.stderr == "audit_weights: error: no: does not exist; run snakemake for it first\n"


def test_a_stage_says_its_own_peak_memory_where_it_is_asked_to():
    """Not that of whoever started it: a fork of a large process begins with what it shares, an exec with nothing."""
    code = "from stages.command.stage import run_stage\nrun_stage(lambda: len(bytearray(200_000_000)) and None)"
    burden = np.ones(60_000_000)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "STAGE_MEMORY": "1"},
    )
    peak = float(re.fullmatch(r"-c: peak memory (\d+) MB\n", done.stdout)[1])
    assert burden.nbytes == 480_000_000
    assert 200 < peak < 300
    silent = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert silent.stdout == ""


def test_short_work_shows_no_bar_and_long_work_one_line_per_state(capsys):
    assert list(show_progress(range(3), description="x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    stream = io.StringIO()
    lines = _LineStream(stream)
    for text in ("\r 50%|#####", "\r100%|##########", "\r          \r", "\n"):
        lines.write(text)
    assert stream.getvalue() == "50%|#####\n100%|##########\n"


def test_a_mistake_of_the_program_keeps_its_traceback(tmp_path):
    """Only what is the user's to mend is one line."""
    code = "from stages.command.stage import run_stage\nrun_stage(lambda: int('x'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: invalid literal" in done.stderr
