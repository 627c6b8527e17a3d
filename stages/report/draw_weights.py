"""Draw the weights of a dataset's samples for a task, by epoch and class, and how their pseudo labels move."""

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.moves import count_moves, share_moved
from stages.core.weight_columns import WEIGHT_COLUMNS
from stages.report.drawing import pair_epochs, record_figures
from stages.report.weight_figures import N_BINS, QUANTILES, draw_classes, draw_distributions, draw_flips, rebin
from stages.storage.contracts import WEIGHTS
from stages.storage.tables import Table, read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--weights", nargs="+", required=True, metavar="PARQUET", help="of every epoch that has them")
    parser.add_argument("--epochs", nargs="+", required=True, type=int, metavar="EPOCH", help="of the tables")
    parser.add_argument("--output-distributions", required=True, metavar="SVG", help="of the weights, by epoch")
    parser.add_argument(
        "--output-classes", required=True, metavar="SVG", help="the same by class, first and last epoch"
    )
    parser.add_argument("--output-flips", required=True, metavar="SVG", help="how pseudo labels move")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    paths = pair_epochs(options.weights, options.epochs)
    epochs = list(paths)
    histograms = {name: [] for name in WEIGHT_COLUMNS}
    quantiles = {name: [] for name in WEIGHT_COLUMNS}
    by_class, counts, flips = {}, [], []
    first = previous = None
    for epoch, path in paths.items():
        table = read_table(path, WEIGHTS, ["sample_id", "pseudo_label", *WEIGHT_COLUMNS])
        classes = table.metadata["classes"]
        for name in WEIGHT_COLUMNS:
            values = table[name][np.isfinite(table[name])]
            histograms[name].append(np.histogram(values, N_BINS, (0, 1))[0])
            quantiles[name].append(take_quantiles(values))
        counts.append(np.bincount(table["pseudo_label"], minlength=len(classes)))
        first, before = first or table, previous or table
        flips.append(np.nan if previous is None else share_moved(move(before, table, len(classes))))
        if epoch in (epochs[0], epochs[-1]):
            by_class[epoch] = {name: quantiles_by_class(table, name, len(classes)) for name in WEIGHT_COLUMNS}
        previous = table
    moves = move(first, previous, len(classes))
    n_samples = len(previous)
    binned = {
        name: dict(zip(("edges", "counts"), rebin(np.stack(rows)), strict=True)) for name, rows in histograms.items()
    }
    draw_distributions(options.output_distributions, histograms, quantiles, epochs, n_samples)
    draw_classes(options.output_classes, by_class, dict(zip(epochs, counts, strict=True)), classes)
    draw_flips(options.output_flips, np.array(counts), flips, moves, epochs, classes)
    drawn = {
        "dataset": previous.metadata["dataset"],
        "classes": classes,
        "epochs": epochs,
        "n_samples": n_samples,
        "histograms": binned,
        "quantiles": quantiles,
        "quantiles_by_class": by_class,
        "pseudo_labels": counts,
        "flipped_since_previous": flips,
        "moves_from_first_to_last": moves,
    }
    figures = [options.output_distributions, options.output_classes, options.output_flips]
    record_figures(options.output_record, "draw_weights", drawn, figures, options.weights)


def take_quantiles(values: np.ndarray) -> np.ndarray:
    """`QUANTILES` of values, shape (5,); NaN without values."""
    return np.quantile(values, QUANTILES) if len(values) else np.full(len(QUANTILES), np.nan)


def quantiles_by_class(table: Table, name: str, n_classes: int) -> np.ndarray:
    """`QUANTILES` of a weight by pseudo label, shape (C, 5)."""
    known = np.isfinite(table[name])
    return np.stack([take_quantiles(table[name][known & (table["pseudo_label"] == k)]) for k in range(n_classes)])


def move(before: Table, after: Table, n_classes: int) -> np.ndarray:
    """Moves between the pseudo labels of two tables, shape (C, C)."""
    return count_moves(
        before["sample_id"], before["pseudo_label"], after["sample_id"], after["pseudo_label"], n_classes
    )


if __name__ == "__main__":
    run_stage(main)
