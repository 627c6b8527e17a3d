"""The weights of an epoch at the sizes of the paper's four pairs, how their cost grows, and what 10 million would take.

Writes made-up features of an unlabeled and a labeled dataset and runs the stages on them one after the other,
each as a process of its own that starts by itself, as the workflow does without warm start: density, mixtures,
distances, labels. Every stage says its own peak memory. Classes are of unequal size.

    python -m benchmarks.weights_at_scale
    python -m benchmarks.weights_at_scale --pairs deepfashion_peta --growth --threads 1
    python -m benchmarks.weights_at_scale --pairs --growth --labels-of 10000000

The last runs those stages whose memory hardly grows, or does by little, on made-up densities and responsibilities.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, fit_exponent, run_process, write_result
from stages.storage.contracts import DENSITY, FEATURES, RESPONSIBILITIES, Contract
from stages.storage.tables import Provenance, open_writer

TASK = "style"
BUDGET_SECONDS, BUDGET_GIGABYTES = 600, 6
"""Of an epoch's weights at DeepFashion's scale."""
LARGEST = 10_000_000
"""Samples that growth is extrapolated to."""
STATEMENTS = {
    "estimate_density": "features, and of the largest class twice more (rows sorted and centred), tiles, kept pairs",
    "fit_mixture": "features of both domains, of one also centred in float64 (twice: k-means), responsibilities",
    "weigh_distribution": "means of the clusters: constant",
    "materialize_labels": "soft labels in float32 and a few times in float64, responsibilities, nine weights",
}
"""What the memory of each stage should consist of, beside its libraries."""


@dataclass(frozen=True)
class Case:
    """An epoch that weighs the samples of one dataset for the task of another.

    Attributes:
        name: for the table.
        n_unlabeled: training samples of the dataset.
        n_labeled: training samples of the other.
        n_classes: of the task.
    """

    name: str
    n_unlabeled: int
    n_labeled: int
    n_classes: int


PAIRS = {
    "sfew_aflw": (("SFEW", 958, 7), ("AFLW", 20_794, 5)),
    "ferplus_aflw": (("FER+", 28_709, 8), ("AFLW", 20_794, 5)),
    "expw_aflw": (("ExpW", 73_434, 7), ("AFLW", 20_794, 5)),
    "deepfashion_peta": (("DeepFashion", 192_815, 50), ("PETA", 12_667, 4)),
}
"""Of the paper's four pairs the datasets: name, training samples (four fifths of ExpW's 91,793 and AFLW's 25,993; two
thirds of DeepFashion's 289,222 and PETA's 19,000) and classes of the own task."""


def list_cases(pairs: list[str], scale: float = 1) -> list[Case]:
    """Both epochs of each pair, with a share of their samples."""
    return [
        Case(f"{name} for the task of {other}", round(n * scale), round(n_other * scale), n_classes)
        for pair in pairs
        for (name, n, _), (other, n_other, n_classes) in (PAIRS[pair], PAIRS[pair][::-1])
    ]


def name_classes(n_classes: int) -> list[str]:
    """Made-up ones."""
    return [f"style {k}" for k in range(n_classes)]


def write_features(path: Path, n_samples: int, n_classes: int, dim: int, seed: int, *, given: bool) -> None:
    """Unit-length features around one centre per class, as `extract_features` leaves them; labels are given or not."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(n_classes, dim))
    shares = 1 / np.arange(1, n_classes + 1) ** 0.7
    metadata = {"dataset": path.stem, "dim": dim, "dtype": "float32", "normalize": "l2"}
    metadata |= {"classes": {TASK: name_classes(n_classes)}}
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


def write_domains(folder: Path, case: Case, dim: int) -> None:
    """The features of both domains of a case, `unlabeled.parquet` and `labeled.parquet`."""
    write_features(folder / "unlabeled.parquet", case.n_unlabeled, case.n_classes, dim, seed=1, given=False)
    write_features(folder / "labeled.parquet", case.n_labeled, case.n_classes, dim, seed=2, given=True)


def list_calls(folder: Path, n_threads: int) -> dict[str, list[str]]:
    """The arguments of the stages, by name and in their order, for features in a folder."""
    names = ("unlabeled", "labeled", "density", "mixture_u", "mixture_l", "responsibilities", "transport")
    files = {name: str(folder / f"{name}.parquet") for name in (*names, "weights", "labels")}
    task, threads = ["--task", TASK], ["--threads", str(n_threads)]
    return {
        "estimate_density": [
            *(*task, "--features", files["unlabeled"], *threads, "--device", "cpu"),
            *("--output", files["density"]),
        ],
        "fit_mixture": [
            *(*task, "--unlabeled", files["unlabeled"], "--labeled", files["labeled"]),
            *("--epoch", "1", *threads),
            *("--output-unlabeled", files["mixture_u"], "--output-labeled", files["mixture_l"]),
            *("--output-responsibilities", files["responsibilities"]),
        ],
        "weigh_distribution": [
            *("--unlabeled", files["mixture_u"], "--labeled", files["mixture_l"]),
            *("--output", files["transport"]),
        ],
        "materialize_labels": [
            *(*task, "--features", files["unlabeled"], "--density", files["density"]),
            *("--responsibilities", files["responsibilities"], "--transport", files["transport"]),
            *("--selection", '["confidence", "density", "distribution"]'),
            *("--output-weights", files["weights"], "--output-labels", files["labels"]),
        ],
    }


def run_stage(stage: str, arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds of a stage, the peak memory that it says itself, in MB, and seconds of processor time."""
    done = run_process([f"stages.epoch.{stage}", *arguments], STAGE_MEMORY="1")
    peak = float(re.search(r"peak memory (\d+) MB", done.output)[1])
    return done.seconds, peak, done.processor_seconds


def write_weights(folder: Path, case: Case, n_components: int) -> None:
    """Densities and responsibilities as if they had been computed, for features in the folder."""
    rng = np.random.default_rng(3)
    metadata = {"dataset": "unlabeled", "classes": name_classes(case.n_classes), "density_cutoff": 0.5}
    metadata |= {"cutoff_quantile": 0.6, "mode": "auto", "exact": False, "sampled": {}}

    def write(name: str, contract: Contract, metadata: dict, draw: Callable[[int], dict[str, np.ndarray]]) -> None:
        provenance = Provenance("made up", {}, [])
        with open_writer(folder / f"{name}.parquet", contract, metadata=metadata, provenance=provenance) as writer:
            for start in range(0, case.n_unlabeled, 4096):
                ids = np.arange(start, min(start + 4096, case.n_unlabeled))
                writer.write({"sample_id": ids, **draw(len(ids))})

    def draw_density(n: int) -> dict[str, np.ndarray]:
        rho = rng.integers(1, 1000, n)
        return {
            "pseudo_label": rng.integers(0, case.n_classes, n, dtype=np.int32),
            "group_size": np.full(n, case.n_unlabeled // case.n_classes),
            "local_density": rho,
            "density_weight": rho / 1000,
        }

    def draw_responsibilities(n: int) -> dict[str, np.ndarray]:
        return {"responsibilities": rng.dirichlet(np.ones(n_components), n)}

    write("density", DENSITY, metadata, draw_density)
    write("responsibilities", RESPONSIBILITIES, {"dataset": "unlabeled"}, draw_responsibilities)


def run_labels(n_samples: int, n_threads: int) -> tuple[Case, dict[str, tuple[float, float, float]]]:
    """What `run_stage` says of the stages that can take many samples; mixtures are those of a thousand of them."""
    case = Case(f"{n_samples:,} samples", n_samples, 1000, 7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calls = list_calls(folder, n_threads)
        # Labels are made of soft labels, so the features may be short.
        write_domains(folder, Case("few", 1000, 1000, case.n_classes), dim=32)
        run_stage("fit_mixture", calls["fit_mixture"])
        write_features(folder / "unlabeled.parquet", n_samples, case.n_classes, 32, seed=1, given=False)
        write_weights(folder, case, n_components=5)
        return case, {stage: run_stage(stage, calls[stage]) for stage in ("weigh_distribution", "materialize_labels")}


def run_case(case: Case, dim: int, n_threads: int) -> dict[str, tuple[float, float, float]]:
    """What `run_stage` says of every stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_domains(folder, case, dim)
        found = {stage: run_stage(stage, call) for stage, call in list_calls(folder, n_threads).items()}
    listed = ", ".join(f"{stage} {one[0]:.1f} s {one[1]:.0f} MB" for stage, one in found.items())
    print(f"{case.name}: {listed}", flush=True)
    return found


def describe_case(case: Case, found: Mapping[str, tuple[float, float, float]]) -> Row:
    """The row of a pair's epoch."""
    seconds, peak = sum(one[0] for one in found.values()), max(one[1] for one in found.values())
    return Row(
        f"weights of {case.name}, {case.n_unlabeled:,} and {case.n_labeled:,} samples, {case.n_classes} classes",
        f"{seconds:.1f} s, {peak:,.0f} MB",
        goal=f"below {BUDGET_SECONDS} s and {BUDGET_GIGABYTES} GB",
        met=seconds < BUDGET_SECONDS and peak < 1000 * BUDGET_GIGABYTES,
        note=", ".join(f"{stage} {one[0]:.1f} s {one[1]:,.0f} MB" for stage, one in found.items()),
    )


def describe_labels(case: Case, found: Mapping[str, tuple[float, float, float]]) -> Row:
    """The row of the stages that can take many samples."""
    listed = [f"{stage} {one[0]:.0f} s {one[1]:,.0f} MB" for stage, one in found.items()]
    return Row(f"distances and labels of {case.name}", ", ".join(listed))


def describe_growth(cases: list[Case], results: list[dict[str, tuple[float, float, float]]]) -> list[Row]:
    """How processor time and memory of each stage grow, from the second size on; the first is what a start costs.

    Wall times would tell how busy the machine was.
    """
    sizes = [case.n_unlabeled for case in cases[1:]]
    rows = []
    for stage, statement in STATEMENTS.items():
        grown = [[max(one[stage][place] - results[0][stage][place], 1e-3) for one in results[1:]] for place in (2, 1)]
        (seconds, megabytes), (_, least, start) = grown, results[0][stage]
        parts = [statement]
        # Of what hardly grows an exponent would be noise.
        if seconds[-1] > 1:
            exponent = fit_exponent(sizes, seconds)
            far = seconds[-1] * (LARGEST / sizes[-1]) ** exponent
            parts.append(f"seconds ∝ n^{exponent:.2f} of processor time beyond {start:.1f} s of starting")
            parts.append(
                f"extrapolated to {LARGEST:,}: {far / 3600:.1f} h" if far > 3600 else f"extrapolated: {far:.0f} s"
            )
        if megabytes[-1] > 50:
            exponent = fit_exponent(sizes, megabytes)
            far = megabytes[-1] * (LARGEST / sizes[-1]) ** exponent
            each = 1e6 * megabytes[-1] / sizes[-1]
            parts.append(f"memory ∝ n^{exponent:.2f} beyond {least:.0f} MB, {each:,.0f} bytes for each sample")
            parts.append(f"extrapolated to {LARGEST:,}: {far / 1000:.0f} GB")
        values = ", ".join(f"{one[stage][2]:.1f} s {one[stage][1]:,.0f} MB" for one in results)
        listed = ", ".join(f"{case.n_unlabeled:,}" for case in cases)
        rows.append(Row(f"{stage} at {listed} samples", values, note="; ".join(parts)))
    return rows


def main() -> None:
    """Print a row for each pair's epochs and for each stage's growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--scale", type=float, default=1, help="share of their samples")
    parser.add_argument(
        "--growth",
        type=int,
        nargs="*",
        default=[1000, 20_000, 40_000, 80_000],
        help="unlabeled samples, a quarter as many labeled ones, 7 classes; the first size is what a start costs",
    )
    parser.add_argument("--labels-of", type=int, nargs="*", default=[], metavar="N", help="samples")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cases = list_cases(options.pairs, options.scale)
    grown = [Case(f"{n:,} samples", n, n // 4, 7) for n in options.growth]
    for part, chosen in (("", cases), ("_growth", grown)):
        if not chosen:
            continue
        results = [run_case(case, options.dim, options.threads) for case in chosen]
        rows = describe_growth(grown, results) if part else list(map(describe_case, chosen, results))
        details = [{**vars(case), "stages": found} for case, found in zip(chosen, results, strict=True)]
        write_result("weights_at_scale", rows, part=part, cases_seconds_megabytes_processor_seconds=details)
    if options.labels_of:
        rows = [describe_labels(*run_labels(n, options.threads)) for n in options.labels_of]
        write_result("weights_at_scale", rows, part="_labels")


if __name__ == "__main__":
    main()
