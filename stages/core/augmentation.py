"""Random changes to training images, drawn per sample and reproducible."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

POLICIES = {"trivial_augment": "TrivialAugmentWide", "rand_augment": "RandAugment"}
"""Classes of torchvision's transforms v2 by the name of a policy."""
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
"""What policies do that may change a pose."""
GREY = 127
"""What erased rectangles are filled with."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; zeros and False switch a part off.

    Attributes:
        horizontal_flip: mirror half of the images. Wrong for tasks that tell left from right.
        shift: largest shift in pixels, either way, along each axis; the border is repeated.
        brightness: largest relative change of brightness, such as 0.2.
        contrast: largest relative change of contrast.
        crop: smallest share of the area that a random crop keeps, which is scaled to the image's size; 1 crops nothing.
        rotation: largest angle in degrees, either way.
        policy: none, or one of `POLICIES`: random changes of colours and sharpness.
        geometric: whether the policy may shear, move and rotate, too. Wrong for poses, like crop and rotation.
        erasing: probability that a rectangle is painted grey.
    """

    horizontal_flip: bool = False
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    crop: float = 1.0
    rotation: float = 0.0
    policy: str = "none"
    geometric: bool = False
    erasing: float = 0.0

    @property
    def active(self) -> bool:
        """Whether any part is switched on."""
        return bool(self.horizontal_flip or self.shift or self.brightness or self.contrast or self.transforms)

    @property
    def transforms(self) -> bool:
        """Whether any part is left to torchvision's own random transforms."""
        return bool(self.crop < 1 or self.rotation or self.policy != "none" or self.erasing)

    def draw(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw the changes of an epoch, one row per sample in the order of training.

        All of an epoch is drawn at once, so that it depends neither on the batch size nor on how
        many processes load the data.

        Args:
            n_samples: n, in the epoch.
            seed: at least 0.

        Returns:
            float64 of shape (n, 6): flip (0 or 1), shift down, shift right, brightness factor,
            contrast factor, and a seed for all else; shifts are whole pixels, seeds whole numbers.
        """
        rng = np.random.default_rng(seed)
        uniform = rng.random((n_samples, 5))
        changes = np.empty((n_samples, 6))
        changes[:, 0] = (uniform[:, 0] < 0.5) & self.horizontal_flip
        changes[:, 1:3] = np.floor(uniform[:, 1:3] * (2 * self.shift + 1)) - self.shift
        changes[:, 3] = 1 + self.brightness * (2 * uniform[:, 3] - 1)
        changes[:, 4] = 1 + self.contrast * (2 * uniform[:, 4] - 1)
        changes[:, 5] = rng.integers(0, 2**53, n_samples)
        return changes


def augment_images(images: Tensor, changes: np.ndarray, augmentation: Augmentation) -> Tensor:
    """Apply drawn changes to a batch, with the kernels of torchvision's transforms v2.

    Args:
        images: uint8 (B, C, H, W).
        changes: rows of `Augmentation.draw`, shape (B, 6).
        augmentation: which parts are on.

    Returns:
        uint8 (B, C, H, W); `images` itself where nothing is on.
    """
    if not augmentation.active:
        return images
    # Imported here because torchvision takes as long to import as torch itself.
    from torchvision.transforms.v2 import functional as transforms

    height, width = images.shape[-2:]
    if augmentation.horizontal_flip:
        flipped = torch.from_numpy(changes[:, 0] == 1)
        images = images.clone()
        images[flipped] = transforms.horizontal_flip(images[flipped])
    if augmentation.shift:
        reach = augmentation.shift
        padded = transforms.pad(images, [reach] * 4, padding_mode="edge")
        images = torch.stack(
            [
                transforms.crop(image, reach - int(down), reach - int(right), height, width)
                for image, (down, right) in zip(padded, changes[:, 1:3], strict=True)
            ]
        )
    if augmentation.brightness:
        images = torch.stack(
            [transforms.adjust_brightness(image, factor) for image, factor in zip(images, changes[:, 3], strict=True)]
        )
    if augmentation.contrast:
        images = torch.stack(
            [transforms.adjust_contrast(image, factor) for image, factor in zip(images, changes[:, 4], strict=True)]
        )
    if augmentation.transforms:
        transform = _build_transforms(augmentation, height, width)
        # They draw from torch's own generator, which the network may draw from as well.
        with torch.random.fork_rng(devices=[]):
            images = torch.stack(
                [_transform(image, transform, int(seed)) for image, seed in zip(images, changes[:, 5], strict=True)]
            )
    return images


def _transform(image: Tensor, transform: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    torch.default_generator.manual_seed(seed)
    return transform(image)


@cache
def _build_transforms(augmentation: Augmentation, height: int, width: int) -> Callable[[Tensor], Tensor]:
    """Torchvision's random transforms that are switched on, in their order."""
    from torchvision.transforms import v2

    parts = []
    if augmentation.crop < 1:
        parts.append(v2.RandomResizedCrop((height, width), scale=(augmentation.crop, 1)))
    if augmentation.rotation:
        parts.append(v2.RandomRotation(augmentation.rotation, v2.InterpolationMode.BILINEAR))
    if augmentation.policy != "none":
        policy = getattr(v2, POLICIES[augmentation.policy])(interpolation=v2.InterpolationMode.BILINEAR)
        if not augmentation.geometric:
            space = policy._AUGMENTATION_SPACE
            policy._AUGMENTATION_SPACE = {name: how for name, how in space.items() if name not in GEOMETRIC}
        parts.append(policy)
    if augmentation.erasing:
        parts.append(v2.RandomErasing(augmentation.erasing, value=GREY))
    return v2.Compose(parts)
