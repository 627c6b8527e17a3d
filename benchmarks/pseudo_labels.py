"""How good the label vectors of every method were, where the labels are known but held back.

    python -m benchmarks.pseudo_labels results/faces

Reads weights, labels and transport distances of a finished comparison, and the audit labels of its
manifests; prints Markdown, the mean over seeds and epochs per method and task:

    right         share of pseudo labels that are the true class
    confidence    mean w^c, what the network believes that share to be
    right by w    the same, every sample counted as often as its w says (what MTL-SA bets on)
    low, high     the same in the lowest and the highest fifth of w
    mean w        of the selection weights
    on truth      mass that the training label puts on the true class, and
    soft on truth what the soft label (at the method's temperature) puts there
    w^g           range of the distribution weight within one epoch
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from stages.command.wording import DASH, format_table
from stages.core.audit import audit_weights
from stages.storage.contracts import LABELS, WEIGHTS
from stages.storage.datasets import read_audit_labels
from stages.storage.tables import Table, read_metadata, read_table

COLUMNS = (
    *("right", "confidence", "right by w", "low", "high", "mean w"),
    *("on truth", "soft on truth", "least w^g", "largest w^g"),
)


def describe_labels(weights: Table, labels: Table, truth: np.ndarray) -> dict[str, float]:
    """The figures of one task in one epoch; `truth` holds class names, shape (n,)."""
    classes = np.array(weights.metadata["classes"], dtype=object)
    known = np.isin(truth, classes)
    index = np.array([list(classes).index(name) for name in truth[known]])
    correct = weights["pseudo_class"][known] == truth[known]
    w = weights["selection_weight"][known]
    rows = np.arange(len(index))
    figures = {
        "right": correct.mean(),
        "confidence": weights["confidence_weight"][known].mean(),
        "mean w": w.mean(),
        "on truth": labels["training_label"][known][rows, index].mean(),
        "soft on truth": labels["soft_label"][known][rows, index].mean(),
    }
    if w.sum() > 0:
        figures["right by w"] = (w * correct).sum() / w.sum()
    if np.ptp(w) > 0:
        fifths = audit_weights(correct.astype(bool), {"w": w})
        figures["low"], figures["high"] = (fifths[place]["pseudo_label_accuracy"] for place in (0, -1))
    distribution = weights["distribution_weight"]
    if np.isfinite(distribution).any():
        figures["least w^g"], figures["largest w^g"] = np.nanmin(distribution), np.nanmax(distribution)
    return figures


def main() -> None:
    """Print one row per method and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of an experiment")
    parser.add_argument("--first-epoch", type=int, default=1, help="epochs before it are left out")
    options = parser.parse_args()
    collected: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for path in sorted(options.results.glob("seed-*/*/epoch-*/**/weights.parquet")):
        _, method, epoch, task, *_ = path.relative_to(options.results).parts
        dataset = read_metadata(path)["dataset"]
        if int(epoch.removeprefix("epoch-")) < options.first_epoch:
            continue
        try:
            *_, truth = read_audit_labels(str(options.results / f"data/{dataset}/audit/train.parquet"), task)
        except ValueError:
            continue
        weights, labels = read_table(path, WEIGHTS), read_table(path.with_name("labels.parquet"), LABELS)
        collected[task, method].append(describe_labels(weights, labels, truth))
    rows = []
    for (task, method), figures in sorted(collected.items()):
        means = [np.mean([one[name] for one in figures if name in one] or [np.nan]) for name in COLUMNS]
        rows.append([task, method, *(DASH if np.isnan(mean) else f"{mean:.3f}" for mean in means)])
    print(format_table(["task", "method", *COLUMNS], rows), end="")


if __name__ == "__main__":
    main()
