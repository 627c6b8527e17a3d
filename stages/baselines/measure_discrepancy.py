"""Measure the kernel discrepancy between each unlabeled cluster and the labeled domain (only w^g, MMD)."""

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.discrepancy import estimate_bandwidth, measure_discrepancies
from stages.core.errors import UserError
from stages.core.seeds import derive_seed
from stages.storage.contracts import DISCREPANCY, RESPONSIBILITIES
from stages.storage.domains import read_domain, read_labeled
from stages.storage.tables import Provenance, read_aligned, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task whose features are compared")
    parser.add_argument("--unlabeled", required=True, metavar="PARQUET", help="features of the dataset being trained")
    parser.add_argument(
        "--labeled", nargs="+", required=True, metavar="PARQUET", help="features of all datasets with labels for it"
    )
    parser.add_argument("--responsibilities", required=True, metavar="PARQUET", help="of the unlabeled samples")
    parser.add_argument("--decay", type=float, default=0.1, help="λ of w^g = exp(-λ d), per unit of discrepancy")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument("--epoch", type=int, required=True, help="number of the epoch")
    parser.add_argument("--threads", type=int, default=2, help="of the process; part of the result, to the last bit")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="discrepancy per component")
    options = parser.parse_args(argv)
    if not 0 <= options.decay < float("inf"):
        raise UserError(f"--decay must be 0 or more, not {options.decay}")
    limit_threads(options.threads)
    name = f"features_{options.task}"
    _, unlabeled = read_domain(options.unlabeled, options.task, "features")
    labeled = read_labeled(options.labeled, options.task)
    responsibilities = read_aligned(options.responsibilities, RESPONSIBILITIES, unlabeled)
    seed = derive_seed(options.seed, options.epoch, f"bandwidth for {options.task}")
    try:
        bandwidth = estimate_bandwidth(unlabeled[name], labeled, seed)
        discrepancies = measure_discrepancies(unlabeled[name], responsibilities["responsibilities"], labeled, bandwidth)
    except ValueError as error:
        raise UserError(f"{', '.join([options.unlabeled, *options.labeled])}: {error}") from None
    write_table(
        options.output,
        DISCREPANCY,
        {"component": np.arange(len(discrepancies), dtype=np.int32), "kernel_discrepancy": discrepancies},
        metadata={"bandwidth": bandwidth, "decay": options.decay},
        provenance=Provenance(
            "measure_discrepancy",
            {"task": options.task, "decay": options.decay, "seed": options.seed, "epoch": options.epoch},
            [options.unlabeled, *options.labeled, options.responsibilities],
        ),
    )


if __name__ == "__main__":
    run_stage(main)
