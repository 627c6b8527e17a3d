"""Servers that have the large libraries loaded, and stages that run as forks of them.

Importing torch takes 2 s, scikit-learn and POT 1.5 s each: most of the time of an experiment of many
short jobs. The workflow starts a server per kind (`workflow.launch.start_server`) and names their folder in
STAGE_SERVERS. There `python -m stages.<name>` hands its command over and waits; without a server it runs the
stage itself, to the same result. Snakemake's benchmark files then hold the right wall time, but memory and CPU
time of the process that waits; what it needs, the job says itself.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import warnings

LIBRARIES = {
    "network": (
        "torch",
        "torch.nn.functional",
        "torch.optim.adam",
        "torchvision.transforms.v2.functional",
        "safetensors.torch",
        "pyarrow.parquet",
        "tqdm",
    ),
    "statistics": ("sklearn.mixture", "threadpoolctl", "ot", "pyarrow.parquet"),
}
"""What a kind of server has loaded. No module of this project: every job reads those anew, edited or not."""

KINDS = {
    **dict.fromkeys(("initialize_network", "extract_features", "train_epoch", "evaluate_network"), "network"),
    **dict.fromkeys(("fit_mixture", "weigh_distribution", "measure_discrepancy"), "statistics"),
    **dict.fromkeys(("estimate_reliability", "materialize_labels", "audit_weights", "collect_metrics"), "statistics"),
}
"""The kind of server that a stage is forked from. A stage that is missing starts fast by itself."""

INTERRUPTS = signal.SIGINT, signal.SIGHUP
"""Signals from a terminal, which concern the workflow: it then ends its servers' jobs, and last them."""
STARTED = b"+"
TERMINATED = b"T"
PR_SET_PDEATHSIG = 1
"""Of Linux: the signal that a process gets when its parent dies."""


def make_server_folder() -> str:
    """A new folder for the sockets of servers; those of this user whose processes were killed are removed.

    Raises:
        OSError: there is no temporary folder that can be written to.
    """
    import tempfile

    remove_server_folders()
    return tempfile.mkdtemp(prefix=f"{_begin_name()}{os.getpid()}-")


def remove_server_folders() -> None:
    """Remove the folders of servers that this user's processes left when they were killed."""
    import re
    import shutil
    import tempfile

    from stages.storage.files import is_running

    prefix, place = _begin_name(), tempfile.gettempdir()
    for name in os.listdir(place):
        found = re.fullmatch(rf"{prefix}(\d{{1,9}})-\w+", name)
        if found and not is_running(int(found[1])):
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_uid == os.getuid():
                    shutil.rmtree(path)


def _begin_name() -> str:
    """How the names of this machine's folders begin: machines may share the place."""
    from zlib import crc32

    # Short, as a socket's path may have about 100 characters.
    return f"stages-{crc32(os.uname().nodename.encode()):08x}-"


def hand_over() -> None:
    """Have a server run the command of this process and end with its status; return where there is none.

    Killing this process kills the job.
    """
    folder, module = os.environ.pop("STAGE_SERVERS"), sys.orig_argv[2]
    if (kind := KINDS.get(module.rpartition(".")[2])) is None:
        return
    request = {
        "command": sys.orig_argv,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "search_paths": sys.path,
    }
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(os.path.join(folder, kind))
            socket.send_fds(server, [b"?"], [0, 1, 2])
            server.sendall(json.dumps(request).encode() + b"\n")
            if server.recv(1) != STARTED:
                return
        except OSError:
            return
        # Who interrupts this process interrupts the job as well: it shall tidy up before its client leaves.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = server.recv(1)
    if not status:
        print(f"{module}: error: its server was killed; run snakemake again", file=sys.stderr, flush=True)
    os._exit(status[0] if status else 1)


def serve(folder: str, kind: str, descriptor: str) -> str | None:
    """Fork a job for every request until standard input ends, then kill those that still run.

    Args:
        folder: where its socket is.
        kind: one of LIBRARIES.
        descriptor: of the socket, which listens.

    Returns:
        In a job, which has become like its client: the module to run. In the server: None.
    """
    listener = socket.socket(fileno=int(descriptor))
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Blocked by the workflow since before this process began; what came meanwhile is forgotten.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    c_library = ctypes.CDLL(None)
    # A limit is for each job to set.
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        del os.environ[name]
    # Sets what libraries read from the environment, too.
    from stages.command.stage import limit_threads

    for name in LIBRARIES[kind]:
        importlib.import_module(name)
    gc.freeze()

    wakeup, job_ended = os.pipe()
    signal.signal(signal.SIGCHLD, lambda *_: os.write(job_ended, b"."))
    signal.signal(signal.SIGTERM, lambda *_: os.write(job_ended, TERMINATED))
    clients: dict[int, socket.socket] = {}
    while 0 not in (ready := select.select([0, wakeup, listener, *clients.values()], [], [])[0]):
        for job in [job for job, client in clients.items() if client in ready]:
            os.kill(job, signal.SIGKILL)
            clients.pop(job).close()
        if wakeup in ready:
            woken_by = os.read(wakeup, 4096)
            _report_ended(clients)
            if TERMINATED in woken_by:
                break
        if listener not in ready:
            continue
        client, _ = listener.accept()
        request, descriptors = _receive(client)
        job = _fork() if request.endswith(b"\n") else None
        if job == 0:
            # However the server dies, its jobs do, because their clients then count them as failed.
            c_library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, on_interrupt)
            for other in (listener, client, *clients.values()):
                other.close()
            for descriptor in (wakeup, job_ended):
                os.close(descriptor)
            module = _become_client(json.loads(request), descriptors)
            if (limit := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
                limit_threads(int(limit))
            return module
        for descriptor in descriptors:
            os.close(descriptor)
        if job:
            clients[job] = client
            with contextlib.suppress(OSError):
                client.send(STARTED)
        else:
            client.close()
    for job in clients:
        os.kill(job, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, kind))
        os.rmdir(folder)
    return None


def _receive(client: socket.socket) -> tuple[bytes, list[int]]:
    """A request, a line unless the client went away, and the client's standard input, output and error."""
    descriptors, request = [], b""
    client.settimeout(10)
    with contextlib.suppress(OSError), client.makefile("rb") as stream:
        _, descriptors, *_ = socket.recv_fds(client, 1, 3)
        request = stream.readline()
    return request, descriptors


def _fork() -> int | None:
    """What os.fork returns, None where the system has no room for another process."""
    # Python warns of threads, but those of OpenBLAS and of Arrow's allocator expect forks, and the
    # imports start no others.
    with contextlib.suppress(OSError), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return os.fork()


def _report_ended(clients: dict[int, socket.socket]) -> None:
    """Tell the clients of jobs that have ended their status, as a shell would put it."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            code = os.waitstatus_to_exitcode(ended[1])
            if client := clients.pop(ended[0], None):
                with client, contextlib.suppress(OSError):
                    client.send(bytes([code if code >= 0 else 128 - code]))


def _become_client(request: dict, descriptors: list[int]) -> str:
    """Give this process what its client has; returns the module that the client was to run."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.orig_argv = request["command"]
    _, _, module, *arguments = sys.orig_argv
    sys.argv[1:] = arguments
    sys.path[:] = request["search_paths"]
    for name in [name for name in sys.modules if name.split(".")[0] == "stages"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return module


if __name__ == "__main__":
    if to_run := serve(*sys.argv[1:]):
        runpy.run_module(to_run, run_name="__main__", alter_sys=True)
    else:
        # The libraries that a server has loaded and never used complain when they are taken down.
        os._exit(0)
