"""Check that a run has left all that it must, whole and current, and say what heals it.

Every file is compared with the digest that was recorded of it, every artifact with its contract and with
its inputs as they are now, and the folder with the list of what a finished run holds. What is wrong is
said with the command that mends it: paste it in the folder where Snakemake runs.
"""

import shutil
import sys
from functools import partial
from pathlib import Path

from stages.command.stage import run_stage, show_progress, stage_parser
from stages.core.errors import UserError
from stages.storage.verification import describe_problems, examine, list_few, read_plan, write_commands


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, example="mtl-sa verify results/faces")
    parser.add_argument("results", type=Path, metavar="DIR", help="folder of an experiment: results/<experiment>")
    parser.add_argument(
        "--remove-damaged",
        action="store_true",
        help="only delete what is damaged, so that the next run makes it anew where something still needs it",
    )
    options = parser.parse_args(argv)
    plan = read_plan(options.results)
    findings = examine(options.results, plan, partial(show_progress, description="verify", unit="artifact"))
    if options.remove_damaged:
        for path, reason in findings.damaged.items():
            print(f"{options.results}/{path}: {reason}; deleted", file=sys.stderr)
            remove_artifact(options.results / path)
        return
    for line in describe_problems(findings):
        print(f"{options.results}/{line}", file=sys.stderr)
    if findings.left_over:
        print(f"{options.results}: left over from another configuration: {list_few(findings.left_over)}")
    if findings.versions:
        listed = ", ".join(f"{version} ({n})" for version, n in sorted(findings.versions.items()))
        print(f"{options.results}: artifacts made with other versions than those installed: {listed}")
    print(
        f"{findings.n_artifacts} artifacts: {len(findings.damaged)} damaged, {len(findings.missing)} missing, "
        f"{len(findings.outdated)} out of date; {len(findings.left_over)} files left over; "
        f"{len(findings.gone)} deleted after use"
    )
    for purpose, command in write_commands(options.results, plan, findings).items():
        print(f"To {purpose}:\n  {command}")
    if findings.n_problems:
        raise UserError(f"{options.results}: {findings.n_problems} artifacts have problems, see above")


def remove_artifact(path: Path) -> None:
    """Delete a file, or the folder that an artifact is."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    run_stage(main)
