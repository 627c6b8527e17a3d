"""What identifies the code behind a result, and the content of a file."""

import hashlib
import json
import time

import pytest

from tests.workflow.conftest import ROOT
from workflow.identity import Code, FileCache, digest_contents, find_device, read_module

STAGE = '''
"""What it does."""
from stages.core.numbers import add, UNUSED
from stages.core import tools

def main(argv=None):
    if argv is None:
        raise ValueError(f"nothing to do {tools.explain()}")
    print("started")
    return add(argv) + tools.LIMIT

def unused():
    return 0
'''
NUMBERS = """
import numpy as np
from stages.core.tools import explain
UNUSED = 3
def add(values):
    return np.sum(values) + _ONE
_ONE = 1
def other():
    return explain()
"""
TOOLS = """
import scipy
LIMIT = 5
def explain():
    return scipy.__version__
"""


@pytest.fixture
def base(tmp_path):
    (tmp_path / "stages/core").mkdir(parents=True)
    (tmp_path / "stages/stage.py").write_text(STAGE)
    (tmp_path / "stages/core/numbers.py").write_text(NUMBERS)
    (tmp_path / "stages/core/tools.py").write_text(TOOLS)
    return tmp_path


def edit(base, module, old, new):
    path = base / "stages" / module
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage.py", "What it does", "What it is"),
        ("stage.py", "nothing to do", "no work"),
        ("stage.py", "started", "begun"),
        ("stage.py", "    return 0", "    return 1"),
        ("stage.py", "def main(argv=None):\n", "def main(argv=None):\n    # why\n\n"),
        ("stage.py", "def main(argv=None):\n", 'def main(argv=None):\n    """Do it."""\n'),
        ("core/numbers.py", "UNUSED = 3", "UNUSED = 4"),
        ("core/numbers.py", "return explain()", "return 2"),
        ("core/tools.py", "scipy.__version__", "'x'"),
    ],
)
def test_what_decides_nothing_changes_nothing(base, module, old, new):
    before = Code(base).digest("stage")
    edit(base, module, old, new)
    assert Code(base).digest("stage") == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage.py", "add(argv) +", "add(argv) -"),
        ("stage.py", "raise ValueError(", "raise OSError("),
        ("core/numbers.py", "_ONE = 1", "_ONE = 2"),
        ("core/numbers.py", "np.sum", "np.mean"),
        ("core/numbers.py", "UNUSED = 3", "UNUSED = 3\nnp.seterr(all='raise')"),
        ("core/tools.py", "LIMIT = 5", "LIMIT = 6"),
    ],
)
def test_what_decides_the_result_changes_the_digest(base, module, old, new):
    before = Code(base).digest("stage")
    edit(base, module, old, new)
    assert Code(base).digest("stage") != before


def test_a_function_that_is_found_by_name_only_can_be_added(base):
    code = Code(base)
    assert code.digest("stage", "stages.core.numbers.other") != code.digest("stage")


def test_libraries_are_those_behind_the_code_in_use(base):
    assert list(Code(base).libraries("stage")) == ["numpy"]
    assert list(Code(base).libraries("stage", "stages.core.numbers.other")) == ["numpy", "scipy"]
    real = Code(ROOT).libraries("epoch.weigh_distribution")
    assert {"ot", "numpy"} <= set(real)
    assert "torch" not in real
    assert Code(ROOT).libraries("epoch.train_epoch")["torch"].startswith("torch 2.")


def test_what_was_read_is_kept_until_the_module_changes(base, tmp_path):
    path = tmp_path / "cache/code.json"
    code = Code(base, path)
    before = code.digest("stage")
    code.save()
    assert Code(base, path).digest("stage") == before
    edit(base, "core/numbers.py", "_ONE = 1", "_ONE = 23")
    assert Code(base, path).digest("stage") == Code(base).digest("stage") != before
    path.write_text("no JSON")
    assert Code(base, path).digest("stage") == Code(base).digest("stage")


@pytest.mark.timed
def test_the_digests_of_all_stages_cost_next_to_nothing(tmp_path):
    modules = (ROOT / "stages").glob("*/*.py")
    stages = [f"{path.parent.name}.{path.stem}" for path in modules if "def main" in path.read_text()]
    assert len(stages) > 15
    code = Code(ROOT, tmp_path / "code.json")
    for stage in stages:
        code.digest(stage)
    code.save()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        code = Code(ROOT, tmp_path / "code.json")
        for stage in stages:
            code.digest(stage)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_the_form_of_code_does_not_depend_on_defaults_of_the_syntax_tree():
    definitions = read_module("def f(x):\n    return None\n").definitions
    form = "FunctionDef(name='f',args=arguments(args=[arg(arg='x')]),body=[Return(value=Constant())])"
    assert definitions == {"f": hashlib.sha256(form.encode()).hexdigest()}


def test_variables_of_a_comprehension_are_no_names_of_the_module():
    assert list(read_module("TABLE = [row for row in range(3)]").definitions) == ["TABLE"]


def test_contents_are_read_again_only_where_files_changed(tmp_path):
    path, cache = tmp_path / "labels.csv", tmp_path / "contents.json"
    path.write_text("a")
    files = FileCache(cache)
    first = digest_contents([path], files)
    files.save()
    assert json.loads(cache.read_text())[str(path)][1] == first[0]
    files = FileCache(cache)
    files.keep(path, "remembered")
    assert digest_contents([path], files) == ["remembered"]
    path.write_text("bc")
    assert digest_contents([path], files) not in (["remembered"], first)


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    files = FileCache(tmp_path / "file/cache.json")
    files.keep(tmp_path / "file", 1)
    files.save()


def test_the_device_is_a_kind_and_not_a_wish():
    assert find_device("cpu", {}) == "cpu"
    assert find_device("cuda", {}) == "cuda"
    assert find_device("auto", {"CUDA_VISIBLE_DEVICES": ""}) == "cpu"
