"""Cartoon faces drawn in code: a dataset with nothing to download."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.core.faces import EXPRESSIONS, POSES, STYLES, draw_face
from stages.core.seeds import derive_seed
from stages.sources.base import SPLITS, Manifest, Sample, Tolerance, build_manifest

CLASSES = {"expression": EXPRESSIONS, "pose": POSES}
FREQUENCIES = {"expression": (0.18, 0.23, 0.22, 0.20, 0.17), "pose": (0.17, 0.20, 0.26, 0.20, 0.17)}


@dataclass(frozen=True)
class FaceLoader:
    """Draws the face that a virtual path such as `train/000012.png` stands for."""

    seed: int
    style: str

    def __call__(self, sample: Sample, size: int) -> Image.Image:
        """Draw one face at the size it is used in."""
        split, name = sample.path.split("/")
        rng, labels = self.start(split, int(name.removesuffix(".png")))
        return Image.fromarray(draw_face(rng, **labels, style=self.style, size=size))

    def find_file(self, sample: Sample) -> None:
        """No file."""

    def start(self, split: str, number: int) -> tuple[np.random.Generator, dict[str, str]]:
        """The random generator of one face, and the face's class for either task."""
        rng = np.random.default_rng(derive_seed(self.seed, 0, f"face/{self.style}/{split}/{number}"))
        drawn = {task: rng.choice(len(names), p=FREQUENCIES[task]) for task, names in CLASSES.items()}
        if number < len(EXPRESSIONS):
            # So that the smallest dataset has every class.
            drawn = {"expression": number, "pose": 2 * number % len(POSES)}
        return rng, {task: CLASSES[task][index] for task, index in drawn.items()}


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Faces by `seed`, `style` and `samples`; the class for the other task is an audit label.

    Face i of a split depends on seed, style, split and i, not on how many there are.

    Raises:
        ValueError: the task or the style is not one of the drawn ones.
    """
    task, style = settings["task"], settings["style"]
    if task not in CLASSES:
        raise ValueError(f"synthetic_faces are labelled for {' or '.join(CLASSES)}, not for '{task}'; correct `task`")
    if style not in STYLES:
        raise ValueError(f"synthetic_faces have no style '{style}'; set `style` to {' or '.join(STYLES)}")
    load = FaceLoader(settings.get("seed", 0), style)
    samples = []
    for split in SPLITS:
        for number in range(settings["samples"][split]):
            labels = load.start(split, number)[1]
            label = labels.pop(task)
            samples.append(Sample(f"{split}/{number:06d}.png", label, split, labels))
    return build_manifest(samples, load, settings, "synthetic_faces")
