"""Snakemake's own lint, without its wish for a conda environment or container in every rule.

All jobs run in the Python that runs Snakemake, which the README's set-up or environment.yml provides.
"""

import re
import subprocess
import sys

UNWANTED = "* Specify a conda environment or container for each rule"


def main() -> int:
    """Print what is left and return whether anything is."""
    done = subprocess.run(["snakemake", "--lint"], stderr=subprocess.PIPE, text=True, check=False)
    findings = re.split(r"\n(?=Lints for |    \* )", done.stderr)
    left = [text for text in findings if "    * " in text and UNWANTED not in text]
    if done.returncode and not any("    * " in text for text in findings):  # it did not come to lint at all
        left = [done.stderr]
    print("\n".join(left), end="\n" if left else "", file=sys.stderr)
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
