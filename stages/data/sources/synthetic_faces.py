"""Cartoon faces drawn in code: a dataset with nothing to download."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.seeds import derive_seed
from stages.core.task_labels import list_labels
from stages.data.sources.base import SPLITS, Manifest, Sample, Tolerance, build_manifest
from stages.data.sources.labels import hold_back, rename_labels
from stages.data.sources.reader import Reader
from stages.settings.datasets import SOURCE, Dataset
from stages.settings.section import OPTIONAL, Name, Section, Seed

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FREQUENCIES = {"expression": (0.18, 0.23, 0.22, 0.20, 0.17), "pose": (0.17, 0.20, 0.26, 0.20, 0.17)}


Kind = Literal["expression", "pose"]


class FaceSamples(Section):
    """How many faces are drawn."""

    train: int = Field(ge=2, description="Faces to train on.")
    validation: int = Field(ge=2, description="Faces to choose an epoch by.")
    test: int = Field(ge=2, description="Faces to report on.")


class SyntheticFaces(Dataset):
    """Cartoon faces drawn in code.

    `style: dark_noisy` or `bright_clean`, `seed`, `samples: {train: n, validation: n, test: n}`; the task is
    `expression` or `pose`, or `labels: {mood: expression, pose: pose}` names one or both; the other is held back.
    """

    source: Literal["synthetic_faces"] = SOURCE
    task: Annotated[Kind, OPTIONAL] = Field(None, description="What the drawn faces are labelled for.")
    labels: Annotated[dict[Name, Kind], OPTIONAL] = Field(
        None, description="What they are labelled for, by task. In the place of `task`."
    )
    style: Literal["dark_noisy", "bright_clean"] = Field(description="How the faces look.")
    seed: Annotated[Seed, OPTIONAL] = Field(
        None, description="Of the faces; datasets with different seeds share none. 0 where it is left out."
    )
    samples: FaceSamples = Field(description=FaceSamples.__doc__)


@dataclass(frozen=True)
class FaceLoader:
    """Draws the face that a virtual path such as `train/000012.png` stands for."""

    seed: int
    style: str

    def __call__(self, sample: Sample, size: int) -> "Image.Image":
        """Draw one face at the size it is used in."""
        from PIL import Image

        from stages.data.sources.faces import draw_face

        split, name = sample.path.split("/")
        rng, labels = self.start(split, int(name.removesuffix(".png")))
        return Image.fromarray(draw_face(rng, **labels, style=self.style, size=size))

    def find_file(self, sample: Sample) -> None:
        """No file."""

    def start(self, split: str, number: int) -> "tuple[np.random.Generator, dict[str, str]]":
        """The random generator of one face, and the face's class for either task."""
        import numpy as np

        classes = list_classes()
        rng = np.random.default_rng(derive_seed(self.seed, 0, f"face/{self.style}/{split}/{number}"))
        drawn = {task: rng.choice(len(names), p=FREQUENCIES[task]) for task, names in classes.items()}
        if number < len(classes["expression"]):
            # So that the smallest dataset has every class.
            drawn = {"expression": number, "pose": 2 * number % len(classes["pose"])}
        return rng, {task: classes[task][index] for task, index in drawn.items()}


def list_classes() -> dict[str, tuple[str, ...]]:
    """Class names by task."""
    from stages.data.sources.faces import EXPRESSIONS, POSES

    return {"expression": EXPRESSIONS, "pose": POSES}


def read(settings: Mapping[str, Any], data_root: Path, tolerance: Tolerance) -> Manifest:
    """Faces by `seed`, `style` and `samples`; what they are not labelled for is an audit label.

    Face i of a split depends on seed, style, split and i, not on how many there are.

    Raises:
        ValueError: the task or the style is not one of the drawn ones.
    """
    from stages.data.sources.faces import STYLES

    tasks, style = list_labels(settings), settings["style"]
    if unknown := set(tasks.values()) - set(FREQUENCIES):
        raise UserError(
            f"synthetic_faces are labelled for {' or '.join(FREQUENCIES)}, not for '{unknown.pop()}'; correct `task`"
        )
    if style not in STYLES:
        raise UserError(f"synthetic_faces have no style '{style}'; set `style` to {' or '.join(STYLES)}")
    load = FaceLoader(settings.get("seed", 0), style)
    samples = []
    for split in SPLITS:
        for number in range(settings["samples"][split]):
            drawn = load.start(split, number)[1]
            labels = {task: drawn[kind] for task, kind in tasks.items()}
            held_back = {kind: label for kind, label in drawn.items() if kind not in tasks.values()}
            samples.append(Sample(f"{split}/{number:06d}.png", labels, split, held_back))
    samples = rename_labels(samples, settings, "synthetic_faces")
    samples = hold_back(samples, settings.get("known", {}), settings.get("seed", 0), "synthetic_faces")
    return build_manifest(samples, load, settings, "synthetic_faces")


def _list_audited_tasks(settings: Mapping[str, Any]) -> list[str]:
    held_back = [kind for kind in FREQUENCIES if kind not in list_labels(settings).values()]
    return list(dict.fromkeys([*held_back, *settings.get("known", {})]))


READER = Reader(
    read=read,
    settings=SyntheticFaces,
    origin="drawn by this project's code.",
    audited_tasks=_list_audited_tasks,
)
