"""Gather the metrics of all epochs into one table, and copy the network of the epoch that validation chose beside it.

Networks that shall not stay are deleted once both outputs are complete.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.command.wording import name_trained
from stages.core.comparison import find_best_epoch
from stages.core.errors import UserError
from stages.storage.contracts import EVALUATION, METRICS
from stages.storage.files import digest_file, read_json, replace_when_complete
from stages.storage.tables import Provenance, write_table

CHOICES = {"validation": "best on validation", "last": "last"}


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--metrics", nargs="+", required=True, metavar="JSON", help="metrics.json of every epoch")
    parser.add_argument(
        "--networks", nargs="+", required=True, metavar="SAFETENSORS", help="of the same epochs; only one is opened"
    )
    parser.add_argument("--select", choices=CHOICES, default="validation", help="the epoch whose network is final")
    parser.add_argument(
        "--discard", nargs="*", default=[], metavar="SAFETENSORS", help="of --networks, deleted unless one is final"
    )
    parser.add_argument("--output-metrics", required=True, metavar="PARQUET", help="one row per epoch and task")
    parser.add_argument("--output-network", required=True, metavar="SAFETENSORS", help="copy of the final network")
    options = parser.parse_args(argv)
    if len(options.metrics) != len(options.networks):
        raise UserError("--metrics and --networks must name equally many files, those of every epoch")
    pairs = zip((read_json(path, EVALUATION) for path in options.metrics), options.networks, strict=True)
    contents, networks = zip(*sorted(pairs, key=lambda pair: pair[0]["epoch"]), strict=True)
    epochs = [content["epoch"] for content in contents]
    chosen = choose_epoch(contents) if options.select == "validation" else len(epochs) - 1
    for place, why in {chosen: f"{CHOICES[options.select]}, so its network is the final one", -1: "the last"}.items():
        if not Path(networks[place]).exists():
            raise UserError(
                f"{networks[place]}: does not exist, but epoch {epochs[place]} is {why}; "
                f"make it: snakemake --cores all {networks[place]}"
            )
    rows = [row for content in contents for row in list_rows(content)]
    folder = Path(options.output_metrics).parent
    with replace_when_complete(options.output_network) as path_temporary:
        shutil.copyfile(networks[chosen], path_temporary)
        digest = digest_file(path_temporary)
        if digest not in contents[chosen]["inputs"].values():
            raise UserError(
                f"{networks[chosen]}: is not the network that its epoch's metrics.json scored; "
                "delete both and run snakemake again"
            )
    write_table(
        options.output_metrics,
        METRICS,
        {column.name: np.array([row[column.name] for row in rows]) for column in METRICS.columns},
        metadata={
            "select": options.select,
            "selected_epoch": epochs[chosen],
            "files": {Path(options.output_network).name: digest},
        },
        provenance=Provenance("collect_metrics", {"select": options.select}, [*options.metrics, networks[chosen]]),
    )
    for path in set(options.discard) - {networks[chosen]}:
        Path(path).unlink(missing_ok=True)
    print_scores(contents, chosen, CHOICES[options.select])
    print(f"Test accuracy per epoch and task. Everything lies in {folder}/")


def choose_epoch(contents: Sequence[dict]) -> int:
    """The epoch that is best on validation, as a place in `contents`."""
    tasks = contents[0]["validation"]
    return find_best_epoch(
        np.array([[content["validation"][task]["accuracy"] for task in tasks] for content in contents])
    )


def list_rows(content: dict) -> list[dict]:
    """Rows of the metrics table from one metrics.json: of every split and task the whole and its datasets."""
    return [
        {
            "epoch": content["epoch"],
            "task": task,
            "dataset": dataset,
            "split": scores["split"],
            **{key: part[key] for key in ("accuracy", "macro_f1", "n_samples")},
            "trained_dataset": content["trained_dataset"],
        }
        for tasks in (content["validation"], content["tasks"])
        for task, scores in tasks.items()
        for dataset, part in {None: scores, **scores["by_dataset"]}.items()
    ]


def print_scores(contents: Sequence[dict], chosen: int, why: str) -> None:
    """Print the test accuracies as a table in which a star marks the final epoch, and say why it is that."""
    print(f"\n{'epoch':>5}  {'trained on':<16}" + "".join(f"  {task:>14}" for task in contents[0]["tasks"]))
    for place, content in enumerate(contents):
        scores = "".join(f"  {one['accuracy']:>{max(14, len(task))}.1%}" for task, one in content["tasks"].items())
        star = "  *" if place == chosen else ""
        print(f"{content['epoch']:>5}  {name_trained(content):<16}{scores}{star}")
    listed = ", ".join(f"{task} {one['accuracy']:.1%}" for task, one in contents[chosen]["tasks"].items())
    print(f"* {why}: epoch {contents[chosen]['epoch']} ({listed} on test)")


if __name__ == "__main__":
    run_stage(main)
