"""All benchmarks, one after the other, each in a process of its own, and one table of their results.

`make bench` is the first of these; the last asks only whether all of them are alive, and keeps no results:

    python -m benchmarks
    python -m benchmarks --only local_density planning
    python -m benchmarks --quick
"""

import argparse
import os
import subprocess
import sys
import tempfile

from benchmarks.measure import RESULTS, ROOT, write_table

QUICK = {
    "local_density": ["--samples", "4000", "--large-samples", "0", "--repeats", "1"],
    "library_calls": ["--samples", "4000", "--table-samples", "4000", "--repeats", "3"],
    "training_throughput": ["--samples", "640", "--repeats", "3"],
    "weights_at_scale": ["--pairs", "sfew_aflw", "--scale", "0.1", "--growth"],
    "planning": ["--cases", "default", "--repeats", "1"],
    "whole_pipeline": ["--samples", "200", "--epochs", "1", "--repeats", "1"],
}
"""Options of a short run, by benchmark, in the order in which they run."""


def main() -> None:
    """Run them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=QUICK, default=list(QUICK), metavar="BENCHMARK")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer turns")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "BENCHMARK_RESULTS": folder} if options.quick else None
        for benchmark in options.only:
            print(f"--- {benchmark}", flush=True)
            command = [sys.executable, "-m", f"benchmarks.{benchmark}", *(QUICK[benchmark] if options.quick else [])]
            if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
                failed.append(benchmark)
    if not options.quick:
        write_table()
        print(f"{RESULTS / 'bench.md'} holds the results")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
