"""How a run ends before its time: Ctrl-C, SIGTERM, SIGHUP, or nobody reads its output any more.

Snakemake alone would wait for the jobs that run, leave their outputs marked as incomplete, and hang where a job fails
whose message cannot be written.
"""

import contextlib
import logging
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Collection
from types import FrameType
from typing import Any, NoReturn

from snakemake.logging import logger

from workflow.recovery import find_others

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "told to end (SIGTERM)", signal.SIGHUP: "its terminal is gone"}
PATIENCE = 10.0
"""Seconds that interrupted jobs have to tidy up."""


def leave_quietly() -> None:
    """Until jobs run, have signals end the process with one line: nothing is to be tidied up but Snakemake's lock."""
    for number in _heeded():
        signal.signal(number, _leave)
    # As `mtl-sa run` has blocked them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def end_early(servers: Collection[int]) -> None:
    """From now on, have signals and the death of the reader of the output end the jobs, and then Snakemake.

    Args:
        servers: processes that end by themselves, after their jobs.
    """
    # Snakemake's own: starts no more jobs, and deletes what those leave that fail.
    finish = signal.getsignal(signal.SIGTERM)
    woken, wake = os.pipe()
    for number in _heeded():
        signal.signal(number, lambda number, _: os.write(wake, bytes([number])))
    arguments = (woken, finish, servers)
    threading.Thread(target=_wait_for_the_end, args=arguments, daemon=True).start()


def shorten_messages(quiet: Collection[Any]) -> None:
    """Leave out what says nothing to users, and put a refused run into one line.

    Args:
        quiet: Snakemake's setting of that name.
    """
    say_less = any(one.name in ("PROGRESS", "ALL") for one in quiet or ())

    def change(record: logging.LogRecord) -> bool:
        if getattr(record, "exception", None) == "LockException":
            record.msg = _explain_lock()
        return not (say_less and re.match("Select jobs to execute|Execute [0-9]+ jobs", str(record.msg)))

    logger.addFilter(change)


def _explain_lock() -> str:
    others = ", ".join(map(str, find_others()))
    if others:
        return (
            f"Error: another run is at work on these files in {os.getcwd()} (process {others}); wait for it, or run "
            "in another folder (--directory)"
        )
    return (
        f"Error: {os.getcwd()} is locked by a run on another machine, or was when that was killed; if nothing runs "
        "there any more: snakemake --unlock"
    )


def _heeded() -> list[signal.Signals]:
    """Signals that this process was not told to ignore, as by nohup."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    print(f"snakemake: {SIGNALS[number]}", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def _wait_for_the_end(woken: int, finish: Any, servers: Collection[int]) -> None:
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    for output in (1, 2):
        with contextlib.suppress(OSError):
            os.fstat(output)
            # Without events: what is asked for is only whether the other end is gone.
            poll.register(output, 0)
    ready = dict(poll.poll())
    if woken in ready:
        reason = SIGNALS[signal.Signals(os.read(woken, 1)[0])]
    else:
        reason = "nobody reads its output any more"
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in ready:
            os.dup2(nowhere, output)
    # All that Snakemake would say now is that jobs have failed.
    logger.disabled = True
    print(f"snakemake: {reason}; the same command goes on from here", file=sys.stderr, flush=True)
    finish()
    _end_jobs(servers)


def _end_jobs(servers: Collection[int]) -> NoReturn:
    """Interrupt all jobs, again and again, because some only begin; kill those that do not heed it."""
    import psutil

    begin = time.monotonic()
    while True:
        number = signal.SIGINT if time.monotonic() < begin + PATIENCE else signal.SIGKILL
        for process in psutil.Process().children(recursive=True):
            if process.pid not in servers:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        time.sleep(0.3)
