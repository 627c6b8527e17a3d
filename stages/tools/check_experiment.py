"""Look at an experiment before its first job: its data, whether it fits together, and the disk.

Says how much disk the run will take. Bad input stops a run here rather than hours later.
"""

import argparse
import json
import sys
from pathlib import Path

from stages.command.stage import run_stage, stage_parser
from stages.tools.feasibility import check_run


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--settings", type=argparse.FileType(), default=sys.stdin, metavar="JSON", help="the experiment; - for stdin"
    )
    parser.add_argument("--methods", type=json.loads, required=True, metavar="JSON", help="rows of those to run")
    parser.add_argument("--n-seeds", type=int, required=True, help="runs of each method")
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="where the artifacts will lie")
    options = parser.parse_args(argv)
    check_run(json.load(options.settings), options.methods, options.n_seeds, options.results)


if __name__ == "__main__":
    run_stage(main)
