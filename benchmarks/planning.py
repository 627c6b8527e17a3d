"""How long Snakemake plans: dry runs of long, of wide and of large experiments, each in a new folder.

Nothing of an earlier dry run is known in it, so that digests of the code and of label files are made anew as well.

    python -m benchmarks.planning
    python -m benchmarks.planning --cases epochs --epochs 1000 --repeats 1
"""

import argparse
import re
import statistics
import tempfile
from pathlib import Path

import yaml

from benchmarks.measure import ROOT, Process, Row, read_paper_settings, run_process, write_result

BUDGETS = {"default": 3.0, "epochs": 60.0}
"""Seconds."""


def write_case(folder: Path, case: str, n_epochs: int, n_datasets: int) -> tuple[str, list[str]]:
    """The config of a case; what it is called, and the targets of its dry run."""
    if case == "default":
        settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    else:
        settings = read_paper_settings()
    targets, what = [], "config.yaml"
    if case in ("epochs", "both"):
        settings["training"]["epochs"] = n_epochs
        what = f"{n_epochs:,} epochs of 2 datasets"
    if case in ("datasets", "both"):
        kinds = list(settings["datasets"].values())
        settings["datasets"] = {
            f"faces_{number}": kinds[number % len(kinds)] | {"seed": number} for number in range(n_datasets)
        }
        epochs = settings["training"]["epochs"]
        what = f"{epochs:,} epochs of {n_datasets} datasets, labelled for one of two tasks"
    if case == "comparison":
        targets = ["--", "comparison"]
        what = f"15 methods, 5 seeds, {settings['training']['epochs']} epochs"
        methods = yaml.safe_load((ROOT / "workflow/methods.yaml").read_text(encoding="utf-8"))
        settings["comparison"]["methods"] = list(methods)[:15]
    (folder / "bench.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return what, targets


def plan(folder: Path, targets: list[str]) -> tuple[Process, int]:
    """Dry-run an experiment: the process, and how many jobs it lists."""
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "rules"]
    command += ["--configfile", "bench.yaml", "--cores", "2", *targets]
    done = run_process(command, cwd=folder)
    return done, int(re.search(r"^total +(\d+)$", done.output, re.MULTILINE)[1])


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = ("default", "datasets", "comparison", "epochs", "both")
    parser.add_argument("--cases", nargs="+", choices=cases, default=list(cases[:4]))
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--datasets", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="dry runs of each case, in turns")
    options = parser.parse_args()
    found: dict[str, list[tuple[Process, int]]] = {}
    names = {}
    for _ in range(options.repeats):
        for case in options.cases:
            with tempfile.TemporaryDirectory() as name:
                names[case], targets = write_case(Path(name), case, options.epochs, options.datasets)
                found.setdefault(case, []).append(plan(Path(name), targets))
                print(f"{names[case]}: {found[case][-1][0].seconds:.1f} s", flush=True)
    rows = []
    for case, runs in found.items():
        seconds, budget = statistics.median(run.seconds for run, _ in runs), BUDGETS.get(case)
        busy = statistics.median(run.processor_seconds for run, _ in runs)
        rows.append(
            Row(
                f"planning {names[case]}",
                f"{seconds:.1f} s",
                goal=f"below {budget:g} s" if budget else "",
                met=seconds < budget if budget else None,
                note=f"{busy:.1f} s of processor time; {runs[0][1]:,} jobs, {1000 * seconds / runs[0][1]:.1f} ms each; "
                f"peak memory {max(run.megabytes for run, _ in runs):.0f} MB",
            )
        )
    details = {
        case: [[run.seconds, run.processor_seconds, run.megabytes, jobs] for run, jobs in runs]
        for case, runs in found.items()
    }
    write_result("planning", rows, seconds_processor_seconds_megabytes_jobs=details)


if __name__ == "__main__":
    main()
