"""Write what a run left as TensorBoard events: `python docs/tensorboard_events.py RUN FOLDER`, see docs/tools.md."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
from tensorboardX import SummaryWriter


def write_events(run: Path, folder: Path) -> None:
    """Scores, losses and weights of a run, a step for each epoch."""
    with SummaryWriter(str(folder / run.parent.name / run.name)) as writer:
        for row in pq.read_table(run / "metrics.parquet").to_pylist():
            if row["dataset"] is None:
                for score in ("accuracy", "macro_f1"):
                    writer.add_scalar(f"{row['split']}/{row['task']}/{score}", row[score], row["epoch"])
        for card in run.glob("epoch-*/checkpoint.json"):
            content = json.loads(card.read_text(encoding="utf-8"))
            for task, loss in content["losses"].items():
                writer.add_scalar(f"loss/{task}/cross-entropy", loss["cross_entropy"], content["epoch"])
        for path in run.glob("epoch-*/*/*/weights.parquet"):
            epoch, task, dataset = path.parts[-4:-1]
            for name, column in zip((table := pq.read_table(path)).column_names, table.columns, strict=True):
                if name.endswith("_weight") and not column.null_count:
                    writer.add_histogram(f"{task} of {dataset}/{name}", column.to_numpy(), int(epoch[6:]))


if __name__ == "__main__":
    write_events(Path(sys.argv[1]), Path(sys.argv[2]))
