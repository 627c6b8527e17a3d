"""Refine the pseudo labels of the dataset being trained with a Markov random field (baseline DCN-AP)."""

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.refinement import build_graph, refine_soft_labels
from stages.storage.contracts import REFINEMENT
from stages.storage.domains import read_domain
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task whose pseudo labels are refined")
    parser.add_argument("--features", required=True, metavar="PARQUET", help="features of the dataset being trained")
    parser.add_argument("--strength", type=float, default=1.0, help="η of the neighbours' votes; unique below 2")
    parser.add_argument("--neighbors", type=int, default=10, help="k, nearest samples that vote")
    parser.add_argument("--threads", type=int, default=2, help="of the process; no part of the result")
    parser.add_argument("--output", required=True, metavar="PARQUET", help="pseudo and refined label of every sample")
    options = parser.parse_args(argv)
    limit_threads(options.threads)
    name_features, name_labels = f"features_{options.task}", f"soft_label_{options.task}"
    _, table = read_domain(options.features, options.task, "features", "soft_label")
    try:
        graph = build_graph(table[name_features], options.neighbors, options.threads)
        refinement = refine_soft_labels(table[name_labels], graph, options.strength)
    except ValueError as error:
        raise UserError(f"{options.features}: {error}") from None
    pseudo_labels = table[name_labels].argmax(axis=1).astype(np.int32)
    refined_labels = refinement.probabilities.argmax(axis=1).astype(np.int32)
    parameters = {"strength": options.strength, "n_neighbors": options.neighbors}
    write_table(
        options.output,
        REFINEMENT,
        {
            "sample_id": table["sample_id"],
            "pseudo_label": pseudo_labels,
            "refined_label": refined_labels,
            "refined_probability": refinement.probabilities.astype(np.float32),
        },
        metadata={
            "dataset": table.metadata["dataset"],
            "classes": table.metadata["classes"][options.task],
            **parameters,
            "iterations": refinement.iterations,
            "converged": refinement.converged,
        },
        provenance=Provenance("refine_labels", {"task": options.task, **parameters}, [options.features]),
    )
    ended = "" if refinement.converged else ", where it had not converged; lower the strength"
    print(
        f"refine_labels: the random field changed {np.count_nonzero(refined_labels != pseudo_labels)} of "
        f"{len(table)} pseudo labels of '{options.task}' in {refinement.iterations} iterations{ended}"
    )


if __name__ == "__main__":
    run_stage(main)
