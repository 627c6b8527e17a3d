"""What the pages print as runnable runs as printed: on a small copy of the default experiment, page by page."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, edit, find_blocks
from tests.workflow.conftest import PARTS

SMALLER = {
    r"train: \d+, validation: \d+, test: \d+": "train: 60, validation: 20, test: 20",
    r"(?m)^  epochs: \d+": "  epochs: 3",
    r"(?m)^  initial_epochs: \d+": "  initial_epochs: 1",
    r"components: 5": "components: 2",
}
"""The default experiment, but for its size."""
MOST_LINES = 30


def run(folder, *command, **options):
    """Run a command where the project's own modules and this Python come first; its output."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{folder}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "MPLBACKEND": "agg",
    }
    # As on the command line of a person, for whom warnings are no errors.
    for name in ("PYTHONWARNINGS", "MAKELEVEL"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert not done.returncode, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy of the project with a finished run of its default experiment, made small."""
    folder = tmp_path_factory.mktemp("docs")
    for part in (*PARTS, "docs", "snakemake_logger_plugin_epochs"):
        source, ignored = ROOT / part, shutil.ignore_patterns("*.pyc.*", "_build")
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder / part)
    # As installed from this copy.
    command = folder / "bin/mtl-sa"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m stages.command.console "$@"\n')
    command.chmod(0o755)
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    for pattern, small in SMALLER.items():
        text, n_found = re.subn(pattern, small, text)
        assert n_found, pattern
    config.write_text(text, encoding="utf-8")
    (folder / "run.log").write_text(run(folder, "snakemake", "--cores", "2", "--logger", "epochs"))
    return folder


def test_the_run_says_how_far_it_is_and_what_to_do_next(finished):
    lines = (finished / "run.log").read_text().splitlines()
    numbers = [int(line[5:9]) for line in lines if line.startswith("epoch")]
    assert sorted(numbers) == [0, 1, 2, 3]
    assert all(
        re.search(r"^epoch +\d of 3 .*expression +\d+\.\d%  pose +\d+\.\d%", line) for line in lines if "of 3" in line
    )
    place = lines.index("next:")
    assert lines[place - 2].startswith("* best on validation: epoch ")
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == ["snakemake", "snakemake", "mtl-sa"]
    # The stages' own lines are in the logs.
    assert not any("loss" in line for line in lines)
    assert "loss" in (finished / "logs/faces/seed-0/initial/initialize_network.log").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if find_blocks(page)], ids=lambda page: page.name)
def test_what_is_marked_runs_as_printed(finished, page, tmp_path):
    if page.name == "extend.md":
        # Edits the code: in a copy, with the times of the results.
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        finished = tmp_path
    for block in find_blocks(page):
        path = finished / block.object
        if block.action == "write":
            path.write_text(block.text, encoding="utf-8")
        elif block.action == "append":
            path.write_text(f"{path.read_text(encoding='utf-8')}\n{block.text}", encoding="utf-8")
        elif block.action == "edit":
            path.write_text(edit(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
        elif not block.object or importlib.util.find_spec(block.object):
            shell = {"sh": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-c")}[block.language]
            run(finished, *shell, block.text)


def test_examples_are_short():
    text = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    for title, section in re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        code = re.findall(
            r"^<!-- (write|append|edit): \S+ -->\n\n```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL
        )
        written = [
            line
            for action, block in code
            for line in block.splitlines()
            if line.strip() and (action != "edit" or line[0] == "+")
        ]
        assert code, title
        assert len(written) < MOST_LINES, f"{title}: {len(written)}"
