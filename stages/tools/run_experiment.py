"""Train an experiment: Snakemake with this project's Snakefile and the settings of `make run`, from any folder.

Whatever stopped an earlier run, this goes on where it was. Results lie in the current folder; targets and options of
Snakemake are handed on.
"""

import os
import signal
import sys
from pathlib import Path

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError

BASE = Path(__file__).resolve().parents[2]
CORES = "--cores", "-c", "--jobs", "-j", "--profile"


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa run mine.yaml --cores 4")
    parser.usage = f"{parser.prog} [-h] [CONFIG] [TARGET …] [OPTION …]"
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="config of the experiment, *.yaml or *.yml; without it config.yaml here, or else the project's",
    )
    given = sys.argv[1:] if argv is None else argv
    # Snakemake has options of its own for everything else, and -h among its own would be too many.
    if given[:1] in (["-h"], ["--help"]):
        parser.parse_args(given[:1])
    command = write_command(given)
    # Interrupts wait until the workflow can end with one line.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.execv(command[0], command)


def write_command(given: list[str]) -> list[str]:
    """Snakemake's command line for what follows `mtl-sa run`.

    Raises:
        UserError: the workflow is not there.
    """
    if not (BASE / "Snakefile").is_file():
        raise UserError(
            f"{BASE} holds no Snakefile: training needs the clone of the project, where `make run` works too"
        )
    config = given[:1] if given and given[0].endswith((".yaml", ".yml")) else []
    rest = given[len(config) :]
    if config and not Path(config[0]).is_file():
        raise UserError(f"{config[0]}: does not exist; name the config of an experiment")
    added = ["--snakefile", str(BASE / "Snakefile")]
    added += ["--configfile", *config] if config else []
    if not any(option.startswith(CORES) for option in rest):
        added += ["--cores", "all"]
    if "--profile" not in rest:
        added += ["--profile", str(BASE / "workflow/profiles/default")]
    # Targets stand first, or last behind this mark: options with several values would take them for such.
    end = rest.index("--") if "--" in rest else len(rest)
    return [sys.executable, "-P", "-m", "snakemake", *rest[:end], *added, *rest[end:]]


if __name__ == "__main__":
    run_stage(main)
