"""Draw the images whose pseudo labels got the highest and the lowest weights, in the first and the last epoch."""

from pathlib import Path

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.moves import find_rows
from stages.report.drawing import find_verdicts, pair_epochs, record_figures
from stages.report.sample_figures import Strip, describe_names, draw_strips
from stages.storage.contracts import MANIFEST, WEIGHTS
from stages.storage.tables import Table, read_table
from stages.storage.unsealed import check_record

N_IMAGES = 10


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task of the pseudo labels")
    parser.add_argument(
        "--weights", nargs="+", required=True, metavar="PARQUET", help="first and last table of weights"
    )
    parser.add_argument("--epochs", nargs="+", required=True, type=int, metavar="EPOCH", help="of the tables")
    parser.add_argument("--table", required=True, metavar="PARQUET", help="manifest of the dataset")
    parser.add_argument("--images", type=Path, required=True, metavar="NPY", help="its images")
    parser.add_argument("--audit-table", metavar="PARQUET", help="labels held back, where there are any")
    parser.add_argument("--output-first", required=True, metavar="SVG", help="of the first epoch")
    parser.add_argument("--output-last", required=True, metavar="SVG", help="of the last epoch")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the samples drawn")
    options = parser.parse_args(argv)
    paths = pair_epochs(options.weights, options.epochs)
    check_record(options.images)
    images = np.load(options.images, mmap_mode="r")
    sample_ids = read_table(options.table, MANIFEST, ["sample_id"])["sample_id"]
    drawn = {}
    for epoch, output in ((min(paths), options.output_first), (max(paths), options.output_last)):
        weights = read_table(paths[epoch], WEIGHTS, ["sample_id", "pseudo_class", "selection_weight"])
        known = options.audit_table is not None
        verdicts = find_verdicts(weights, options.audit_table, options.task) if known else np.full(len(weights), -1)
        strips, chosen = [], choose_samples(weights["selection_weight"], verdicts)
        for title, rows in chosen.items():
            places = find_rows(sample_ids, weights["sample_id"][rows])
            texts = [describe_text(weights, row) for row in rows]
            strips.append(
                Strip(f"{title}, epoch {epoch}, of {len(weights):,}", images[places], texts, verdicts[rows].tolist())
            )
        draw_strips(output, strips)
        drawn[epoch] = {title: describe_samples(weights, verdicts, rows) for title, rows in chosen.items()}
    inputs = [*options.weights, options.table, options.images, *filter(None, [options.audit_table])]
    figures = [options.output_first, options.output_last]
    record_figures(options.output_record, "draw_samples", drawn, figures, inputs, {"task": options.task})


def choose_samples(weights: np.ndarray, verdicts: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the samples with the highest and the lowest weight, and of the wrong ones with the highest.

    Args:
        weights: w, shape (n,).
        verdicts: keys of `VERDICTS`, shape (n,).
    """
    falling = np.argsort(-weights, kind="stable")
    wrong = falling[verdicts[falling] == 0]
    chosen = {"highest w": falling[:N_IMAGES], "lowest w": falling[::-1][:N_IMAGES]}
    if len(wrong):
        chosen["highest w of wrong pseudo labels"] = wrong[:N_IMAGES]
    return chosen


def describe_text(weights: Table, row: int) -> str:
    """Pseudo label and weight of a sample."""
    return f"{describe_names([weights['pseudo_class'][row]])}\nw {weights['selection_weight'][row]:.3f}"


def describe_samples(weights: Table, verdicts: np.ndarray, rows: np.ndarray) -> list[dict]:
    """Samples as the record has them."""
    return [
        {
            "sample_id": weights["sample_id"][row],
            "pseudo_class": weights["pseudo_class"][row],
            "selection_weight": weights["selection_weight"][row],
            "right": None if verdicts[row] < 0 else bool(verdicts[row]),
        }
        for row in rows
    ]


if __name__ == "__main__":
    run_stage(main)
