import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.command.warm_start import KINDS, make_server_folder
from workflow.launch import start_server

ROOT = Path(__file__).parents[2]
MODULES = (
    *("__init__.py", "command/__init__.py", "command/stage.py", "command/warm_start.py"),
    *("core/__init__.py", "core/errors.py"),
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are started on Linux only")


@contextmanager
def running_server(folder, project, kind="statistics"):
    """A server that ends with this block at the latest."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    with start_server(str(folder), kind, cwd=project, env=environment) as server:
        try:
            yield server
        finally:
            server.stdin.close()


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process):
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@dataclass(frozen=True)
class Project:
    """A copy of the project in which the test writes the stage `collect_metrics`."""

    folder: Path
    sockets: Path
    server: subprocess.Popen | None = None

    def command(self, *arguments, source):
        (self.folder / "stages" / "report/collect_metrics.py").write_text(source)
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.folder), "STAGE_SERVERS": str(self.sockets)}
        return {
            "args": [sys.executable, "-m", "stages.report.collect_metrics", *arguments],
            "env": {**environment, **limits, "PYTHONDONTWRITEBYTECODE": "1", "ANSWER": "42"},
            "cwd": self.folder,
            "text": True,
        }

    def call(self, source, *arguments, **options):
        command = self.command(*arguments, source=source) | options
        return subprocess.run(**command, capture_output=True, check=False)

    def start(self, source, **options):
        return subprocess.Popen(**self.command(source=source), stdout=subprocess.PIPE, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "stages/report").mkdir(parents=True)
    (folder / "stages/report/__init__.py").touch()
    for name in MODULES:
        (folder / "stages" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "stages" / name, folder / "stages" / name)
    return folder, folder / "sockets"


@pytest.fixture(scope="module")
def served(folders):
    """A project with a server."""
    folder, sockets = folders
    sockets.mkdir()
    with running_server(sockets, folder) as server:
        yield Project(folder, sockets, server)


@pytest.fixture
def alone(folders):
    """The same project without one."""
    return Project(folders[0], folders[0] / "nowhere")


DESCRIBE = """
import json, os, sys
import stages.command.stage
print(json.dumps({
    "name": __name__, "argv": sys.argv, "command": sys.orig_argv, "path": sys.path, "folder": os.getcwd(),
    "environment": dict(os.environ), "input": sys.stdin.read(), "parent": os.getppid(),
    "modules": sorted(sys.modules),
}))
print("to standard error", file=sys.stderr)
"""


def describe(project, tmp_path):
    done = project.call(DESCRIBE, "--flag", "a b", cwd=tmp_path, input="some text")
    assert (done.returncode, done.stderr) == (0, "to standard error\n")
    return json.loads(done.stdout)


def test_a_served_stage_finds_everything_as_if_it_were_its_own_process(served, alone, tmp_path):
    warm, cold = describe(served, tmp_path), describe(alone, tmp_path)
    assert warm.pop("parent") == served.server.pid
    assert cold.pop("parent") == os.getpid()
    loaded = set(warm.pop("modules")) - set(cold.pop("modules"))
    assert {"sklearn.mixture", "ot", "pyarrow.parquet"} <= loaded
    assert not [name for name in loaded if name.startswith("stages")]
    assert warm == cold
    assert warm["input"] == "some text"
    assert warm["argv"] == [str(served.folder / "stages" / "report/collect_metrics.py"), "--flag", "a b"]
    assert warm["environment"]["ANSWER"] == "42"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('in words')", 1),
        ("import argparse; argparse.ArgumentParser().parse_args(['--unknown'])", 2),
        ("raise ValueError('uncaught')", 1),
        (
            "from stages.command.stage import run_stage\nfrom stages.core.errors import UserError\n"
            "def main(): raise UserError('one line')\nrun_stage(main)",
            1,
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
    ],
)
def test_status_and_errors_are_those_of_a_stage_that_runs_alone(served, alone, source, status):
    warm, cold = served.call(source), alone.call(source)
    assert warm.returncode == status
    assert cold.returncode in (status, 128 - status)
    assert warm.stdout == cold.stdout == ""
    assert warm.stderr.splitlines()[-1:] == cold.stderr.splitlines()[-1:]


def test_an_edited_module_is_read_anew(served):
    helper = served.folder / "stages" / "helper.py"
    for answer in ("1", "2"):
        helper.write_text(f"ANSWER = {answer}")
        done = served.call("from stages.helper import ANSWER\nprint(ANSWER)")
        assert done.stdout == f"{answer}\n"


LIMIT_THREADS = """
from threadpoolctl import threadpool_info
import numpy
from stages.command.stage import limit_threads

def report():
    print(sorted({(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()}))

import scipy.linalg
report()
limit_threads(3)
import sklearn.mixture
report()
limit_threads(1)
report()
"""


def test_thread_limits_are_those_of_a_stage_that_runs_alone(served, alone):
    for project in (served, alone):
        first, *later = project.call(LIMIT_THREADS).stdout.splitlines()
        # Without a server, nothing has loaded an OpenMP library so far.
        assert first in ("[('blas', 1)]", "[('blas', 1), ('openmp', 1)]")
        n_blas = min(3, len(os.sched_getaffinity(0)))
        assert later == [f"[('blas', {n_blas}), ('openmp', 3)]", "[('blas', 1), ('openmp', 1)]"]


SLEEP = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_killing_the_client_kills_the_job(served, name):
    with served.start(SLEEP) as client:
        job = int(client.stdout.readline())
        assert is_alive(job)
        assert job != client.pid
        client.send_signal(getattr(signal, name))
    wait_until(lambda: not is_alive(job))
    assert served.call("print('next')").stdout == "next\n"


def test_an_interrupt_from_the_terminal_lets_the_job_tidy_up(served):
    source = f"try:\n    import os, time; {SLEEP.splitlines()[1]}; time.sleep(60)\nfinally:\n    print('tidy')"
    with served.start(source, stderr=subprocess.PIPE) as client:
        job = int(client.stdout.readline())
        for process in (client.pid, job):
            os.kill(process, signal.SIGINT)
        output, errors = client.communicate()
    assert output == "tidy\n"
    assert errors.endswith("KeyboardInterrupt\n")
    assert errors.count("Traceback") == 1
    assert client.returncode == 128 + signal.SIGINT


def test_jobs_run_at_the_same_time(served):
    clients = [served.start(SLEEP) for _ in range(3)]
    jobs = {int(client.stdout.readline()) for client in clients}
    assert len(jobs) == 3
    for client in clients:
        client.kill()
        client.communicate()


def test_a_server_that_was_killed_is_done_without(folders, tmp_path):
    with running_server(tmp_path, folders[0]) as server:
        # Killed while it loads: this client waits already and then runs the stage itself.
        project = Project(folders[0], tmp_path)
        with project.start("import os; print(os.getpid())") as client:
            time.sleep(0.2)
            server.kill()
            assert client.stdout.readline() == f"{client.pid}\n"
    assert (tmp_path / "statistics").exists()
    assert project.call("import os; print(os.getppid())").stdout == f"{os.getpid()}\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_server_that_dies_takes_its_jobs_along(folders, tmp_path, name):
    with running_server(tmp_path, folders[0]) as server, Project(folders[0], tmp_path).start(SLEEP) as client:
        job = int(client.stdout.readline())
        server.send_signal(getattr(signal, name))
        assert client.wait(10) == 1
    wait_until(lambda: not is_alive(job))
    assert (tmp_path / "statistics").exists() == (name == "SIGKILL")


def test_a_server_ends_with_its_standard_input_and_takes_its_jobs_along(folders, tmp_path):
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    with running_server(sockets, folders[0]) as server, Project(folders[0], sockets).start(SLEEP) as client:
        job = int(client.stdout.readline())
        server.stdin.close()
        assert server.wait(10) == 0
        assert client.wait(10) == 1
    wait_until(lambda: not is_alive(job))
    assert not sockets.exists()


def test_folders_of_servers_whose_workflow_is_dead_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    own = Path(make_server_folder())
    assert own.parent == tmp_path
    assert f"-{os.getpid()}-" in own.name
    left = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    alive = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    elsewhere = own.with_name(left.name.replace("stages-", "stages-0"))
    for folder in (left, alive, elsewhere):
        folder.mkdir()
        # By a path that is short enough for a socket, wherever the tests put their files.
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("network")
    make_server_folder()
    assert not left.exists()
    assert own.exists()
    assert (alive / "network").exists()
    assert (elsewhere / "network").exists()


def test_making_a_server_folder_imports_no_large_library():
    code = "import os, sys; from stages.command.warm_start import make_server_folder as make\n"
    code += "os.rmdir(make())\n"
    code += "sys.exit(bool({'numpy', 'torch', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_stages_that_exist_are_served_and_rules_are_named_for_them():
    """By the rules that are to run, the workflow knows which servers it needs."""
    rules = re.findall(r"^rule (\w+):", "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk")), re.M)
    assert set(KINDS) <= {path.stem for path in (ROOT / "stages").glob("*/*.py")} & set(rules)


INTERRUPTED = """
import os, signal, socket, time
from pathlib import Path
from workflow.launch import start_servers

# A handler of its own, which servers do not inherit as they would that signals are ignored.
signal.signal(signal.SIGINT, lambda *_: None)
start_servers(Path.cwd(), set(), {"network", "statistics"})
end = time.monotonic() + 1.5
while time.monotonic() < end:
    os.killpg(0, signal.SIGINT)
    time.sleep(0.002)
for kind in ("network", "statistics"):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(os.environ["STAGE_SERVERS"], kind))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_interrupts_while_servers_start_print_nothing_and_end_none():
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")
