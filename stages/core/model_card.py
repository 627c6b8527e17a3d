"""A model card: what a network is for, what it learned from, and how good it is (Mitchell et al., 2019)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from stages.core.comparison import (
    INTERVAL_PERCENT,
    SCORES,
    SPLITS,
    Run,
    find_best_epoch,
    student_interval,
    summarize_seeds,
)
from stages.core.network import NetworkSpecification
from stages.core.reports import format_percent, format_table

_CARD = """\
# Model card: {title}, seed {seed}

{what} for {n_tasks} tasks, {tasks}, trained with {method} on datasets that were each labelled for one of them.

## Use

{task_lines}

* `network.safetensors`: {n_parameters:,} parameters, backbone {backbone}. `python -m stages.predict --network
  network.safetensors --images DIR --output predictions.parquet` needs nothing else: classes, image size and
  normalisation are in the file. {network_digest}
* `network.onnx`: input `images`, float32 (batch, {channels}, {height}, {width}), pixel values from 0 to 255{colour};
  normalisation is inside. Outputs `probabilities_<task>` (batch, classes in the order above) and `features_<task>`
  (batch, {head_features}). Largest difference from PyTorch on {n_checked} images: {difference:.1g}.
  {model_digest}
{cropped}* Images of another shape: {fit}. Pixel values in [0, 1] are normalised by
  mean {mean} and standard deviation {std}.

**Intended use**: images like those that it was trained on, for these tasks and classes. It gives a class and a
probability for every image, also for one that shows nothing of the kind.

**Limits**: every task was labelled, and is measured below, on its own dataset only. How good it is at a task on
images like those of the *other* datasets, the tables do not say: label some and run `python -m stages.evaluate`.
Probabilities are not calibrated. Whether the classes and the data are fair to those pictured was not looked at;
decisions about people need more than this.

## Data

{data_table}
The digests are those of the prepared images (`sha256sum data/<dataset>/<split>.npy`). Training images by class:

{class_lines}

## Results

{choice} Accuracy and macro-F1 in percent{other_seeds}:

{results_table}
## Licences

* This project: MIT.
{licences}

## How it was made

Seed {seed}; {versions}; on {device}, {threads} threads. Method, a row of `workflow/methods.yaml`, and settings:

```yaml
{settings}```
"""
_FITS = {
    "stretch": "stretched to {}x{} pixels, whatever their aspect ratio",
    "crop": "the largest centred box of the aspect ratio is scaled to {}x{} pixels",
    "pad": "scaled into {}x{} pixels between black bars",
}


@dataclass(frozen=True)
class CardData:
    """One split of one dataset.

    Attributes:
        dataset: its name.
        task: that it is labelled for.
        split: train, validation or test.
        source: how it was read, and where its publisher gives it out, if it has one.
        class_counts: images by class, in index order.
        digest: of the prepared images.
        n_skipped: files that were no usable images.
        cropped: whether its images are boxes cut out of larger ones.
    """

    dataset: str
    task: str
    split: str
    source: str
    class_counts: Mapping[str, int]
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
    tasks = specification.tasks
    dataset_of = {split.task: split.dataset for split in data}
    digest = "SHA-256 `{}`.".format
    return _CARD.format(
        title=title,
        n_tasks=len(tasks),
        tasks=" and ".join([", ".join(tasks[:-1]), tasks[-1]]),
        method=method["paper_name"],
        what=f"{len(tasks)} networks in one file" if specification.separate else "One network",
        task_lines="\n".join(
            f"* {task}, labelled in {dataset_of[task]}: {', '.join(_quote(specification.classes[task]))}"
            for task in tasks
        ),
        cropped=_describe_crops(data),
        n_parameters=n_parameters,
        backbone=specification.backbone,
        network_digest=digest(network_digest.removeprefix("sha256:")),
        model_digest=digest(next(iter(export["files"].values())).removeprefix("sha256:")),
        channels=channels,
        height=height,
        width=width,
        colour=" in the order red, green, blue" if channels == 3 else " of grey",
        head_features=specification.head_features,
        n_checked=export["n_images"],
        difference=max(export["maximum_difference"].values()),
        mean=_list_numbers(specification.mean),
        std=_list_numbers(specification.std),
        fit=_FITS[specification.fit].format(height, width),
        data_table=_format_data(data),
        class_lines="\n".join(
            f"* {split.dataset} ({split.task}): {_list_counts(split.class_counts)}"
            for split in data
            if split.split == "train"
        ),
        choice=_describe_choice(next(run for run in runs if run.seed == seed), selected_epochs[seed], select),
        other_seeds=", of every seed at the epoch that was chosen in the same way" if len(runs) > 1 else "",
        results_table=_format_results(runs, selected_epochs),
        licences=_list_licences(data, pretrained_licence),
        seed=seed,
        versions=", ".join(f"{name} {version}" for name, version in checkpoint["versions"].items()),
        device=checkpoint["device"],
        threads=checkpoint["threads"],
        settings=yaml.safe_dump(
            {"method": dict(method), "settings": dict(settings)}, sort_keys=False, allow_unicode=True
        ),
    )


def _format_data(data: Sequence[CardData]) -> str:
    rows = [
        [
            split.dataset,
            split.split,
            str(sum(split.class_counts.values())),
            str(split.n_skipped),
            split.digest.removeprefix("sha256:"),
        ]
        for split in data
    ]
    return format_table(["dataset", "split", "images", "unusable files", "SHA-256"], rows)


def _quote(names: Iterable[str]) -> list[str]:
    """Class names as code, which Markdown leaves as they are."""
    return [f"`{' '.join(name.split())}`" for name in names]


def _describe_crops(data: Sequence[CardData]) -> str:
    cropped = list(dict.fromkeys(split.dataset for split in data if split.cropped))
    if not cropped:
        return ""
    return (
        f"* The images of {' and '.join(cropped)} were cut out of larger ones by their publisher's boxes.\n"
        "  Cut out what is to be predicted in the same way.\n"
    )


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(_quote(counts), counts.values(), strict=True))


def _list_numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _format_results(runs: Sequence[Run], selected_epochs: Mapping[int, int]) -> str:
    scores = np.concatenate([run.scores[run.epochs == selected_epochs[run.seed]] for run in runs])
    rows = [
        [str(run.seed), str(selected_epochs[run.seed]), task, *(f"{100 * score:.1f}" for score in of_task.reshape(-1))]
        for run, of_run in zip(runs, scores, strict=True)
        for task, of_task in zip(run.tasks, of_run, strict=True)
    ]
    if len(runs) > 1:
        summary = zip(runs[0].tasks, *summarize_seeds(scores), *student_interval(scores), strict=True)
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
    names = [f"{split} {name.replace('macro_f1', 'macro-F1')}" for split in SPLITS for name in SCORES]
    return format_table(["seed", "epoch", "task", *names], rows)


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


def _list_licences(data: Sequence[CardData], pretrained_licence: str | None) -> str:
    lines = [f"* Pretrained weights: {pretrained_licence}"] if pretrained_licence else []
    sources = {split.dataset: split.source for split in data}
    lines += [f"* Data of {dataset}: {source}" for dataset, source in sources.items()]
    return "\n".join(lines)
