"""Estimate how many pseudo labels are right, without their samples' labels, and how much they shall count.

Reads what the network of the previous epoch says of the unlabeled samples, the labels of the others, and
of its metrics those on validation splits.
"""

from stages.command.stage import run_stage, stage_parser
from stages.core.errors import UserError
from stages.core.reliability import (
    BALANCES,
    ESTIMATES,
    compare_sizes,
    estimate_accuracy,
    rate_accuracy,
)
from stages.core.seeds import derive_seed
from stages.core.selection import soften_labels
from stages.storage.contracts import EVALUATION, RELIABILITY
from stages.storage.domains import count_labels, read_domain
from stages.storage.files import read_json, write_json
from stages.storage.tables import Provenance


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--task", required=True, help="task whose pseudo labels are looked at")
    parser.add_argument("--features", required=True, metavar="PARQUET", help="soft labels of the dataset being trained")
    parser.add_argument(
        "--labeled", nargs="+", required=True, metavar="PARQUET", help="manifests of all datasets with labels for it"
    )
    parser.add_argument("--metrics", required=True, metavar="JSON", help="of the network that gave the soft labels")
    parser.add_argument("--estimate", choices=ESTIMATES, default="none", help="of the accuracy, that shall count")
    parser.add_argument("--balance", choices=BALANCES, default="none", help="whether numbers of samples shall count")
    parser.add_argument("--seed", type=int, default=0, help="the experiment's seed")
    parser.add_argument("--epoch", type=int, required=True, help="number of the epoch")
    parser.add_argument("--output", required=True, metavar="JSON", help="estimates, and the factor of the strength")
    options = parser.parse_args(argv)
    _, unlabeled = read_domain(options.features, options.task, "soft_label")
    classes = unlabeled.metadata["classes"][options.task]
    counts = count_labels(options.labeled, options.task, classes)
    frequencies = counts / counts.sum()
    held_out = read_json(options.metrics, EVALUATION)["validation"].get(options.task)
    temperature = held_out["temperature"] if held_out else 1.0
    soft_labels = soften_labels(unlabeled[f"soft_label_{options.task}"], temperature)
    seed = derive_seed(options.seed, options.epoch, f"reliability of {options.task}")
    estimates = {
        "validation": held_out["accuracy"] if held_out else None,
        "transport": estimate_accuracy(soft_labels, frequencies, seed),
    }
    chance = float(frequencies.max())
    reliability = balance = 1.0
    if options.estimate != "none":
        if estimates[options.estimate] is None:
            raise UserError(
                f"{options.metrics}: no validation split has a label for '{options.task}'; keep some (`validation` of "
                "a dataset) or set the method's reliability to transport"
            )
        reliability = rate_accuracy(estimates[options.estimate], chance)
    if options.balance == "rows":
        balance = compare_sizes(len(unlabeled), int(counts.sum()))
    content = {
        "task": options.task,
        "dataset": unlabeled.metadata["dataset"],
        "epoch": options.epoch,
        "n_unlabeled": len(unlabeled),
        "n_labeled": int(counts.sum()),
        "frequencies": dict(zip(classes, frequencies.tolist(), strict=True)),
        "temperature": temperature,
        "estimates": estimates,
        "chance": chance,
        "reliability": reliability,
        "balance": balance,
        "strength": reliability * balance,
    }
    recorded = ("task", "estimate", "balance", "seed", "epoch")
    provenance = Provenance(
        "estimate_reliability",
        {name: getattr(options, name) for name in recorded},
        [options.features, options.metrics, *options.labeled],
    )
    write_json(options.output, RELIABILITY, content, provenance)
    listed = ", ".join(f"{value:.0%} by {name}" for name, value in estimates.items() if value is not None)
    print(
        f"reliability of '{options.task}': {listed} of the pseudo labels are right, {chance:.0%} would be by guessing; "
        f"strength times {reliability * balance:.2f}"
    )


if __name__ == "__main__":
    run_stage(main)
