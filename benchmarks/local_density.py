"""Local density against the straightforward way: the full distance matrix, sorted and counted.

Each run is a process of its own, so that its peak memory can be read; "extra memory" is what it adds
to the interpreter, the libraries and the loaded features. The reference is float32 throughout, by one
BLAS product, which is the fastest way to the full matrix.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from statistics import median

import numpy as np

from stages.command.stage import limit_threads, stage_parser

CUTOFF_QUANTILE = 0.6
ROUNDING = 1e-4
"""How far the reference's float32 cutoff may be from the exact one, relative to it."""


def main(argv: list[str] | None = None) -> None:
    """Run one way in this process, or compare both in processes of their own."""
    parser = stage_parser(__doc__)
    parser.add_argument("--samples", type=int, default=20_000, help="size of the group that both ways measure")
    parser.add_argument("--large-samples", type=int, default=50_000, help="size of a group for ours only; 0 for none")
    parser.add_argument("--dim", type=int, default=128, help="length of a feature vector")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--repeats", type=int, default=3, help="processes per row; times are medians")
    parser.add_argument("--child", choices=("ours", "reference"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(_run_child(options)))
        return
    _compare(options)


def _compare(options: argparse.Namespace) -> None:
    # Alternating, so that a noisy minute falls on both.
    runs = {"ours": [], "reference": []}
    for _ in range(options.repeats):
        for name, results in runs.items():
            results.append(_start_child(name, options.samples, options))
    rows = [("reference", options.samples, runs["reference"]), ("ours", options.samples, runs["ours"])]
    if options.large_samples:
        large = [_start_child("ours", options.large_samples, options) for _ in range(options.repeats)]
        rows.append(("ours", options.large_samples, large))
    print(f"d = {options.dim}, {options.threads} threads, median of {options.repeats}")
    print(f"{'way':<10}{'samples':>9}{'seconds':>9}{'extra memory':>15}")
    for name, n_samples, results in rows:
        seconds, megabytes = (median(result[key] for result in results) for key in ("seconds", "megabytes"))
        print(f"{name:<10}{n_samples:>9}{seconds:>9.2f}{megabytes:>12.0f} MB")
    ratios = [slow["seconds"] / fast["seconds"] for slow, fast in zip(runs["reference"], runs["ours"], strict=True)]
    print(f"ours is {median(ratios):.1f} times faster (from {min(ratios):.1f} to {max(ratios):.1f})")
    _check_agreement(runs["reference"][0], runs["ours"][0])


def _check_agreement(reference: dict, ours: dict) -> None:
    """Compare the answers; the reference rounds, so a few pairs at its cutoff may fall differently."""
    cutoff_error = abs(reference["cutoff"] / ours["cutoff"] - 1)
    density_error = np.abs(np.subtract(reference["density"], ours["density"])).max() / len(ours["density"])
    print(f"cutoffs differ by {cutoff_error:.1e}, densities by at most {density_error:.1e} of the group")
    if max(cutoff_error, density_error) > ROUNDING:
        raise ValueError("the two ways disagree by more than the reference's rounding explains")


def _start_child(name: str, n_samples: int, options: argparse.Namespace) -> dict:
    command = [sys.executable, "-m", "benchmarks.local_density", "--child", name, "--samples", str(n_samples)]
    command += ["--dim", str(options.dim), "--threads", str(options.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _run_child(options: argparse.Namespace) -> dict:
    limit_threads(options.threads)
    import faiss  # noqa: F401  loaded before the memory is read
    import scipy.spatial.distance  # noqa: F401

    from stages.core.density import estimate_local_density

    features = np.random.default_rng(0).normal(size=(options.samples, options.dim)).astype(np.float32)
    before = measure_peak_megabytes()
    start = time.perf_counter()
    if options.child == "ours":
        result = estimate_local_density(
            features,
            np.zeros(len(features), dtype=np.int32),
            1,
            cutoff_quantile=CUTOFF_QUANTILE,
            n_threads=options.threads,
            seed=0,
        )
        cutoff, density = result.cutoff[0], result.local_density
    else:
        cutoff, density = _sort_full_matrix(features)
    return {
        "seconds": time.perf_counter() - start,
        "megabytes": measure_peak_megabytes() - before,
        "cutoff": float(cutoff),
        "density": density.tolist(),
    }


def _sort_full_matrix(features: np.ndarray) -> tuple[float, np.ndarray]:
    squared_norms = np.einsum("ij,ij->i", features, features)
    distances = features @ features.T
    distances *= -2
    distances += squared_norms
    distances += squared_norms[:, None]
    np.fill_diagonal(distances, 0)
    rank = math.ceil(CUTOFF_QUANTILE * distances.size)
    cutoff = np.sort(distances, axis=None)[rank - 1]
    return cutoff, np.count_nonzero(distances < cutoff, axis=1)


def measure_peak_megabytes() -> float:
    """Largest resident memory so far; Linux counts it in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
