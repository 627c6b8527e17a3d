"""Random changes to training images, drawn per sample and reproducible."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; zeros and False switch a part off.

    Attributes:
        horizontal_flip: mirror half of the images. Wrong for tasks that tell left from right.
        shift: largest shift in pixels, either way, along each axis; the border is repeated.
        brightness: largest relative change of brightness, such as 0.2.
        contrast: largest relative change of contrast.
    """

    horizontal_flip: bool = False
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def active(self) -> bool:
        """Whether any part is switched on."""
        return bool(self.horizontal_flip or self.shift or self.brightness or self.contrast)

    def draw(self, n_samples: int, seed: int) -> np.ndarray:
        """Draw the changes of an epoch, one row per sample in the order of training.

        All of an epoch is drawn at once, so that it depends neither on the batch size nor on how
        many processes load the data.

        Args:
            n_samples: n, in the epoch.
            seed: at least 0.

        Returns:
            float64 of shape (n, 5): flip (0 or 1), shift down, shift right, brightness factor
            and contrast factor; shifts are whole pixels.
        """
        rng = np.random.default_rng(seed)
        uniform = rng.random((n_samples, 5))
        changes = np.empty_like(uniform)
        changes[:, 0] = (uniform[:, 0] < 0.5) & self.horizontal_flip
        changes[:, 1:3] = np.floor(uniform[:, 1:3] * (2 * self.shift + 1)) - self.shift
        changes[:, 3] = 1 + self.brightness * (2 * uniform[:, 3] - 1)
        changes[:, 4] = 1 + self.contrast * (2 * uniform[:, 4] - 1)
        return changes


def augment_images(images: Tensor, changes: np.ndarray, augmentation: Augmentation) -> Tensor:
    """Apply drawn changes to a batch, with the kernels of torchvision's transforms v2.

    Args:
        images: uint8 (B, C, H, W).
        changes: rows of `Augmentation.draw`, shape (B, 5).
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
    return images
