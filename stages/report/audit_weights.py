"""Check pseudo labels against labels held back: their accuracy by fifth of every weight, and as it was estimated."""

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.audit import audit_weights
from stages.core.errors import UserError
from stages.storage.contracts import AUDIT, RELIABILITY, WEIGHTS
from stages.storage.datasets import read_audit_labels
from stages.storage.files import read_json
from stages.storage.tables import Provenance, read_table, write_table

AUDITED_WEIGHTS = ("confidence_weight", "density_weight", "distribution_weight", "selection_weight")


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task of the pseudo labels")
    parser.add_argument("--weights-table", required=True, metavar="PARQUET", help="weights and pseudo labels to check")
    parser.add_argument(
        "--audit-table", required=True, metavar="PARQUET", help="labels held back, with the column audit_<task>"
    )
    parser.add_argument("--reliability", nargs="*", default=[], metavar="JSON", help="estimates to compare, if any")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="accuracy by weight and fifth")
    options = parser.parse_args(argv)
    weights = read_table(options.weights_table, WEIGHTS)
    dataset, sample_ids, audit_labels = read_audit_labels(options.audit_table, options.task)
    places = np.searchsorted(sample_ids, weights["sample_id"])
    same = weights.metadata["dataset"] == dataset and places.max() < len(sample_ids)
    if not same or not np.array_equal(sample_ids[places], weights["sample_id"]):
        raise UserError(
            f"{options.weights_table}: its samples are not those of {options.audit_table}; run snakemake again"
        )
    audit_labels = audit_labels[places]
    known = np.isin(audit_labels.astype(object), weights.metadata["classes"])
    if not known.any():
        raise UserError(
            f"{options.audit_table}: no audit label of '{options.task}' is one of its classes "
            f"{weights.metadata['classes']}; mend the column or leave it out of columns.audit"
        )
    correct = weights["pseudo_class"][known] == audit_labels[known]
    # A weight that is null was not used, one that is constant ranks nothing.
    ranked = {name: weights[name][known] for name in AUDITED_WEIGHTS if np.ptp(weights[name][known]) > 0}
    rows = audit_weights(correct.astype(bool), ranked)
    if not rows:
        rows = audit_weights(correct.astype(bool), {"confidence_weight": weights["confidence_weight"][known]})
    estimates = read_json(options.reliability[0], RELIABILITY)["estimates"] if options.reliability else {}
    columns = {column.name: np.array([row[column.name] for row in rows]) for column in AUDIT.columns}
    write_table(
        options.output,
        AUDIT,
        columns,
        metadata={"pseudo_label_accuracy": float(correct.mean()), "estimates": estimates},
        provenance=Provenance(
            "audit_weights",
            {"task": options.task},
            [options.weights_table, options.audit_table, *options.reliability],
        ),
    )
    estimated = ", ".join(f"{value:.0%} by {name}" for name, value in estimates.items() if value is not None)
    by_weight = {row["fifth"]: row["pseudo_label_accuracy"] for row in rows if row["weight"] == rows[-1]["weight"]}
    print(
        f"audit of '{options.task}': {correct.mean():.0%} of the pseudo labels are right"
        f"{f' (estimated: {estimated})' if estimated else ''}; "
        f"{by_weight[1]:.0%} in the lowest and {by_weight[max(by_weight)]:.0%} in the highest fifth "
        f"of {rows[-1]['weight']}"
    )


if __name__ == "__main__":
    run_stage(main)
