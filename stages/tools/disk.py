"""How much disk an experiment will take, roughly."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_PER_WEIGHT = 4
BYTES_PER_MOMENT = 4
"""Of a weight: Adam keeps two moments, momentum one, and beside an average the last weights stay."""
BYTES_PER_WEIGHT_ROW = 80
"""Of one sample in density.parquet and weights.parquet, after compression."""


@dataclass(frozen=True)
class DatasetSize:
    """What the disk must know of a dataset.

    Attributes:
        n_samples: in all splits.
        n_train: training samples.
        n_epochs: that train on it, where epochs take turns.
        n_lacking: training samples without a label, by task that some of them lack.
        tasks: that it has labels for.
    """

    n_samples: int
    n_train: int
    n_epochs: int
    n_lacking: Mapping[str, int]
    tasks: Collection[str]


def estimate_disk(
    datasets: Sequence[DatasetSize],
    n_classes: Mapping[str, int],
    *,
    image_shape: tuple[int, int, int],
    head_features: int,
    n_parameters: int,
    n_separate_parameters: int,
    n_components: int,
    n_epochs: int,
    n_seeds: int,
    methods: Sequence[Mapping[str, Any]],
    keep_features: bool,
    n_networks: int,
    n_states: int,
    n_moments: int = 2,
) -> dict[str, int]:
    """Bytes by kind of artifact.

    Args:
        datasets: in the order of the config.
        n_classes: C by task.
        image_shape: height and width in pixels, and channels.
        head_features: d.
        n_parameters: of the network.
        n_separate_parameters: of one network per task, together.
        n_components: of each mixture.
        n_epochs: epochs after joint training.
        n_seeds: runs of every method.
        methods: rows of workflow/methods.yaml.
        keep_features: whether features and responsibilities stay; else two epochs' worth do.
        n_networks: epochs of a run whose networks stay; the others go once it is finished.
        n_states: epochs of a run whose states of the optimizer stay; the others go on the way.
        n_moments: numbers that such a state holds for every weight.
    """
    height, width, channels = image_shape
    images = sum(one.n_samples for one in datasets) * height * width * channels
    features = labels = 0
    # Joint training, and separate networks where a method starts from those.
    bytes_per_state = n_moments * BYTES_PER_MOMENT
    initial = {n_separate_parameters if method["schedule"] == "single" else n_parameters for method in methods}
    checkpoints = sum(initial) * (BYTES_PER_WEIGHT + bytes_per_state)
    feature_row = {task: 4 * head_features + 4 * n + 8 for task, n in n_classes.items()}
    for method in methods:
        names = method["selection"] if isinstance(method.get("selection"), list | tuple) else ()
        makes_labels = "selection" in method or "label_transfer" in method
        per_epoch, all_features = [0], 0
        for trained in datasets if makes_labels else ():
            feature_bytes = trained.n_train * sum(feature_row[task] for task in trained.n_lacking)
            label_bytes = sum(
                8 * n_classes[task] * trained.n_train + BYTES_PER_WEIGHT_ROW * n
                for task, n in trained.n_lacking.items()
            )
            if "distribution" in names:
                feature_bytes += sum(
                    other.n_train * feature_row[task]
                    for other in datasets
                    for task in trained.n_lacking
                    if task in other.tasks and other is not trained
                )
                feature_bytes += sum(trained.n_lacking.values()) * 8 * n_components
            per_epoch.append(feature_bytes)
            # Mixed epochs label all datasets.
            n_turns = n_epochs if method["schedule"] == "mixed" else trained.n_epochs
            all_features += n_turns * feature_bytes
            labels += n_turns * label_bytes
        features += all_features if keep_features else 2 * max(per_epoch)
        kept = n_separate_parameters if method["schedule"] == "single" else n_parameters
        # The final network is one more.
        checkpoints += kept * (BYTES_PER_WEIGHT * (n_networks + 1) + bytes_per_state * n_states)
    thinned_at_once = max(initial) * BYTES_PER_WEIGHT * (n_epochs - n_networks)
    return {
        "images": images,
        "features": n_seeds * features,
        "weights and labels": n_seeds * labels,
        "checkpoints": n_seeds * checkpoints + thinned_at_once,
    }


def format_bytes(n_bytes: float) -> str:
    """`12 MB` and the like, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
