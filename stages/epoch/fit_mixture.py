"""Group the unlabeled and the labeled domain into Gaussian clusters (section 4.1.2, supplementary H)."""

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.mixture import COVARIANCES, fit_mixture
from stages.core.seeds import derive_seed
from stages.storage.contracts import MIXTURE, RESPONSIBILITIES
from stages.storage.domains import read_domain, read_labeled
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task whose features are clustered")
    parser.add_argument("--unlabeled", required=True, metavar="PARQUET", help="features of the dataset being trained")
    parser.add_argument(
        "--labeled", nargs="+", required=True, metavar="PARQUET", help="features of all datasets with labels for it"
    )
    parser.add_argument("--components", type=int, default=5, help="C, Gaussian components of each domain")
    parser.add_argument("--covariance", choices=COVARIANCES, default="diag", help="shape of the components")
    parser.add_argument("--max-iterations", type=int, default=100, help="of expectation maximisation")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="gain in log likelihood at which it stops")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument("--epoch", type=int, required=True, help="number of the epoch")
    parser.add_argument("--threads", type=int, default=2, help="of the process; part of the result, to the last bit")
    parser.add_argument("--output-unlabeled", required=True, metavar="PARQUET", help="mixture of the unlabeled domain")
    parser.add_argument("--output-labeled", required=True, metavar="PARQUET", help="mixture of the labeled domain")
    parser.add_argument("--output-responsibilities", required=True, metavar="PARQUET", help="of the unlabeled samples")
    options = parser.parse_args(argv)
    limit_threads(options.threads)
    parameters = {
        "task": options.task,
        "components": options.components,
        "covariance": options.covariance,
        "max_iterations": options.max_iterations,
        "tolerance": options.tolerance,
        "seed": options.seed,
        "epoch": options.epoch,
    }
    _, unlabeled = read_domain(options.unlabeled, options.task, "features")
    domains = {
        "unlabeled": (unlabeled[f"features_{options.task}"], [options.unlabeled], options.output_unlabeled),
        "labeled": (read_labeled(options.labeled, options.task), options.labeled, options.output_labeled),
    }
    for domain, (features, paths, path_output) in domains.items():
        n_components = min(options.components, len(features))
        if n_components < options.components:
            print(f"fit_mixture: {n_components} components, as many as '{options.task}' has {domain} samples")
        try:
            mixture = fit_mixture(
                features,
                n_components=n_components,
                covariance=options.covariance,
                max_iterations=options.max_iterations,
                tolerance=options.tolerance,
                seed=derive_seed(options.seed, options.epoch, f"mixture of {domain} for {options.task}"),
            )
        except UserError as error:
            raise UserError(f"{', '.join(paths)}: {error}") from None
        provenance = Provenance("fit_mixture", parameters, paths)
        metadata = {
            "domain": domain,
            "covariance_type": options.covariance,
            "converged": mixture.converged,
            "iterations": mixture.iterations,
            "log_likelihood": mixture.log_likelihood,
        }
        columns = {
            "component": np.arange(n_components, dtype=np.int32),
            "mixing_weight": mixture.mixing_weights,
            "mean": mixture.means,
            "covariance": mixture.covariances,
        }
        write_table(path_output, MIXTURE, columns, metadata=metadata, provenance=provenance)
        if domain == "unlabeled":
            columns = {"sample_id": unlabeled["sample_id"], "responsibilities": mixture.responsibilities}
            write_table(
                options.output_responsibilities,
                RESPONSIBILITIES,
                columns,
                metadata={"dataset": unlabeled.metadata["dataset"]},
                provenance=provenance,
            )
        if not mixture.converged:
            print(
                f"fit_mixture: the {domain} mixture for '{options.task}' did not converge in "
                f"{mixture.iterations} iterations; raise mixture.max_iterations"
            )


if __name__ == "__main__":
    run_stage(main)
