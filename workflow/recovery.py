"""Before a run plans: what a killed one left in this folder goes, unless some run is alive there.

Killed means that nothing of it could tidy up: SIGKILL, a machine that stopped.
"""

import atexit
import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.command.warm_start import remove_server_folders
from stages.storage.files import remove_abandoned

MARK = "STAGE_RUN"
"""In the environment of everything that a run starts: the folder that it runs in."""
ALIVE = Path(".snakemake/alive")
"""Held by all Snakemake processes of this project that live in a folder; a line for each says which machine, since
when that is up, the process and its temporary folder."""
LOCKS = Path(".snakemake/locks")
STOPPED = Path(".snakemake/stopped")
"""There until results are looked at that were written before the machine stopped."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


def enter_folder(workflow: Any) -> bool:
    """Count as alive in the current folder from now on, once what killed runs left there is removed.

    The kernel forgets who holds a file when that process dies, however it does. Where the disk knows no such holds,
    or where the last run was of another machine, whose processes nobody sees from here, Snakemake's lock stays.

    Returns:
        Whether one was killed here while it had jobs; `tidy_results` then does the rest.
    """
    killed = False
    # For whoever looks for what this process started.
    os.environ[MARK] = os.getcwd()
    with contextlib.suppress(OSError):
        ALIVE.parent.mkdir(exist_ok=True)
        # Open until this process ends. Whom it starts does not inherit that.
        file = os.open(ALIVE, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        known = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = LOCKS.is_dir() and any(LOCKS.iterdir())
            before = _read_lines()
            known = not locked or {host for host, *_ in before} == {platform.node()}
            if known:
                _remove_remains(before)
                killed = locked
                if killed and any(boot != _find_boot() for _, boot, *_ in before):
                    STOPPED.touch()
                os.ftruncate(file, 0)
        except BlockingIOError:
            pass
        finally:
            fcntl.flock(file, fcntl.LOCK_SH)
        # Where another workflow has locked the folder, nothing shall say that this one did.
        if known:
            line = f"{platform.node()} {_find_boot()} {os.getpid()} {workflow.snakemake_tmp_dir}\n"
            os.write(file, line.encode())
            os.fsync(file)
            atexit.register(_leave_folder, file)
    return killed


def _remove_remains(before: list[list[str]]) -> None:
    """Remove the lock, the processes and the temporary folders of runs that were killed, by their lines."""
    if before:
        _end_orphans()
        remove_server_folders()
    for host, *_, temporary in before:
        if host == platform.node() and Path(temporary).name.startswith("snakemake"):
            shutil.rmtree(temporary, ignore_errors=True)
    remove_abandoned(ALIVE.parent)
    for folder in ALIVE.parent.glob("shell_tmp.*"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(LOCKS, ignore_errors=True)


def tidy_results(results: str, base: Path) -> None:
    """Remove what a killed run has left unfinished among its results.

    Args:
        results: folder of the experiment.
        base: folder of the Snakefile.
    """
    if STOPPED.exists():
        # What was last written may be half there.
        if Path(results, "plan.json").is_file():
            command = [sys.executable, "-m", "stages.tools.verify_artifacts", results, "--remove-damaged"]
            subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(base)})
        STOPPED.unlink()
    for folder, folders, _ in os.walk(results):
        remove_abandoned(Path(folder))
        for name in [name for name in folders if name.startswith(".") and name.endswith(".tmp")]:
            shutil.rmtree(Path(folder, name), ignore_errors=True)
    print("A run was killed here; its lock and what else it left are removed.", file=sys.stderr, flush=True)


def find_others() -> list[int]:
    """Other Snakemake processes that entered the current folder on this machine and are alive."""
    import psutil

    numbers = [int(number) for host, _, number, _ in _read_lines() if host == platform.node()]
    return [number for number in numbers if number != os.getpid() and psutil.pid_exists(number)]


def _end_orphans() -> None:
    """Kill what a dead run has started in this folder and nobody waits for."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    orphans = [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(MARK) == os.getcwd() and process.pid not in own
    ]
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=10)


def _read_lines() -> list[list[str]]:
    """The words of all lines but those that a machine's stop has spoilt."""
    lines = ALIVE.read_text(encoding="utf-8", errors="replace").splitlines() if ALIVE.is_file() else []
    words = [line.split(" ", 3) for line in lines]
    return [one for one in words if len(one) == 4 and one[2].isdecimal()]


def _leave_folder(file: int) -> None:
    """Without another run that is alive, let the next know that none was killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
    except OSError:
        return


def _find_boot() -> str:
    """When this machine was started, in some words."""
    return BOOT.read_text().strip() if BOOT.is_file() else "-"
