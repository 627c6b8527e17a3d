"""Write the model card of a finished network from the artifacts of its run."""

import json
from collections import Counter
from collections.abc import Sequence

from stages.command.stage import run_stage, stage_parser
from stages.core.comparison import arrange_run
from stages.core.errors import UserError
from stages.core.weight_names import describe_licence
from stages.data.sources.registry import describe_source, is_cropped
from stages.report.model_card import CardData, format_model_card
from stages.storage.checkpoints import load_network
from stages.storage.contracts import CHECKPOINT, EXPORT, MANIFEST, METRICS, MODEL_CARD
from stages.storage.files import digest_file, read_json
from stages.storage.provenance import Provenance
from stages.storage.reports import write_report
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network.safetensors of the run")
    parser.add_argument(
        "--cards",
        nargs="+",
        required=True,
        metavar="JSON",
        help="checkpoint.json of every epoch; its metrics say whose",
    )
    parser.add_argument("--export", required=True, metavar="JSON", help="report of export_network")
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifests of all splits")
    parser.add_argument(
        "--metrics", nargs="+", required=True, metavar="SEED=PARQUET", help="of all seeds of the method"
    )
    parser.add_argument("--seed", type=int, required=True, help="of this network")
    parser.add_argument("--method", type=json.loads, required=True, metavar="JSON", help="its row, with its `name`")
    parser.add_argument(
        "--settings", type=json.loads, required=True, metavar="JSON", help="what the network depends on"
    )
    parser.add_argument("--output", required=True, metavar="MARKDOWN")
    options = parser.parse_args(argv)
    settings = options.settings
    runs, selections = [], {}
    paths = dict(named.split("=", 1) for named in options.metrics)
    network = load_network(options.network, card=paths[str(options.seed)])
    for seed, path in paths.items():
        table = read_table(path, METRICS)
        runs.append(arrange_run(options.method["name"], int(seed), table.columns))
        selections[int(seed)] = table.metadata
    selected_epochs = {seed: metadata["selected_epoch"] for seed, metadata in selections.items()}
    text = format_model_card(
        network.specification,
        title=f"{settings['experiment']}, {options.method['paper_name']}",
        seed=options.seed,
        method=options.method,
        settings=settings,
        data=[read_split(path, settings["datasets"]) for path in options.tables],
        runs=runs,
        selected_epochs=selected_epochs,
        select=selections[options.seed]["select"],
        export=read_json(options.export, EXPORT),
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        network_digest=digest_file(options.network),
        checkpoint=find_checkpoint(options.cards, selected_epochs[options.seed]),
        pretrained_licence=describe_licence(settings["network"]["backbone"], settings["network"]["pretrained"]),
    )
    inputs = [options.network, options.export, *options.tables, *paths.values()]
    provenance = Provenance("write_model_card", {"method": options.method, "seed": options.seed}, inputs)
    write_report(options.output, text, MODEL_CARD, provenance)
    print(f"{options.output}: model card of '{options.method['name']}', seed {options.seed}")


def find_checkpoint(paths: Sequence[str], epoch: int) -> dict:
    """The card of the checkpoint of an epoch.

    Raises:
        ValueError: it is not among `paths`.
    """
    for card in (read_json(path, CHECKPOINT) for path in paths):
        if card["epoch"] == epoch:
            return card
    raise UserError(f"--cards: none is that of epoch {epoch}, whose network was chosen; name those of all epochs")


def read_split(path: str, datasets: dict) -> CardData:
    """What a card says of a split, from its manifest."""
    table = read_table(path, MANIFEST)
    metadata = table.metadata
    settings = datasets[metadata["dataset"]]
    return CardData(
        dataset=metadata["dataset"],
        split=metadata["split"],
        source=describe_source(settings["source"]),
        n_images=len(table),
        class_counts={
            task: {name: counts[name] for name in metadata["classes"][task]}
            for task in metadata["tasks"]
            for counts in [Counter(table[f"label_{task}"])]
        },
        digest=metadata["images_digest"],
        n_skipped=len(metadata["skipped"]),
        cropped=is_cropped(settings),
    )


if __name__ == "__main__":
    run_stage(main)
