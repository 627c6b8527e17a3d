"""The weights of one epoch at DeepFashion's scale: density, mixtures, distances, labels.

Writes made-up features of 200,000 unlabeled and 15,000 labeled samples (50 classes of unequal size,
128 features) and runs the stages on them one after the other, each as a process of its own, as the
workflow does. Prints wall time and peak memory of each.

    python -m benchmarks.weights_at_scale
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.storage.contracts import FEATURES
from stages.storage.tables import Provenance, open_writer

TASK = "style"
BUDGET_SECONDS, BUDGET_GIGABYTES = 600, 6


def write_features(path: Path, n_samples: int, n_classes: int, dim: int, seed: int, *, given: bool) -> None:
    """Unit-length features around one centre per class, as `extract_features` leaves them; labels are given or not."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(n_classes, dim))
    shares = 1 / np.arange(1, n_classes + 1) ** 0.7
    metadata = {"dataset": path.stem, "dim": dim, "dtype": "float32", "normalize": "l2"}
    metadata |= {"classes": {TASK: [f"style {k}" for k in range(n_classes)]}}
    with open_writer(path, FEATURES, metadata=metadata, provenance=Provenance("extract_features", {}, [])) as writer:
        for start in range(0, n_samples, 4096):
            n = min(4096, n_samples - start)
            labels = rng.choice(n_classes, n, p=shares / shares.sum())
            features = np.maximum(centres[labels] + rng.normal(size=(n, dim)), 0)
            scores = rng.normal(size=(n, n_classes)) + 4 * np.eye(n_classes)[labels]
            soft = np.exp(scores)
            writer.write(
                {
                    "sample_id": np.arange(start, start + n),
                    f"features_{TASK}": (features / np.linalg.norm(features, axis=1, keepdims=True)).astype("f4"),
                    f"soft_label_{TASK}": (soft / soft.sum(1, keepdims=True)).astype("f4"),
                    f"label_{TASK}": (labels if given else np.full(n, -1)).astype("i4"),
                }
            )


def run_stage(stage: str, *options: str) -> tuple[float, float]:
    """Wall seconds and peak gigabytes of one stage."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"stages.epoch.{stage}", *options], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{stage} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def main() -> None:
    """Print a row per stage and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unlabeled", type=int, default=200_000, help="samples")
    parser.add_argument("--labeled", type=int, default=15_000, help="samples")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unlabeled, labeled = folder / "unlabeled.parquet", folder / "labeled.parquet"
        write_features(unlabeled, options.unlabeled, options.classes, options.dim, seed=1, given=False)
        write_features(labeled, options.labeled, options.classes, options.dim, seed=2, given=True)
        files = {
            key: str(folder / f"{key}.out")
            for key in ("density", "mixture_u", "mixture_l", "responsibilities", "transport", "weights", "labels")
        }
        threads = str(options.threads)
        task = ["--task", TASK]
        calls = {
            "estimate_density": [
                *(*task, "--features", str(unlabeled), "--threads", threads),
                *("--output", files["density"]),
            ],
            "fit_mixture": [
                *(*task, "--unlabeled", str(unlabeled), "--labeled", str(labeled)),
                *("--epoch", "1", "--threads", threads),
                *("--output-unlabeled", files["mixture_u"], "--output-labeled", files["mixture_l"]),
                *("--output-responsibilities", files["responsibilities"]),
            ],
            "weigh_distribution": [
                *("--unlabeled", files["mixture_u"], "--labeled", files["mixture_l"]),
                *("--output", files["transport"]),
            ],
            "materialize_labels": [
                *(*task, "--features", str(unlabeled), "--density", files["density"]),
                *("--responsibilities", files["responsibilities"], "--transport", files["transport"]),
                *("--selection", '["confidence", "density", "distribution"]'),
                *("--output-weights", files["weights"], "--output-labels", files["labels"]),
            ],
        }
        total, peak = 0.0, 0.0
        for stage, arguments in calls.items():
            seconds, gigabytes = run_stage(stage, *arguments)
            total, peak = total + seconds, max(peak, gigabytes)
            print(f"{stage:<20}{seconds:8.1f} s{gigabytes:8.2f} GB", flush=True)
    print(f"{'together':<20}{total:8.1f} s{peak:8.2f} GB   (budget {BUDGET_SECONDS} s, {BUDGET_GIGABYTES} GB)")


if __name__ == "__main__":
    main()
