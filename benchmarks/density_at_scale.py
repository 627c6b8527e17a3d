"""Local density of one large group, exact and from a sample: time, peak memory, measured error.

Features are drawn from a mixture in memory: unit length, as `extract_features` leaves them. Each run is a process
of its own; its memory is the peak of all of it, features and libraries included. With --compare, the sampled way
is compared with the exact one sample by sample.

    python -m benchmarks.density_at_scale --exact 50000 100000 --sampled 200000 1000000
    python -m benchmarks.density_at_scale --compare 100000
"""

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np

from benchmarks.local_density import CUTOFF_QUANTILE
from stages.command.stage import limit_threads, read_peak_memory, stage_parser


def main(argv: list[str] | None = None) -> None:
    """Run one size in this process, or all that are asked for in processes of their own."""
    parser = stage_parser(__doc__)
    parser.add_argument("--exact", type=int, nargs="*", default=[], help="sizes of groups")
    parser.add_argument("--sampled", type=int, nargs="*", default=[], help="sizes of groups")
    parser.add_argument("--compare", type=int, nargs="*", default=[], help="sizes of groups, both ways")
    parser.add_argument("--sample-sizes", type=int, nargs="+", default=[10_000], help="m")
    parser.add_argument("--dim", type=int, default=128, help="length of a feature vector")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(run_child(options)))
        return
    print(f"d = {options.dim}, {options.threads} threads; wall time, processor time, peak memory")
    runs = [("exact", n, 0) for n in options.exact]
    for way, sizes in (("sampled", options.sampled), ("compare", options.compare)):
        runs += [(way, n, m) for n in sizes for m in options.sample_sizes]
    before: tuple[int, float] | None = None
    for way, n, m in runs:
        found = start_child(way, n, m, options)
        name = f"{way:<8}{n:>9}{f' m {m:>6}' if m else '':<9}"
        print(f"{name}{found['seconds']:>8.1f} s{found['processor']:>8.1f} s{found['megabytes']:>8.0f} MB")
        for name, value in found["errors"].items():
            print(f"{'':<10}{name:<28}{value:.5f}")
        if way == "exact":
            if before:
                exponent = math.log(found["processor"] / before[1]) / math.log(n / before[0])
                print(f"{'':<10}{'exponent':<28}{exponent:.2f}")
            before = n, found["processor"]
        sys.stdout.flush()


def start_child(way: str, n_samples: int, sample_size: int, options: argparse.Namespace) -> dict:
    """What a run in a process of its own found."""
    command = [sys.executable, "-m", "benchmarks.density_at_scale", "--child", f"--{way}", str(n_samples)]
    command += ["--sample-sizes", str(sample_size), "--dim", str(options.dim), "--threads", str(options.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_child(options: argparse.Namespace) -> dict:
    """Seconds, peak megabytes and errors of one size."""
    limit_threads(options.threads)
    from stages.core.density import Sampling, estimate_local_density

    (n_samples,) = options.exact or options.sampled or options.compare
    features = draw_mixture(n_samples, options.dim, seed=0)

    def estimate(sampling: Sampling | None):
        return estimate_local_density(
            features,
            np.zeros(n_samples, dtype=np.int32),
            1,
            cutoff_quantile=CUTOFF_QUANTILE,
            n_threads=options.threads,
            seed=0,
            sampling=sampling,
        )

    start, start_processor = time.perf_counter(), time.process_time()
    result = estimate(None if options.exact else Sampling(0, options.sample_sizes[0]))
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    megabytes = read_peak_memory()
    errors = {name: value for error in result.sampled.values() for name, value in asdict(error).items()}
    if options.compare:
        exact = estimate(None)
        relative = np.abs(result.local_density / exact.local_density - 1)
        weight = np.abs(result.density_weight - exact.density_weight)
        errors["true cutoff error"] = abs(result.cutoff[0] / exact.cutoff[0] - 1)
        for name, error in (("relative", relative), ("weight", weight)):
            errors |= {f"true mean {name} error": error.mean(), f"true largest {name} error": error.max()}
        errors["true rank correlation"] = rank_correlation(result.density_weight, exact.density_weight)
        errors["smallest true share"] = exact.local_density.min() / n_samples
        errors["largest true share"] = exact.local_density.max() / n_samples
    errors = {name: float(one) for name, one in errors.items()}
    return {"seconds": seconds, "processor": processor, "megabytes": megabytes, "errors": errors}


def draw_mixture(n_samples: int, dim: int, seed: int) -> np.ndarray:
    """Rectified samples around 20 centres of unequal share and spread, scaled to unit length, float32 (n, d)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim)).astype(np.float32)
    spreads = rng.uniform(0.3, 1.5, size=(20, 1)).astype(np.float32)
    shares = 1 / np.arange(1, 21) ** 0.7
    component = rng.choice(20, n_samples, p=shares / shares.sum())
    features = rng.standard_normal((n_samples, dim), dtype=np.float32)
    features *= spreads[component]
    features += centres[component]
    np.maximum(features, 0, out=features)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's, of two arrays (n,)."""
    from scipy.stats import spearmanr

    return float(spearmanr(left, right).statistic)


if __name__ == "__main__":
    main()
