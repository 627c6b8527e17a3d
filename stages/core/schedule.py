"""The learning rate over a whole run, of which an epoch is a part."""

import math
from dataclasses import dataclass

SHAPES = ("constant", "cosine")


@dataclass(frozen=True)
class RateSchedule:
    """A linear warm-up from 0, then a constant rate or half a cosine down to 0.

    Attributes:
        learning_rate: the highest.
        shape: one of `SHAPES`.
        warmup: share of the run that it takes, at least 0 and below 1.
    """

    learning_rate: float
    shape: str = "constant"
    warmup: float = 0.0

    def find_rate(self, progress: float) -> float:
        """The learning rate at a share of the run, from 0 to 1."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        if self.shape == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2

    def list_rates(self, n_steps: int, part: tuple[float, float] = (0.0, 1.0)) -> list[float]:
        """The learning rates of the steps of a part of the run, each at the middle of its step.

        Args:
            n_steps: into which the part is divided.
            part: shares of the run at which it begins and ends.
        """
        start, end = part
        return [self.find_rate(start + (end - start) * (step + 0.5) / n_steps) for step in range(n_steps)]
