"""What every stage shares as a command: its options, its progress bar and its one-line errors."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TextIO

from stages.core.errors import PeerError, UserError

# Read by libraries when they are imported or first used: POT need not import torch, and cuBLAS is
# deterministic only with a workspace of fixed size.
os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

INTERRUPTED = 128 + signal.SIGINT
PEER_ENDED = os.EX_TEMPFAIL
"""Status of a process that could not go on without another one."""

_may_report: Callable[[], bool] | None = None


def is_one_of_several() -> bool:
    """Whether torch's launcher has started this process beside others, to run a stage together."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def share_failures(may_report: Callable[[], bool]) -> None:
    """Have this process ask before it says why it fails: of several, the first alone does."""
    global _may_report
    _may_report = may_report


def stage_parser(description: str, example: str | None = None) -> argparse.ArgumentParser:
    """A parser whose `--help` begins with the stage's docstring, shows every default and ends with an example."""
    return argparse.ArgumentParser(
        prog=f"python -m {sys.orig_argv[2]}" if sys.orig_argv[1:2] == ["-m"] else None,
        description=description,
        epilog=example and f"example:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )


def positive_int(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; the least is 1")
    return value


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def run_stage(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and end with the status it returns; the user's mistake becomes one line and status 1.

    `STAGE_TRACEBACK=1` in the environment shows its traceback as well; a mistake of the program always
    shows its own.
    """
    name = Path(sys.argv[0]).stem
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    if is_one_of_several():
        # Whoever started it ends it so when another one fails.
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = main() or 0
    except PeerError:
        # The other one says why, or whoever started both.
        status = PEER_ENDED
    except KeyboardInterrupt:
        if not is_one_of_several():
            print(f"{name}: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except Exception as error:
        message = _explain(error)
        if _may_report is None or _may_report():
            if message is None or os.environ.get("STAGE_TRACEBACK"):
                traceback.print_exc()
            else:
                print(f"{name}: error: {message}", file=sys.stderr)
        status = 1
    # What a stage wrote is on the disk by now. Taking torch's modules down one by one would add
    # 0.6 s to every job.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _explain(error: Exception) -> str | None:
    """The line that says what the user is to do; None of a mistake of the program."""
    if isinstance(error, UserError | OSError | MemoryError):
        return str(error) or type(error).__name__
    if isinstance(error, RuntimeError) and "out of memory" in str(error):
        return f"{error}; lower training.batch_size or features.batch_size"
    return None


def _interrupt(number: int, _: object) -> NoReturn:
    # Once: what tidies up after the first is not to be interrupted itself.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def show_progress(items: Iterable, *, description: str, total: int | None = None, unit: str = "batch") -> Iterable:
    """Wrap `items` in a progress bar that stays away from short work.

    On a terminal it moves; in a log it adds a line every ten seconds.
    """
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        file=sys.stderr if terminal else _LineStream(sys.stderr),
        delay=1.0 if terminal else 10.0,
        mininterval=0.2 if terminal else 10.0,
        ascii=not terminal,
        leave=False,
        dynamic_ncols=terminal,
    )


class _LineStream:
    """Gives every state of a progress bar a line of its own, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if state := text.strip("\r\n "):
            self._stream.write(f"{state}\n")

    def flush(self) -> None:
        self._stream.flush()


def limit_threads(n_threads: int) -> None:
    """Set the size of the OpenMP and BLAS pools, of libraries imported already and of those that follow."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(n_threads)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        # As when it is loaded, OpenBLAS shall not take more threads than there are cores.
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threadpool_limits({"openmp": n_threads, "blas": min(n_threads, n_cores)})
