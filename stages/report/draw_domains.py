"""Draw the clusters of both domains: their mixing weights, the distances and flows between them, by epoch."""

from stages.command.stage import run_stage, stage_parser
from stages.report.domain_figures import Clusters, draw_clusters, draw_distances
from stages.report.drawing import pair_epochs, record_figures
from stages.storage.contracts import MIXTURE, TRANSPORT
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--unlabeled", nargs="+", required=True, metavar="PARQUET", help="mixtures of every epoch")
    parser.add_argument("--labeled", nargs="+", required=True, metavar="PARQUET", help="mixtures of every epoch")
    parser.add_argument("--transport", nargs="+", required=True, metavar="PARQUET", help="distances of every epoch")
    parser.add_argument("--epochs", nargs="+", required=True, type=int, metavar="EPOCH", help="of the tables")
    parser.add_argument("--names", nargs=2, required=True, metavar="NAME", help="of the unlabeled and labeled domain")
    parser.add_argument("--output-mixtures", required=True, metavar="SVG", help="of the first and last epoch")
    parser.add_argument("--output-distances", required=True, metavar="SVG", help="against epoch")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    tables = [pair_epochs(paths, options.epochs) for paths in (options.unlabeled, options.labeled, options.transport)]
    clusters, decay = {}, 0.0
    for epoch in tables[0]:
        unlabeled, labeled = (read_table(one[epoch], MIXTURE, ["mixing_weight"])["mixing_weight"] for one in tables[:2])
        transport = read_table(tables[2][epoch], TRANSPORT)
        decay = transport.metadata["decay"]
        clusters[epoch] = Clusters(
            unlabeled, labeled, transport["component_distance"], transport["flow"], transport["transport_distance"]
        )
    ends = {epoch: clusters[epoch] for epoch in sorted({min(clusters), max(clusters)})}
    draw_clusters(options.output_mixtures, ends, *options.names)
    draw_distances(options.output_distances, clusters, decay, *options.names)
    drawn = {"decay": decay, "clusters": {epoch: vars(one) for epoch, one in clusters.items()}}
    inputs = [*options.unlabeled, *options.labeled, *options.transport]
    figures = [options.output_mixtures, options.output_distances]
    record_figures(options.output_record, "draw_domains", drawn, figures, inputs, {"names": options.names})


if __name__ == "__main__":
    run_stage(main)
