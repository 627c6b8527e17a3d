"""Draw whether the weights tell the truth: accuracy of the pseudo labels along each, against labels held back."""

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.audit import N_FIFTHS, contrast_density, measure_ranks, measure_reliability
from stages.core.errors import UserError
from stages.core.weight_columns import WEIGHT_COLUMNS
from stages.report.drawing import find_verdicts, pair_epochs, record_figures
from stages.report.truth_figures import PARTS, draw_ranks, draw_reliability, draw_truth_over_epochs
from stages.storage.contracts import WEIGHTS
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task of the pseudo labels")
    parser.add_argument("--weights", nargs="+", required=True, metavar="PARQUET", help="of every epoch that has them")
    parser.add_argument("--epochs", nargs="+", required=True, type=int, metavar="EPOCH", help="of the tables")
    parser.add_argument("--audit-table", required=True, metavar="PARQUET", help="labels held back")
    parser.add_argument("--output-ranks", required=True, metavar="SVG", help="accuracy by fifth and decile")
    parser.add_argument("--output-epochs", required=True, metavar="SVG", help="accuracy against epoch")
    parser.add_argument("--output-reliability", required=True, metavar="SVG", help="accuracy against confidence")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    paths = pair_epochs(options.weights, options.epochs)
    epochs = list(paths)
    ranks = {n_parts: {name: [] for name in WEIGHT_COLUMNS} for n_parts in PARTS}
    accuracy, contrast, reliability = [], {"dense": [], "sparse": []}, {}
    for epoch, path in paths.items():
        table = read_table(path, WEIGHTS, ["sample_id", "pseudo_class", *WEIGHT_COLUMNS])
        verdicts = find_verdicts(table, options.audit_table, options.task)
        known = verdicts >= 0
        if not known.any():
            raise UserError(f"{options.audit_table}: no label of '{options.task}' is one of the classes of {path}")
        correct = verdicts[known] == 1
        accuracy.append(correct.mean())
        for n_parts, by_weight in ranks.items():
            for name in WEIGHT_COLUMNS:
                by_weight[name].append(measure_ranks(correct, table[name][known], n_parts))
        for name, found in contrast_density(correct, table["density_weight"][known]).items():
            contrast[name].append(found)
        if epoch in (epochs[0], epochs[-1]):
            reliability[epoch] = measure_reliability(correct, table["confidence_weight"][known])
    ranks = {n: {name: np.stack(rows) for name, rows in by_weight.items()} for n, by_weight in ranks.items()}
    fifths = ranks[N_FIFTHS]["selection_weight"]
    draw_ranks(options.output_ranks, ranks, epochs, len(correct))
    draw_truth_over_epochs(options.output_epochs, accuracy, fifths, contrast, epochs, len(correct))
    draw_reliability(options.output_reliability, reliability, len(correct))
    drawn = {
        "epochs": epochs,
        "n_samples": len(correct),
        "accuracy": accuracy,
        "accuracy_by_part": ranks,
        "accuracy_and_number_by_density": contrast,
        "reliability": reliability,
    }
    figures = [options.output_ranks, options.output_epochs, options.output_reliability]
    inputs = [*options.weights, options.audit_table]
    record_figures(options.output_record, "draw_truth", drawn, figures, inputs, {"task": options.task})


if __name__ == "__main__":
    run_stage(main)
