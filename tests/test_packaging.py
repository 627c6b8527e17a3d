"""The three lists of dependencies agree, and name no index."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from stages.settings.checks import METHODS_FILE
from stages.settings.shipped import INSTALLED
from stages.tools.describe_data import TEMPLATE

ROOT = Path(__file__).parents[1]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIGURATION["project"]
CONDA_NAMES = {"torch": "pytorch"}


def read_ranges(lines):
    return {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}


def read_pins(name):
    pins = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9_.-]+)==([^ ;]+)", line):
            pins.setdefault(match[1], []).append(match[2])
    return pins


def test_conda_users_get_the_ranges_of_pyproject_and_faiss_for_gpus():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = read_ranges(environment["dependencies"])
    assert conda.pop("python") == PROJECT["requires-python"]
    expected = read_ranges([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["gpu"]])
    assert conda == {CONDA_NAMES.get(name, name): ranges for name, ranges in expected.items()}
    assert "faiss-gpu" in conda


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_lies_in_its_range_and_every_dependency_is_pinned(name):
    pins = read_pins(name)
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"]]
    if name == "requirements-dev.txt":
        wanted += PROJECT["optional-dependencies"]["dev"]
    for package, ranges in read_ranges(wanted).items():
        assert package in pins, f"{name} does not pin {package}"
        for version in pins[package]:
            assert version in ranges, f"{name} pins {package} {version}, outside of {ranges}"


def test_the_two_files_of_pins_agree():
    base, dev = read_pins("requirements.txt"), read_pins("requirements-dev.txt")
    assert {name: dev.get(name) for name in base} == base


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_pins_have_hashes_and_name_no_index(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_two_builds_of_faiss_are_never_installed_together():
    extras = PROJECT["optional-dependencies"]
    assert [Requirement(line).name for line in extras["cpu"]] == ["faiss-cpu"]
    assert [Requirement(line).name for line in extras["gpu"]] == ["faiss-gpu"]
    assert not any("faiss" in line for line in PROJECT["dependencies"])
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert "faiss-gpu" not in read_pins(name)


def test_templates_and_pages_are_shipped():
    shipped = CONFIGURATION["tool"]["setuptools"]["package-data"]
    files = [path for path in (ROOT / "stages").rglob("*") if path.suffix in (".jinja", ".html", ".css", ".js")]
    assert {path.suffix for path in files} == {".jinja", ".html", ".css", ".js"}
    for path in files:
        folder = next(parent for parent in path.parents if (parent / "__init__.py").exists())
        package = ".".join(folder.relative_to(ROOT).parts)
        assert any(path in folder.glob(pattern) for pattern in shipped[package]), path


def test_files_that_commands_read_are_shipped():
    data = CONFIGURATION["tool"]["setuptools"]["data-files"]
    shipped = {f"{folder}/{Path(name).name}": name for folder, names in data.items() for name in names}
    for name in (TEMPLATE, METHODS_FILE):
        assert shipped[f"{INSTALLED}/{name}"] == name


def test_the_set_up_brings_what_builds_the_command_offline():
    pins = read_pins("requirements.txt")
    for package, ranges in read_ranges(CONFIGURATION["build-system"]["requires"]).items():
        assert all(version in ranges for version in pins[package])


def test_all_packages_are_shipped():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "stages").rglob("__init__.py")}
    assert set(CONFIGURATION["tool"]["setuptools"]["packages"]) == found
