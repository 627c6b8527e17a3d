"""What new data suggest: settings that depend on the number, size and colour of their images."""

import math
from collections.abc import Sequence
from typing import Any

LARGEST_SIDE, SMALLEST_SIDE, SIDE_STEP = 224, 32, 16
LARGEST_TINY = 64
"""Pixels up to which vgg_tiny will do."""
LEAST_ELONGATED = 1.5
"""From this ratio of the sides on images are not made square."""

Change = tuple[Any, str | None]
"""A value, and its comment where it is not to be that of the default config."""


def propose_settings(medians: Sequence[tuple[int, int]], *, grey: bool, n_train: Sequence[int]) -> dict[str, Change]:
    """Settings by key, such as `images.height`, that depend on the data.

    Args:
        medians: median width and height of each dataset's images, in pixels.
        grey: whether all images are grey.
        n_train: training samples of each dataset.
    """
    width, height = min(medians, key=math.prod)
    ratio = math.exp(sum(math.log(high / wide) for wide, high in medians) / len(medians))
    elongation = max(ratio, 1 / ratio)
    short = min(width, height)
    long = short * (elongation if elongation >= LEAST_ELONGATED else 1)
    scale = min(1, LARGEST_SIDE / long)
    short, long = (max(SMALLEST_SIDE, int(side * scale) // SIDE_STEP * SIDE_STEP) for side in (short, long))
    tiny = long <= LARGEST_TINY
    changes = {
        "images.height": (long if ratio > 1 else short, f"pixels; the smallest images' median is {width} x {height}"),
        "images.width": (short if ratio > 1 else long, None),
        "images.channels": (1 if grey and tiny else 3, None),
        "training.epochs": (6 * len(medians), None),
        "training.initial_epochs": (3, None),
        "training.learning_rate": (0.001 if tiny else 0.0001, None),
        "training.augmentation.shift": (short // SIDE_STEP, None),
        "mixture.components": (min(5, *n_train), None),
        "network.backbone": ("vgg_tiny", None),
    }
    if not tiny:
        changes["network.backbone"] = ("vgg16", "or another of torchvision's, such as resnet18; wants a GPU")
        hint = (
            "better: VGG16_Weights.IMAGENET1K_V1 (ImageNet, 528 MB to download), or a local .pth or .safetensors file"
        )
        changes["network.pretrained"] = (None, hint)
    return changes
