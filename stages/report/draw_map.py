"""Draw samples of both domains on a plane, and how different the domains are (Figure 2, section L)."""

import numpy as np

from stages.command.stage import limit_threads, run_stage, stage_parser
from stages.core.discrepancy import compare_domains
from stages.core.embedding import embed_samples
from stages.core.errors import UserError
from stages.core.moves import find_rows
from stages.core.seeds import derive_seed
from stages.report.domain_figures import Map, draw_discrepancies, draw_maps
from stages.report.drawing import find_verdicts, pair_epochs, record_figures
from stages.storage.contracts import FEATURES, WEIGHTS
from stages.storage.tables import read_table

SAMPLES_PER_DOMAIN = 500
"""On a map; a sample of more takes long and hides itself."""
SAMPLES_COMPARED = 1000
"""Of a domain, for MMD."""


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task of the features")
    parser.add_argument(
        "--weights", nargs="+", required=True, metavar="PARQUET", help="first and last table of weights"
    )
    parser.add_argument("--epochs", nargs="+", required=True, type=int, metavar="EPOCH", help="of the tables")
    parser.add_argument("--unlabeled", nargs="+", required=True, metavar="PARQUET", help="features in these epochs")
    parser.add_argument(
        "--labeled", nargs="+", required=True, metavar="PARQUET", help="features in these epochs, as many of each"
    )
    parser.add_argument("--audit-table", metavar="PARQUET", help="labels held back, where there are any")
    parser.add_argument("--names", nargs=2, required=True, metavar="NAME", help="of the unlabeled and labeled domain")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument("--output-map", required=True, metavar="SVG", help="samples on a plane")
    parser.add_argument("--output-discrepancy", required=True, metavar="SVG", help="MMD between and within domains")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    limit_threads(1)
    n_epochs = len(options.epochs)
    if len(options.labeled) % n_epochs:
        raise UserError(f"--labeled names {len(options.labeled)} tables for {n_epochs} epochs; name as many of each")
    unlabeled = pair_epochs(options.unlabeled, options.epochs)
    labeled = {epoch: options.labeled[place::n_epochs] for place, epoch in enumerate(options.epochs)}
    maps, found, n_drawn = {}, {}, {}
    for epoch, path in pair_epochs(options.weights, options.epochs).items():
        weights = read_table(path, WEIGHTS, ["sample_id", "pseudo_label", "pseudo_class", "density_weight"])
        classes = weights.metadata["classes"]
        own = read_domain([unlabeled[epoch]], options.task, given=False)
        other = read_domain(labeled[epoch], options.task, given=True)
        seed = derive_seed(options.seed, epoch, f"map of {options.task}")
        rng = np.random.default_rng(seed)
        order, order_other = rng.permutation(len(own[0])), rng.permutation(len(other[0]))
        compared = own[1][order[:SAMPLES_COMPARED]], other[1][order_other[:SAMPLES_COMPARED]]
        found[epoch] = compare_domains(*compared, seed)
        chosen = np.sort(order[:SAMPLES_PER_DOMAIN])
        rows = find_rows(weights["sample_id"], own[0][chosen])
        if (rows < 0).any():
            raise UserError(f"{path}: its samples are not those of {unlabeled[epoch]}; run snakemake again")
        verdicts = np.full(len(weights), -1)
        if options.audit_table:
            verdicts = find_verdicts(weights, options.audit_table, options.task)
        drawn = np.concatenate([own[1][chosen], other[1][np.sort(order_other[:SAMPLES_PER_DOMAIN])]])
        maps[epoch] = Map(
            embed_samples(drawn, seed), weights["pseudo_label"][rows], weights["density_weight"][rows], verdicts[rows]
        )
        n_drawn[epoch] = {"unlabeled": len(chosen), "labeled": len(drawn) - len(chosen)}
    draw_maps(options.output_map, maps, classes, *options.names)
    draw_discrepancies(options.output_discrepancy, found, *options.names)
    inputs = [*options.weights, *options.unlabeled, *options.labeled, *filter(None, [options.audit_table])]
    parameters = {"task": options.task, "names": options.names, "seed": options.seed}
    drawn = {"discrepancies": found, "n_drawn": n_drawn}
    figures = [options.output_map, options.output_discrepancy]
    record_figures(options.output_record, "draw_map", drawn, figures, inputs, parameters)


def read_domain(paths: list[str], task: str, *, given: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sample ids and features of a task, of the samples of some datasets that have a label for it or that lack one."""
    ids, features = [], []
    for path in paths:
        table = read_table(path, FEATURES, ["sample_id", f"label_{task}", f"features_{task}"])
        chosen = table.select((table[f"label_{task}"] >= 0) == given)
        ids.append(chosen["sample_id"])
        features.append(chosen[f"features_{task}"])
    return np.concatenate(ids), np.concatenate(features)


if __name__ == "__main__":
    run_stage(main)
