"""How much disk an experiment will take, roughly."""

from collections.abc import Mapping, Sequence
from typing import Any

BYTES_PER_WEIGHT = 4
BYTES_PER_STATE = 2 * BYTES_PER_WEIGHT
"""Adam's two moments."""
BYTES_PER_WEIGHT_ROW = 80
"""Of one sample in density.parquet and weights.parquet, after compression."""


def estimate_disk(
    n_samples: Mapping[str, Mapping[str, int]],
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
) -> dict[str, int]:
    """Bytes by kind of artifact.

    Args:
        n_samples: by dataset and split, in the order of the config.
        n_classes: C of each dataset's task, by dataset.
        image_shape: height and width in pixels, and channels.
        head_features: d.
        n_parameters: of the network.
        n_separate_parameters: of one network per task, together.
        n_components: of each mixture.
        n_epochs: alternating epochs.
        n_seeds: runs of every method.
        methods: rows of workflow/methods.yaml.
        keep_features: whether features and responsibilities stay; else two epochs' worth do.
        n_networks: epochs of a run whose networks stay; the others go once it is finished.
        n_states: epochs of a run whose states of Adam stay; the others go on the way.
    """
    height, width, channels = image_shape
    images = sum(n for splits in n_samples.values() for n in splits.values()) * height * width * channels
    features = labels = 0
    # Joint training, and separate networks where a method starts from those.
    initial = {n_separate_parameters if method["schedule"] == "single" else n_parameters for method in methods}
    checkpoints = sum(initial) * (BYTES_PER_WEIGHT + BYTES_PER_STATE)
    for method in methods:
        names = method["selection"] if isinstance(method.get("selection"), list | tuple) else ()
        per_epoch, all_features = [], 0
        for position, (trained, splits) in enumerate(n_samples.items()):
            others = [dataset for dataset in n_samples if dataset != trained]
            n_rows = splits["train"] if "selection" in method or "label_transfer" in method else 0
            feature_bytes = n_rows * sum(4 * head_features + 4 * n_classes[other] + 8 for other in others)
            if "distribution" in names:
                feature_bytes += sum(
                    n_samples[other]["train"] * 4 * (head_features + n_classes[other]) for other in others
                )
                feature_bytes += n_rows * len(others) * 8 * n_components
            per_epoch.append(feature_bytes)
            # Mixed epochs label all datasets.
            n_turns = n_epochs if method["schedule"] == "mixed" else len(range(position, n_epochs, len(n_samples)))
            all_features += n_turns * feature_bytes
            labels += n_turns * n_rows * sum(8 * n_classes[other] + BYTES_PER_WEIGHT_ROW for other in others)
        features += all_features if keep_features else 2 * max(per_epoch)
        kept = n_separate_parameters if method["schedule"] == "single" else n_parameters
        # The final network is one more.
        checkpoints += kept * (BYTES_PER_WEIGHT * (n_networks + 1) + BYTES_PER_STATE * n_states)
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
