"""Draw how a run trained: scores and losses against epoch, and whom the final network confuses."""

import numpy as np

from stages.command.stage import run_stage, stage_parser
from stages.command.wording import name_trained
from stages.core.comparison import SCORES
from stages.report.drawing import record_figures
from stages.report.training_figures import draw_confusion, draw_losses, draw_scores
from stages.storage.contracts import CHECKPOINT, EVALUATION, METRICS
from stages.storage.files import read_json
from stages.storage.tables import read_table


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--metrics", required=True, metavar="PARQUET", help="of the run")
    parser.add_argument("--evaluations", nargs="+", required=True, metavar="JSON", help="metrics.json of every epoch")
    parser.add_argument("--cards", nargs="+", required=True, metavar="JSON", help="checkpoint.json of every epoch")
    parser.add_argument("--output-scores", required=True, metavar="SVG", help="accuracy and macro-F1 against epoch")
    parser.add_argument("--output-losses", required=True, metavar="SVG", help="what the losses consist of")
    parser.add_argument("--output-confusion", required=True, metavar="SVG", help="confusion matrices on test")
    parser.add_argument("--output-record", required=True, metavar="JSON", help="the numbers drawn")
    options = parser.parse_args(argv)
    chosen = read_table(options.metrics, METRICS, []).metadata["selected_epoch"]
    evaluations = sorted((read_json(path, EVALUATION) for path in options.evaluations), key=lambda one: one["epoch"])
    cards = sorted((read_json(path, CHECKPOINT) for path in options.cards), key=lambda one: one["epoch"])
    epochs = [content["epoch"] for content in evaluations]
    trained = [name_trained(content) for content in evaluations]
    final = evaluations[epochs.index(chosen)]["tasks"]
    scores = {
        task: np.array(
            [[[content[split][task][name] for name in SCORES] for split in ("validation", "tasks")]
             for content in evaluations]
        )
        for task in final
    }  # fmt: skip
    losses = {task: np.array([split_loss(card["losses"].get(task)) for card in cards]) for task in final}
    confusions = {task: np.array(one["confusion_matrix"]) for task, one in final.items()}
    n_samples = {task: one["n_samples"] for task, one in final.items()}
    draw_scores(options.output_scores, scores, epochs, trained, chosen, n_samples)
    draw_losses(options.output_losses, losses, epochs, trained)
    draw_confusion(options.output_confusion, confusions, {task: one["classes"] for task, one in final.items()}, chosen)
    drawn = {
        "epochs": epochs,
        "trained": trained,
        "chosen": chosen,
        "scores": scores,
        "losses": losses,
        "confusions": confusions,
    }
    inputs = [options.metrics, *options.evaluations, *options.cards]
    figures = [options.output_scores, options.output_losses, options.output_confusion]
    record_figures(options.output_record, "draw_training", drawn, figures, inputs)


def split_loss(loss: dict | None) -> tuple[float, float, float]:
    """Cross-entropy with own labels, or entropy and divergence of materialized ones; NaN is what there was not."""
    if loss is None:
        return np.nan, np.nan, np.nan
    if loss["labels"] == "given":
        return loss["cross_entropy"], np.nan, np.nan
    return np.nan, loss["label_entropy"], loss["divergence"]


if __name__ == "__main__":
    run_stage(main)
