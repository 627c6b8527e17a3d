"""Draw how the cross-stitch unit mixed the heads of the tasks, epoch by epoch."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.report.drawing import record_figures
from stages.report.training_figures import draw_cross_stitch
from stages.storage.contracts import CHECKPOINT
from stages.storage.files import read_json
from stages.storage.unsealed import read_tensors


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--cards", nargs="+", required=True, metavar="JSON", help="checkpoint.json of every epoch")
    parser.add_argument("--output", required=True, metavar="SVG", help="the figure")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    epochs = {
        read_json(path, CHECKPOINT)["epoch"]: Path(path).with_name("network.safetensors") for path in options.cards
    }
    # Networks of some epochs may have been thinned out.
    networks = {epoch: path for epoch, path in sorted(epochs.items()) if path.exists()}
    if not networks:
        raise UserError(f"{options.cards[-1]}: there is no network beside it; run snakemake for one")
    matrices = np.stack([read_cross_stitch(path) for path in networks.values()])
    tasks = list(read_tensors(next(iter(networks.values()))).specification["classes"])
    draw_cross_stitch(options.output, matrices, list(networks), tasks)
    drawn = {"epochs": list(networks), "tasks": tasks, "matrices": matrices}
    record_figures(options.output_record, "draw_cross_stitch", drawn, [options.output], options.cards)


def read_cross_stitch(path: Path) -> np.ndarray:
    """A, shape (K, K), of a network that is the one that is recorded beside it."""
    read_tensors(path)
    with safe_open(path, framework="np") as file:
        return file.get_tensor("cross_stitch").astype(np.float64)


if __name__ == "__main__":
    run_stage(main)
