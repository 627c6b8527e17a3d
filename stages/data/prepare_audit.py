"""Write down the labels that are held back, for the samples of prepared splits; nothing is decoded.

They have tables of their own, so that a further audit column leaves images and manifests as they are.
"""

import json
from collections.abc import Sequence

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.data.sources.base import SPLITS, Sample, Tolerance
from stages.data.sources.label_files import audit_settings, decisive_settings
from stages.data.sources.registry import read_source
from stages.storage.contracts import AUDIT_LABELS, MANIFEST
from stages.storage.tables import Provenance, Table, read_table, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--dataset", required=True, help="its name")
    parser.add_argument("--settings", required=True, metavar="JSON", help="the dataset's settings")
    parser.add_argument("--data-root", default=".", metavar="DIR", help="folder that paths in the settings start from")
    parser.add_argument(
        "--outside-data-root",
        choices=("refuse", "allow"),
        default="refuse",
        help="images that lists name outside --data-root and the dataset's own folders",
    )
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits to write down")
    parser.add_argument("--tables", nargs="+", required=True, metavar="PARQUET", help="manifest of each split")
    parser.add_argument("--outputs", nargs="+", required=True, metavar="PARQUET", help="audit labels of each split")
    options = parser.parse_args(argv)
    if not len(options.splits) == len(options.tables) == len(options.outputs):
        raise UserError("--splits, --tables and --outputs must name equally many")
    settings = json.loads(options.settings)
    try:
        tolerance = Tolerance(outside=options.outside_data_root == "allow")
        samples = read_source(settings, options.data_root, tolerance).samples
    except UserError as error:
        raise UserError(f"dataset {options.dataset}: {error}") from None
    parameters = {"settings": decisive_settings(settings), "audit": audit_settings(settings)}
    for split, path_table, path_output in zip(options.splits, options.tables, options.outputs, strict=True):
        table = read_table(path_table, MANIFEST, ["sample_id", "path"])
        chosen = find_samples(samples, table, options.dataset, split, path_table)
        if not chosen[0].audit:
            raise UserError(f"dataset {options.dataset}: has no labels to hold back; name some in columns.audit")
        names = {f"audit_{task}": [sample.audit[task] for sample in chosen] for task in chosen[0].audit}
        write_table(
            path_output,
            AUDIT_LABELS,
            {"sample_id": table["sample_id"]} | {name: np.array(names[name], dtype=object) for name in names},
            metadata={"dataset": options.dataset, "split": split},
            provenance=Provenance("prepare_audit", parameters, [path_table]),
        )


def find_samples(samples: Sequence[Sample], table: Table, dataset: str, split: str, path_table: str) -> list[Sample]:
    """The samples that a manifest lists.

    Args:
        samples: of the dataset as it is now, in the order of their sample ids.
        table: of the manifest, with `sample_id` and `path`.
        dataset: that it must be about.
        split: that it must be about.
        path_table: to name in messages.

    Raises:
        ValueError: the dataset has other samples by now, or the manifest is another's.
    """
    chosen = [samples[number] for number in table["sample_id"] if number < len(samples)]
    found = [sample.path for sample in chosen if sample.split == split]
    if (table.metadata["dataset"], table.metadata["split"]) != (dataset, split) or found != table["path"].tolist():
        raise UserError(
            f"{path_table}: its samples are not those that dataset {dataset} has in {split} now; "
            "delete it and run snakemake again"
        )
    return chosen


if __name__ == "__main__":
    run_stage(main)
