"""Measure how densely each unlabeled sample lies among those with its pseudo label (supplementary G)."""

import argparse
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.density import LocalDensity, Sampling, estimate_local_density
from stages.core.seeds import derive_seed
from stages.storage.contracts import DENSITY
from stages.storage.domains import read_domain
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--features", required=True, metavar="PARQUET", help="features of the dataset being trained")
    parser.add_argument("--task", required=True, help="task whose features and pseudo labels are used")
    parser.add_argument("--cutoff-quantile", type=float, default=0.6, help="kappa, above 0 and at most 1")
    parser.add_argument("--mode", choices=("auto", "exact", "sampled"), default="auto", help="of large groups")
    parser.add_argument("--exact-up-to", type=int, default=100_000, help="with auto, the largest group that is exact")
    parser.add_argument("--sample-size", type=int, default=10_000, help="m, of a group that is sampled")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's; an exact result does not depend on it")
    parser.add_argument("--epoch", type=int, default=1, help="that will be trained, for the seed of samples")
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
        seed=derive_seed(options.seed, options.epoch, f"density for {options.task}"),
        device=options.device,
        sampling=choose_sampling(options),
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
            "mode": options.mode,
            "exact": not density.sampled,
            "sampled": {classes[group]: asdict(error) for group, error in density.sampled.items()},
        },
        provenance=Provenance("estimate_density", list_parameters(options, density), [options.features]),
    )
    n_groups = len(np.unique(pseudo_labels))
    print(
        f"density of '{options.task}' over {len(table)} samples in {n_groups} groups, "
        f"largest {density.group_size.max()}{describe_error(density)}: {time.perf_counter() - start:.1f} s"
    )


def choose_sampling(options: argparse.Namespace) -> Sampling | None:
    """Which groups are estimated from a sample of them; None for none."""
    if options.mode == "exact":
        return None
    return Sampling(options.exact_up_to if options.mode == "auto" else 0, options.sample_size)


def list_parameters(options: argparse.Namespace, density: LocalDensity) -> dict[str, Any]:
    """What the table depends on: never on threads and device, on the seed only where something was sampled."""
    names = ("task", "cutoff_quantile", *(("sample_size", "seed", "epoch") if density.sampled else ()))
    return {name: getattr(options, name) for name in names}


def describe_error(density: LocalDensity) -> str:
    """What the user is told where something was sampled."""
    if not density.sampled:
        return ""
    largest = max(error.mean_relative_error for error in density.sampled.values())
    return f", {len(density.sampled)} of them sampled (mean error of rho up to {largest:.2%})"


if __name__ == "__main__":
    run_stage(main)
