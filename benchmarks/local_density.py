"""Local density against the straightforward way, and against the matrix product that is at its bottom.

The straightforward way is the full distance matrix, sorted and counted: float32 throughout, by one BLAS product,
which is the fastest way to the full matrix. The bare product F Fᵀ computes nothing but the n² inner products and
keeps none; its upper half, tile by tile, is the least that any exact way computes.

Each run is a process of its own, so that its peak memory can be read; what is told is what it adds to the
interpreter, the libraries and the loaded features.

    python -m benchmarks.local_density
"""

import argparse
import json
import math
import time
from functools import partial

import numpy as np

from benchmarks.measure import Row, compare, run_process, take_turns, write_result
from stages.command.stage import limit_threads, read_peak_memory, stage_parser

CUTOFF_QUANTILE = 0.6
ROUNDING = 1e-4
"""How far the reference's float32 cutoff may be from the exact one, relative to it, and densities, to the group."""
PRODUCT_ROWS = 1024
"""Of a block of the bare product."""
HALF = "counting and keeping pairs goes through every tile twice more, where the product alone does not read its result"


def main(argv: list[str] | None = None) -> None:
    """Run one way in this process, or compare both in processes of their own."""
    parser = stage_parser(__doc__)
    parser.add_argument("--samples", type=int, default=20_000, help="size of the group that both ways measure")
    parser.add_argument("--large-samples", type=int, default=50_000, help="size of a group for ours only; 0 for none")
    parser.add_argument("--dim", type=int, default=128, help="length of a feature vector")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--repeats", type=int, default=3, help="processes per row; times are medians")
    parser.add_argument("--child", choices=tuple(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(_run_child(options)))
        return
    _compare(options)


def _compare(options: argparse.Namespace) -> None:
    rows, details = [], {}
    for n_samples in filter(None, (options.samples, options.large_samples)):
        ways = ["ours", "product", "half product"] + ["sort and count"] * (n_samples == options.samples)
        runs: dict[str, list[dict]] = {way: [] for way in ways}
        calls = {way: partial(_run_way, way, n_samples, options, runs[way]) for way in ways}
        seconds = take_turns(calls, options.repeats, warm_ups=0)
        what = f"local density, n = {n_samples:,}, d = {options.dim}, {options.threads} threads"
        if n_samples == options.samples:
            _check_agreement(runs["sort and count"][0], runs["ours"][0])
            rows.append(
                compare(what, seconds["ours"], seconds["sort and count"], name="full matrix, sorted", at_most=0.1)
            )
        rows += [
            compare(what, seconds["ours"], seconds["product"], name="F Fᵀ in BLAS, by row blocks", at_most=1.5),
            compare(what, seconds["ours"], seconds["half product"], name="its upper half, by tiles", note=HALF),
        ]
        extra = max(run["megabytes"] for run in runs["ours"])
        rows.append(
            Row(
                f"its memory beside libraries and features, n = {n_samples:,}",
                f"{extra:.0f} MB",
                goal="below 500 MB",
                met=extra < 500,
                note=f"one full matrix in float32 is {n_samples**2 * 4 / 1e6:,.0f} MB",
            )
        )
        details[n_samples] = {
            "seconds": seconds,
            "megabytes": {way: [run["megabytes"] for run in found] for way, found in runs.items()},
        }
    write_result("local_density", rows, sizes=details)


def _run_way(way: str, n_samples: int, options: argparse.Namespace, runs: list[dict]) -> float:
    command = ["benchmarks.local_density", "--child", way, "--samples", str(n_samples)]
    command += ["--dim", str(options.dim), "--threads", str(options.threads)]
    runs.append(json.loads(run_process(command).output))
    return runs[-1]["seconds"]


def _check_agreement(reference: dict, ours: dict) -> None:
    """Compare the answers; the reference rounds, so a few pairs at its cutoff may fall differently."""
    cutoff_error = abs(reference["cutoff"] / ours["cutoff"] - 1)
    density_error = np.abs(np.subtract(reference["density"], ours["density"])).max()
    if cutoff_error > ROUNDING or density_error > max(3, ROUNDING * len(ours["density"])):
        raise ValueError("the two ways disagree by more than the reference's rounding explains")


def _run_child(options: argparse.Namespace) -> dict:
    limit_threads(options.threads)
    import faiss  # noqa: F401  loaded before the memory is read
    import scipy.spatial.distance  # noqa: F401

    import stages.core.density  # noqa: F401

    features = np.random.default_rng(0).normal(size=(options.samples, options.dim)).astype(np.float32)
    # The first product starts BLAS's threads.
    np.dot(features[:256], features[:256].T)
    before = read_peak_memory()
    start = time.perf_counter()
    found = WAYS[options.child](features, options.threads)
    cutoff, density = found or (0, np.empty(0))
    return {
        "seconds": time.perf_counter() - start,
        "megabytes": read_peak_memory() - before,
        "cutoff": float(cutoff),
        "density": density.tolist(),
    }


def estimate(features: np.ndarray, n_threads: int) -> tuple[float, np.ndarray]:
    """The pipeline's way: cutoff and local density of one group."""
    from stages.core.density import estimate_local_density

    labels = np.zeros(len(features), dtype=np.int32)
    result = estimate_local_density(features, labels, 1, cutoff_quantile=CUTOFF_QUANTILE, n_threads=n_threads, seed=0)
    return result.cutoff[0], result.local_density


def multiply(features: np.ndarray, _: int) -> None:
    """All n² inner products, a block of rows at a time."""
    block = np.empty((PRODUCT_ROWS, len(features)), dtype=np.float32)
    for start in range(0, len(features), PRODUCT_ROWS):
        rows = features[start : start + PRODUCT_ROWS]
        np.dot(rows, features.T, out=block[: len(rows)])


def multiply_half(features: np.ndarray, _: int) -> None:
    """Those on and above the diagonal: of each block of rows the columns from its first on."""
    for start in range(0, len(features), PRODUCT_ROWS):
        np.dot(features[start : start + PRODUCT_ROWS], features[start:].T)


def sort_full_matrix(features: np.ndarray, _: int) -> tuple[float, np.ndarray]:
    """The straightforward way: cutoff and local density from the sorted matrix."""
    squared_norms = np.einsum("ij,ij->i", features, features)
    distances = features @ features.T
    distances *= -2
    distances += squared_norms
    distances += squared_norms[:, None]
    np.fill_diagonal(distances, 0)
    rank = math.ceil(CUTOFF_QUANTILE * distances.size)
    cutoff = np.sort(distances, axis=None)[rank - 1]
    return cutoff, np.count_nonzero(distances < cutoff, axis=1)


WAYS = {
    "ours": estimate,
    "sort and count": sort_full_matrix,
    "product": multiply,
    "half product": multiply_half,
}


if __name__ == "__main__":
    main()
