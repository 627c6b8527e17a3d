"""A model card: what a network is for, what it learned from, and how good it is (Mitchell et al., 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.command.wording import format_percent, format_table
from stages.core.comparison import (
    INTERVAL_PERCENT,
    SCORES,
    SPLITS,
    Run,
    find_best_epoch,
    student_interval,
    summarize_seeds,
)
from stages.core.specification import NetworkSpecification

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {
    # Markdown leaves code as it is.
    "quote": lambda name: f"`{' '.join(name.split())}`",
    "number": "{:g}".format,
    "hex": lambda digest: digest.removeprefix("sha256:"),
}


@dataclass(frozen=True)
class CardData:
    """One split of one dataset.

    Attributes:
        dataset: its name.
        split: train, validation or test.
        source: how it was read, and where its publisher gives it out, if it has one.
        n_images: usable images.
        class_counts: by task that the dataset is labelled for, images by class, in index order.
        digest: of the prepared images.
        n_skipped: files that were no usable images.
        cropped: whether its images are boxes cut out of larger ones.
    """

    dataset: str
    split: str
    source: str
    n_images: int
    class_counts: Mapping[str, Mapping[str, int]]
    digest: str
    n_skipped: int
    cropped: bool


def format_model_card(
    specification: NetworkSpecification,
    *,
    title: str,
    seed: int,
    method: Mapping,
    settings: Mapping,
    data: Sequence[CardData],
    runs: Sequence[Run],
    selected_epochs: Mapping[int, int],
    select: str,
    export: Mapping,
    n_parameters: int,
    network_digest: str,
    checkpoint: Mapping,
    pretrained_licence: str | None,
) -> str:
    """The card as Markdown.

    Args:
        specification: of the network.
        title: of the card.
        seed: of this network's run.
        method: row of workflow/methods.yaml, with its name as `name`.
        settings: of the experiment, as far as they decide what the network is.
        data: the splits of every dataset.
        runs: of the method, one per seed; that of `seed` is among them.
        selected_epochs: by seed the epoch whose network is the final one.
        select: what selected it, `validation` or `last`.
        export: report of the ONNX export.
        n_parameters: of the network.
        network_digest: of `network.safetensors`.
        checkpoint: card of the network's checkpoint.
        pretrained_licence: what is to be said of the pretrained weights; None without such.
    """
    height, width, channels = specification.image_shape
    return _ENVIRONMENT.get_template("model_card.md.jinja").render(
        title=title,
        seed=seed,
        method=method,
        network=specification,
        tasks=specification.tasks,
        height=height,
        width=width,
        channels=channels,
        n_parameters=n_parameters,
        network_digest=network_digest,
        export=export,
        data=data,
        datasets_of={
            task: list(dict.fromkeys(split.dataset for split in data if task in split.class_counts))
            for task in specification.tasks
        },
        source_of={split.dataset: split.source for split in data},
        cropped=list(dict.fromkeys(split.dataset for split in data if split.cropped)),
        data_table=_format_data(data),
        choice=_describe_choice(next(run for run in runs if run.seed == seed), selected_epochs[seed], select),
        n_runs=len(runs),
        results_table=_format_results(runs, selected_epochs),
        pretrained_licence=pretrained_licence,
        checkpoint=checkpoint,
        settings=yaml.safe_dump(
            {"method": dict(method), "settings": dict(settings)}, sort_keys=False, allow_unicode=True
        ),
    )


def _format_data(data: Sequence[CardData]) -> str:
    rows = [
        [
            split.dataset,
            split.split,
            str(split.n_images),
            str(split.n_skipped),
            split.digest.removeprefix("sha256:"),
        ]
        for split in data
    ]
    return format_table(["dataset", "split", "images", "unusable files", "SHA-256"], rows)


def _format_results(runs: Sequence[Run], selected_epochs: Mapping[int, int]) -> str:
    # Of every task, and where several datasets know it, of each of these.
    parts = [*((task, None) for task in runs[0].tasks), *runs[0].by_dataset]
    names = [task if dataset is None else f"{task} of {dataset}" for task, dataset in parts]
    scores = np.concatenate(
        [
            np.concatenate([run.scores, *(part[:, None] for part in run.by_dataset.values())], axis=1)[
                run.epochs == selected_epochs[run.seed]
            ]
            for run in runs
        ]
    )
    rows = [
        [str(run.seed), str(selected_epochs[run.seed]), name, *(f"{100 * score:.1f}" for score in of_part.reshape(-1))]
        for run, of_run in zip(runs, scores, strict=True)
        for name, of_part in zip(names, of_run, strict=True)
    ]
    if len(runs) > 1:
        summary = zip(names, *summarize_seeds(scores), *student_interval(scores), strict=True)
        for task, *cells in summary:
            cells = list(zip(*(values.reshape(-1) for values in cells), strict=True))
            rows.append(["mean", "", task, *(format_percent(mean, deviation) for mean, deviation, _, _ in cells)])
            rows.append(
                [
                    f"{INTERVAL_PERCENT} %",
                    "",
                    task,
                    *(f"[{100 * low:.2f}, {100 * high:.2f}]" for *_, low, high in cells),
                ]
            )
    header = [f"{split} {name.replace('macro_f1', 'macro-F1')}" for split in SPLITS for name in SCORES]
    return format_table(["seed", "epoch", "task", *header], rows)


def _describe_choice(run: Run, epoch: int, select: str) -> str:
    whose = f"epoch {epoch}" if epoch else "the joint training, epoch 0"
    if select == "validation":
        return (
            f"The network is that of {whose}, which was the best on validation, on average over the tasks;\n"
            "the test split had no say."
        )
    validation_accuracy = run.scores[:, :, SPLITS.index("validation"), SCORES.index("accuracy")]
    best = run.epochs[find_best_epoch(validation_accuracy)]
    # Backwards, because the earliest of equals is the best one.
    beaten = find_best_epoch(validation_accuracy[::-1]) != 0
    better = f"; on validation, on average over the tasks, epoch {best} did better" if beaten else ""
    return f"The network is that of {whose}, the last{better}."
