"""What the stages add to the libraries under them: mixtures, transport, labels, tables.

In one process, in turns. The plain call has its input in memory, in the type that it wants, and leaves its result
there; the core function checks, and the whole stage reads its tables, with their digests and contracts, and
writes others. Starting a process and importing is no part of it (see benchmarks/whole_pipeline.py).

    python -m benchmarks.library_calls
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, compare, format_time, take_turns, write_result
from benchmarks.weights_at_scale import TASK, Case, list_calls, write_domains
from stages.command.stage import limit_threads

N_CLASSES, N_COMPONENTS, DIM = 7, 5, 128
DECAY, TEMPERATURE = 0.1, 2.0


def measure(options: argparse.Namespace) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """The rows, and the seconds behind them."""
    limit_threads(options.threads)
    rows: list[Row] = []
    details = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = 0
        for what, make, n_samples in (
            ("mixtures", list_mixture_ways, options.samples),
            ("transport", list_transport_ways, options.samples),
            ("labels", list_label_ways, options.samples),
            ("tables", list_table_ways, options.table_samples),
        ):
            if n_samples != written:
                write_domains(folder, Case("", n_samples, n_samples, N_CLASSES), DIM)
                written = n_samples
            ways, pairs = make(folder, options)
            details[what] = take_turns(ways, options.repeats)
            for ours, reference, at_most, note in pairs:
                rows.append(
                    compare(
                        f"{ours}, {n_samples:,} samples",
                        details[what][ours],
                        details[what][reference],
                        name=reference,
                        at_most=at_most,
                        note=note,
                    )
                )
    return rows, details


def list_mixture_ways(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Callable], list[tuple]]:
    """The mixtures of both domains: scikit-learn, the core function, the stage."""
    from sklearn.mixture import GaussianMixture

    from stages.core.mixture import REGULARISATION, fit_mixture
    from stages.core.seeds import derive_seed
    from stages.storage.domains import read_domain, read_labeled

    _, table = read_domain(str(folder / "unlabeled.parquet"), TASK, "features")
    features = {
        "unlabeled": table[f"features_{TASK}"],
        "labeled": read_labeled([str(folder / "labeled.parquet")], TASK),
    }
    centred = {domain: values - values.mean(axis=0, dtype=np.float64) for domain, values in features.items()}
    seeds = {domain: derive_seed(0, 1, f"mixture of {domain} for {TASK}") for domain in features}

    def plain() -> None:
        for domain, values in centred.items():
            model = GaussianMixture(
                N_COMPONENTS, covariance_type="diag", reg_covar=REGULARISATION, random_state=seeds[domain] % 2**32
            )
            model.fit(values).predict_proba(values)

    def core() -> None:
        for domain, values in features.items():
            fit_mixture(
                values,
                n_components=N_COMPONENTS,
                covariance="diag",
                max_iterations=100,
                tolerance=1e-3,
                seed=seeds[domain],
            )

    stage = _make_stage("fit_mixture", folder, options)
    library = "sklearn GaussianMixture, fit and predict_proba"
    pairs = [
        (
            "core.mixture",
            library,
            1.1,
            "centres, and takes to float64; k-means on one thread, so that sums are repeatable",
        ),
        ("stage fit_mixture", library, None, ""),
    ]
    return {library: plain, "core.mixture": core, "stage fit_mixture": stage}, pairs


def list_transport_ways(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Callable], list[tuple]]:
    """The flows of all clusters: POT, the core function, the stage."""
    import ot

    from stages.core.transport import measure_component_distances, solve_transport
    from stages.storage.contracts import MIXTURE
    from stages.storage.tables import read_table

    _make_stage("fit_mixture", folder, options)()
    unlabeled, labeled = (read_table(folder / f"mixture_{domain}.parquet", MIXTURE) for domain in "ul")
    weights = labeled["mixing_weight"] / labeled["mixing_weight"].sum()
    distances = measure_component_distances(unlabeled["mean"], labeled["mean"])
    source = np.ones(1)

    def plain() -> None:
        for row in distances:
            ot.emd(source, weights, row[None, :])

    pairs = [
        ("core.transport", "ot.emd of every cluster", None, "distances of the means too, and checks of all masses"),
        ("stage weigh_distribution", "ot.emd of every cluster", None, "two small tables read, one written and flushed"),
    ]

    def core() -> None:
        solve_transport(measure_component_distances(unlabeled["mean"], labeled["mean"]), weights)

    stage = _make_stage("weigh_distribution", folder, options)
    return {"ot.emd of every cluster": plain, "core.transport": core, "stage weigh_distribution": stage}, pairs


def list_label_ways(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Callable], list[tuple]]:
    """Weights and label vectors: the formulas in NumPy, the core functions, the stage."""
    from stages.core.selection import interpolate_labels, soften_labels, weigh_samples
    from stages.storage.contracts import DENSITY, RESPONSIBILITIES, TRANSPORT
    from stages.storage.domains import read_domain
    from stages.storage.tables import read_table

    _make_stage("estimate_density", folder, options)()
    _, table = read_domain(str(folder / "unlabeled.parquet"), TASK, "soft_label")
    soft = table[f"soft_label_{TASK}"].astype(np.float64)
    density = read_table(folder / "density.parquet", DENSITY)["density_weight"]
    responsibilities = read_table(folder / "responsibilities.parquet", RESPONSIBILITIES)["responsibilities"]
    distances = read_table(folder / "transport.parquet", TRANSPORT)["transport_distance"]

    def plain() -> np.ndarray:
        weights = soft.max(axis=1) * density * np.exp(-DECAY * (responsibilities @ distances))
        weights /= weights.max()
        powers = soft ** (1 / TEMPERATURE)
        labels = (1 - weights)[:, None] * (powers / powers.sum(axis=1, keepdims=True))
        labels[np.arange(len(labels)), soft.argmax(axis=1)] += weights
        return labels

    def core() -> np.ndarray:
        selection = weigh_samples(
            soft,
            criteria=["confidence", "density", "distribution"],
            density_weights=density,
            responsibilities=responsibilities,
            transport_distances=distances,
            decay=DECAY,
        )
        softened = soften_labels(soft, TEMPERATURE)
        return interpolate_labels(softened, selection.pseudo_labels, selection.selection_weights)

    if not np.allclose(plain(), core(), atol=1e-12):
        raise ValueError("the formulas and the core functions disagree")
    library = "the formulas in NumPy"
    pairs = [
        ("core.selection", library, 2, "in logarithms, so that nothing underflows, and every single weight is kept"),
        ("stage materialize_labels", library, None, "four tables read, two written and flushed"),
    ]
    stage = _make_stage("materialize_labels", folder, options)
    return {library: plain, "core.selection": core, "stage materialize_labels": stage}, pairs


def list_table_ways(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Callable], list[tuple]]:
    """The table of features, written and read: pyarrow as plainly as it goes, ours, and a copy in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from stages.storage.contracts import FEATURES
    from stages.storage.provenance import Provenance
    from stages.storage.tables import read_table, write_table

    path, path_plain, path_ours = (folder / f"{name}.parquet" for name in ("unlabeled", "plain", "ours"))
    table = read_table(path, FEATURES)
    columns = {name: np.ascontiguousarray(values) for name, values in table.columns.items()}
    described = ("dataset", "dim", "dtype", "normalize", "classes")
    metadata = {name: table.metadata[name] for name in described}
    features = columns[f"features_{TASK}"]

    def write_plain() -> None:
        vectors = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(4 * DIM), len(features), [None, pa.py_buffer(features)]
        )
        soft = pa.FixedSizeListArray.from_arrays(pa.array(columns[f"soft_label_{TASK}"].ravel()), N_CLASSES)
        plain = pa.table(
            {"id": columns["sample_id"], "features": vectors, "soft": soft, "label": columns[f"label_{TASK}"]}
        )
        pq.write_table(plain, path_plain, compression="none", use_dictionary=False)

    def write_ours() -> None:
        write_table(path_ours, FEATURES, columns, metadata=metadata, provenance=Provenance("bench", {}, []))

    write_plain()
    write_ours()
    size = f"{features.nbytes / 1e6:.0f} MB of features"
    names = ["write_table", "pyarrow writes", "read_table", "pyarrow reads", "a copy in memory"]
    write, plain, read, plain_read, copy = (f"{name}, {size}" for name in names)
    ways = {
        plain: write_plain,
        write: write_ours,
        plain_read: lambda: pq.read_table(path_plain),
        read: lambda: read_table(path_ours, FEATURES),
        copy: lambda: [values.copy() for values in columns.values()],
    }
    pairs = [
        (write, plain, None, "contract checked, page checksums, SHA-256 of the file, flushed to the disk (fsync)"),
        (read, plain_read, None, "SHA-256 of the file, page checksums, contract checked"),
        (read, copy, None, "the bandwidth of the memory"),
    ]
    return ways, pairs


def _make_stage(stage: str, folder: Path, options: argparse.Namespace) -> Callable[[], None]:
    """What calls a stage in this process, silently."""
    main = import_module(f"stages.epoch.{stage}").main
    arguments = list_calls(folder, options.threads)[stage]

    def call() -> None:
        with redirect_stdout(StringIO()):
            main(arguments)

    return call


def describe_additions(details: dict[str, dict[str, list[float]]]) -> list[Row]:
    """What each stage takes beyond the core functions that it calls, reading and writing, in seconds."""
    rows = []
    for seconds in details.values():
        stage = next((name for name in seconds if name.startswith("stage ")), None)
        if stage:
            core = next(name for name in seconds if name.startswith("core."))
            added = sorted(one - other for one, other in zip(seconds[stage], seconds[core], strict=True))
            rows.append(Row(f"{stage} beyond {core}", format_time(max(added[len(added) // 2], 0)), note="its tables"))
    return rows


def make_parser() -> argparse.ArgumentParser:
    """The options, with which a test measures less."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="of each domain")
    parser.add_argument("--table-samples", type=int, default=100_000, help="of the table that is written and read")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="turns that count")
    return parser


def main() -> None:
    """Print a row for each pair."""
    rows, details = measure(make_parser().parse_args())
    write_result("library_calls", rows + describe_additions(details), seconds=details)


if __name__ == "__main__":
    main()
