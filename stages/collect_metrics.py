"""Gather the metrics of all epochs into one table and copy the final network beside it."""

import shutil
from pathlib import Path

import numpy as np

from stages.command import run_stage, stage_parser
from stages.core.contracts import EVALUATION, METRICS
from stages.storage.files import digest_file, read_json, replace_when_complete
from stages.storage.tables import Provenance, write_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--metrics", nargs="+", required=True, metavar="JSON", help="metrics.json of every epoch")
    parser.add_argument("--network", required=True, metavar="SAFETENSORS", help="network of the last epoch")
    parser.add_argument("--output-metrics", required=True, metavar="PARQUET", help="one row per epoch and task")
    parser.add_argument("--output-network", required=True, metavar="SAFETENSORS", help="copy of the last network")
    options = parser.parse_args(argv)
    rows = []
    for content in sorted(
        (read_json(path, EVALUATION) for path in options.metrics), key=lambda content: content["epoch"]
    ):
        for tasks in (content["validation"], content["tasks"]):
            for task, scores in tasks.items():
                rows.append(
                    {
                        "epoch": content["epoch"],
                        "task": task,
                        "trained_dataset": content["trained_dataset"],
                        **{key: scores[key] for key in ("split", "accuracy", "macro_f1", "n_samples")},
                    }
                )
    with replace_when_complete(options.output_network) as path_temporary:
        shutil.copyfile(options.network, path_temporary)
    write_table(
        options.output_metrics,
        METRICS,
        {column.name: np.array([row[column.name] for row in rows]) for column in METRICS.columns},
        metadata={"files": {Path(options.output_network).name: digest_file(options.output_network)}},
        provenance=Provenance("collect_metrics", {}, [*options.metrics, options.network]),
    )
    print(f"\n{'epoch':>5}  {'trained on':<16}" + "".join(f"  {task:>14}" for task in rows_of(rows, 0)))
    for epoch in sorted({row["epoch"] for row in rows}):
        scores = rows_of(rows, epoch)
        trained = next(iter(scores.values()))["trained_dataset"] or "all, jointly"
        print(
            f"{epoch:>5}  {trained:<16}"
            + "".join(f"  {row['accuracy']:>{max(14, len(task))}.1%}" for task, row in scores.items())
        )
    print(f"Test accuracy per epoch and task. Everything lies in {Path(options.output_metrics).parent}/")


def rows_of(rows: list[dict], epoch: int) -> dict[str, dict]:
    """The test rows of one epoch by task."""
    return {row["task"]: row for row in rows if row["epoch"] == epoch and row["split"] == "test"}


if __name__ == "__main__":
    run_stage(main)
