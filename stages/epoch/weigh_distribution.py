"""Measure how far each unlabeled cluster is from the labeled domain (equation 7, supplementary H)."""

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.transport import (
    GROUND_DISTANCES,
    measure_component_distances,
    measure_mean_distances,
    solve_transport,
)
from stages.storage.contracts import MIXTURE, TRANSPORT
from stages.storage.tables import Provenance, read_table, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--unlabeled", required=True, metavar="PARQUET", help="mixture of the unlabeled domain")
    parser.add_argument("--labeled", required=True, metavar="PARQUET", help="mixture of the labeled domain")
    parser.add_argument("--ground-distance", choices=GROUND_DISTANCES, default="sqeuclidean", help="between means")
    parser.add_argument("--decay", type=float, default=0.1, help="λ of w^g = exp(-λ d), per unit of distance")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="flow and distances per component")
    options = parser.parse_args(argv)
    if not 0 <= options.decay < float("inf"):
        raise UserError(f"--decay must be 0 or more, not {options.decay}")
    unlabeled = read_table(options.unlabeled, MIXTURE)
    labeled = read_table(options.labeled, MIXTURE)
    if unlabeled["mean"].shape[1] != labeled["mean"].shape[1]:
        raise UserError(f"{options.unlabeled} and {options.labeled} have means of different length; make both anew")
    distances = measure_component_distances(unlabeled["mean"], labeled["mean"], options.ground_distance)
    flows, transport_distances = solve_transport(distances, labeled["mixing_weight"])
    parameters = {"ground_distance": options.ground_distance, "decay": options.decay}
    write_table(
        options.output,
        TRANSPORT,
        {
            "component": np.arange(len(distances), dtype=np.int32),
            "flow": flows,
            "component_distance": distances,
            "transport_distance": transport_distances,
            "mean_distance": measure_mean_distances(
                unlabeled["mean"], labeled["mean"], labeled["mixing_weight"], options.ground_distance
            ),
        },
        metadata=parameters,
        provenance=Provenance("weigh_distribution", parameters, [options.unlabeled, options.labeled]),
    )


if __name__ == "__main__":
    run_stage(main)
