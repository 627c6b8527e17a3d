"""Stages that run as several processes, which torch's elastic launcher starts, as `torchrun` does.

`python -m stages.<name> --devices 2` starts two processes of itself and waits for them. Where torchrun has started it,
on one machine or on several, it is one of them itself. STAGE_LAUNCHER in the environment names the command that starts
them in the place of this module, such as `srun … torchrun …`; variables in it are filled in.
"""

import argparse
import ctypes
import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import torch

from stages.command import stage
from stages.core.errors import UserError
from stages.core.parallel import ALONE, Processes
from stages.core.training import choose_device

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 8
"""Seconds that processes have to tidy up; those that wait for a card may not hear of it."""
LAUNCHER = "STAGE_LAUNCHER"
PARENT = "STAGE_PARENT"
"""In the environment of what was started here: the process that did."""
PR_SET_PDEATHSIG = 1
"""Of Linux: the signal that a process gets when its parent dies."""


def add_devices_option(parser: argparse.ArgumentParser) -> None:
    """--devices."""
    parser.add_argument(
        "--devices", type=stage.positive_int, default=1, help="processes that share the work, each with its own card"
    )


def is_launcher(options: argparse.Namespace) -> bool:
    """Whether this process is to start those that do the work."""
    return options.devices > 1 and not stage.is_one_of_several()


def launch_processes(module: str, arguments: Sequence[str] | None, options: argparse.Namespace) -> int:
    """Run a stage as several processes; returns its status once all have ended.

    Args:
        module: of the stage.
        arguments: of its command line; None for this process's own.
        options: these, parsed.

    Raises:
        UserError: there are fewer cards than processes, or one of them was killed.
        OSError: there is no such launcher.
        KeyboardInterrupt: they were interrupted.
    """
    command = ["-m", module, *(sys.argv[1:] if arguments is None else arguments)]
    if launcher := shlex.split(os.path.expandvars(os.environ.get(LAUNCHER, ""))):
        sys.stdout.flush()
        os.execvp(launcher[0], [*launcher, *command])
    if choose_device(options.device).type == "cuda" and torch.cuda.device_count() < options.devices:
        raise UserError(
            f"training.devices is {options.devices}, but torch finds {torch.cuda.device_count()} cards here; lower it"
        )
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def end_once(number: int, _: FrameType | None) -> NoReturn:
        # What ends the processes after the first signal is not to be interrupted itself.
        for other in heeded:
            signal.signal(other, signal.SIG_IGN)
        raise SignalException(signal.Signals(number).name, sigval=signal.Signals(number))

    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, end_once)
    # The launcher says the same at length.
    logging.disable(logging.CRITICAL)
    os.environ |= {PARENT: str(os.getpid()), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    stage.limit_threads(options.threads)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=options.devices,
        run_id=f"{module}-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle="",
        shutdown_timeout=PATIENCE,
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + error.sigval
    except ChildFailedError as error:
        return explain_failure({rank: failure.exitcode for rank, failure in error.failures.items()}, options.devices)
    return 0


def explain_failure(statuses: dict[int, int], n_processes: int) -> int:
    """The status of processes of which at least one has failed, by rank; -n where signal n ended it.

    Raises:
        UserError: none has said why.
        KeyboardInterrupt: they were interrupted.
    """
    for status in statuses.values():
        if status > 0 and status not in (stage.PEER_ENDED, stage.INTERRUPTED):
            return status
    for rank, status in statuses.items():
        if status < 0:
            name = signal.Signals(-status).name
            raise UserError(f"process {rank + 1} of {n_processes} was killed ({name}); run snakemake again")
    if stage.INTERRUPTED in statuses.values():
        raise KeyboardInterrupt
    raise UserError(f"the {n_processes} processes have lost each other; run snakemake again")


def join_processes(options: argparse.Namespace) -> Processes:
    """The place of this process among those that run the stage; from here on they end together.

    Raises:
        UserError: torchrun has started another number of processes.
    """
    if options.devices == 1:
        return ALONE
    from torch import distributed

    _die_with_parent()
    size = int(os.environ["WORLD_SIZE"])
    if size != options.devices:
        raise UserError(f"--devices is {options.devices}, but torchrun has started {size} processes; make them equal")
    backend = "gloo"
    if choose_device(options.device).type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(distributed.rendezvous("env://"))
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    stage.share_failures(lambda: store.add("failures", 1) == 1)
    return Processes(rank, size)


def _die_with_parent() -> None:
    if parent := os.environ.get(PARENT):
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            os._exit(stage.PEER_ENDED)
