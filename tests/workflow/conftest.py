"""A copy of the workflow to run in, and Snakemake to run it with."""

import copy
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "environment.yml", "stages", "workflow", "experiments")


@dataclass(frozen=True)
class Project:
    """A folder that holds a copy of the workflow."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def snakemake(self, *options, check=True, config="tiny.yaml", environment=None):
        """Run Snakemake; standard output and error come back as one text."""
        command = [sys.executable, "-m", "snakemake"]
        if config:
            command += ["--configfile", config]
        environment = {**os.environ, "PYTHONWARNINGS": "default", **(environment or {})}
        done = subprocess.run(
            [*command, *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=environment,
        )
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(options)} failed:\n{done.stdout}")
        return done

    def plan(self, *options, config="tiny.yaml", **others):
        """Jobs that would run, by rule."""
        output = self.snakemake("--dry-run", "--cores", "2", *options, config=config, **others).stdout
        if "Nothing to be done" in output:
            return {}
        table = output.split("Job stats:")[1].split("total")[0]
        return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}

    def write_config(self, name, **changes):
        """Write the tiny experiment with dotted keys changed."""
        settings = copy.deepcopy(TINY)
        for key, value in changes.items():
            place = settings
            *sections, last = key.split("__")
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        (self.folder / name).write_text(yaml.safe_dump(settings, sort_keys=False))


TINY = {
    "experiment": "tiny",
    "datasets": {
        "snapshots": {
            "task": "expression",
            "source": "synthetic_faces",
            "style": "dark_noisy",
            "seed": 1,
            "samples": {"train": 60, "validation": 20, "test": 20},
        },
        "portraits": {
            "task": "pose",
            "source": "synthetic_faces",
            "style": "bright_clean",
            "seed": 2,
            "samples": {"train": 70, "validation": 20, "test": 20},
        },
    },
    "images": {"height": 16, "width": 16},
    "network": {"backbone": "vgg_tiny", "head_features": 16},
    "training": {"epochs": 2, "learning_rate": 0.001},
    "mixture": {"components": 2},
    "compute": {"threads": 1},
}


def copy_project(folder):
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            # Bytecode comes along, but not what another process is just about to write.
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy(source, folder / part)
    project = Project(folder)
    project.write_config("tiny.yaml")
    return project


@pytest.fixture
def project(tmp_path):
    """A fresh copy."""
    return copy_project(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy in which the tiny experiment has run on two cores; not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    (project.folder / "run.log").write_text(project.snakemake("--cores", "2").stdout)
    return project


@pytest.fixture
def ran(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)
