"""The command `mtl-sa`: what people do with data, configs, networks and artifacts, beside running Snakemake.

Imports nothing large: every subcommand is a module that is imported once it is known, and decoding processes import
this one anew.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from stages.command.stage import run_stage
from stages.core.suggestions import suggest

NAME = "mtl-sa"
COMMANDS = {
    "describe": ("stages.tools.describe_data", "look at folders and tables, and write the config of an experiment"),
    "run": ("stages.tools.run_experiment", "train an experiment, or go on with it (needs the clone)"),
    "check": ("stages.tools.check_config", "look at an experiment before it runs: settings, data, disk"),
    "predict": ("stages.tools.predict_images", "say what a network sees in images"),
    "evaluate": ("stages.tools.score_images", "score a network on labelled images"),
    "verify": ("stages.tools.verify_artifacts", "check that a run's artifacts are whole and current"),
    "show": ("stages.tools.show_artifact", "print an artifact: what it is, where it comes from, what it holds"),
    "export": ("stages.report.export_network", "write a network as ONNX"),
}
"""Module and purpose of every subcommand but `stage`."""
STAGES = "epoch", "baselines", "data", "report", "tools"
"""Folders of the stages."""
EXAMPLE = f"""\
example:
  {NAME} stage estimate_density --help"""


def main() -> NoReturn:
    """Run the subcommand that the command line names."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        _leave(describe_commands())
    if command == "--version":
        from importlib.metadata import version

        _leave(f"{NAME} {version(NAME)}")
    if command in COMMANDS:
        module = COMMANDS[command][0]
    elif command != "stage":
        _refuse(NAME, f"unknown command '{command}'{suggest(command, [*COMMANDS, 'stage'])}")
    else:
        name, *rest = rest or ["--help"]
        stages = find_stages()
        if name in ("-h", "--help"):
            _leave(describe_stages(stages))
        if name not in stages:
            # All of them: there is no other place to look them up.
            nearest = suggest(name, stages).partition(" (known")[0]
            _refuse(f"{NAME} stage", f"unknown stage '{name}'{nearest} (known: {', '.join(stages)})")
        command, module = f"stage {name}", stages[name]
    # By this name argparse and `run_stage` call the command.
    sys.argv[:] = [f"{NAME} {command}", *rest]
    run_stage(lambda: _run_piped(lambda: importlib.import_module(module).main()))


def describe_commands() -> str:
    """What `mtl-sa --help` prints."""
    listed = [(name, purpose) for name, (_, purpose) in COMMANDS.items()]
    listed.append(("stage", "run one stage of the workflow by hand, by the name of its rule"))
    lines = "\n".join(f"  {name:<10}{purpose}" for name, purpose in listed)
    return (
        f"usage: {NAME} COMMAND …\n\nMTL-SA: one network from image datasets that were each labelled for one task.\n\n"
        f"commands:\n{lines}\n\noptions:\n  -h, --help\n  --version\n\n"
        f"example:\n  {NAME} predict --help\n\nTraining needs a clone of the project."
    )


def describe_stages(stages: dict[str, str]) -> str:
    """What `mtl-sa stage --help` prints."""
    listed = "\n  ".join(stages)
    return f"usage: {NAME} stage NAME …\n\nRun one stage.\n\nstages:\n  {listed}\n\n{EXAMPLE}"


def find_stages() -> dict[str, str]:
    """Module by name of every stage."""
    base = Path(__file__).parents[1]
    paths = [path for folder in STAGES for path in sorted((base / folder).glob("*.py"))]
    return {
        path.stem: f"stages.{path.parent.name}.{path.stem}"
        for path in paths
        if path.read_text(encoding="utf-8").endswith("run_stage(main)\n")
    }


def _run_piped(command: Callable[[], int | None]) -> int | None:
    """Run a command whose output may go to one that reads only its beginning, such as `head`."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left to write must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def _leave(text: str) -> NoReturn:
    run_stage(lambda: _run_piped(lambda: print(text)))


def _refuse(name: str, message: str) -> NoReturn:
    print(f"{name}: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
