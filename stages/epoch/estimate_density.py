"""Measure how densely each unlabeled sample lies among those with its pseudo label (supplementary G)."""

import time

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.density import estimate_local_density
from stages.storage.contracts import DENSITY
from stages.storage.domains import read_domain
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--features", required=True, metavar="PARQUET", help="features of the dataset being trained")
    parser.add_argument("--task", required=True, help="task whose features and pseudo labels are used")
    parser.add_argument("--cutoff-quantile", type=float, default=0.6, help="kappa, above 0 and at most 1")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled pairs; no part of the result")
    parser.add_argument("--threads", type=int, default=2, help="of the process; no part of the result")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if any")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="local density of every unlabeled sample")
    options = parser.parse_args(argv)
    limit_threads(options.threads)
    start = time.perf_counter()
    _, table = read_domain(options.features, options.task, "features", "soft_label")
    classes = table.metadata["classes"][options.task]
    pseudo_labels = table[f"soft_label_{options.task}"].argmax(axis=1).astype(np.int32)
    density = estimate_local_density(
        table[f"features_{options.task}"],
        pseudo_labels,
        len(classes),
        cutoff_quantile=options.cutoff_quantile,
        n_threads=options.threads,
        seed=options.seed,
        device=options.device,
    )
    cutoffs = [None if np.isnan(cutoff) else float(cutoff) for cutoff in density.cutoff]
    write_table(
        options.output,
        DENSITY,
        {
            "sample_id": table["sample_id"],
            "pseudo_label": pseudo_labels,
            "group_size": density.group_size,
            "local_density": density.local_density,
            "density_weight": density.density_weight,
        },
        metadata={
            "dataset": table.metadata["dataset"],
            "classes": classes,
            "density_cutoff": dict(zip(classes, cutoffs, strict=True)),
            "cutoff_quantile": options.cutoff_quantile,
            "exact": True,
        },
        # Seed, threads and device are left out: the result does not depend on them.
        provenance=Provenance(
            "estimate_density",
            {"task": options.task, "cutoff_quantile": options.cutoff_quantile},
            [options.features],
        ),
    )
    n_groups = len(np.unique(pseudo_labels))
    print(
        f"density of '{options.task}' over {len(table)} samples in {n_groups} groups, "
        f"largest {density.group_size.max()}: {time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    run_stage(main)
