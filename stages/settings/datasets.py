"""What the keys of datasets share; those of a source are a class beside its reader, in stages/data/sources."""

from typing import Annotated

from pydantic import Field

from stages.settings.section import OPTIONAL, UNIQUE, Name, Section, Seed, Share, either, number

SOURCE = Field(description="What reads the dataset.")


ClassNames = either(
    list=Annotated[list[str], Field(min_length=2), UNIQUE],
    section=Annotated[dict[str, list[str]], Field(min_length=2)],
)


class Task(Section):
    """What all datasets that are labelled for a task share."""

    classes: Annotated[ClassNames, OPTIONAL] = Field(
        None,
        description="Class names in index order, or by class the names that sources have for it; a dataset need not "
        "have them all. All names of all datasets, sorted, where it is left out.",
    )
    drop: Annotated[list[str], OPTIONAL] = Field(None, description="Classes whose images are left out.")
    weight: number(gt=0) = Field(1, description="Of the task in the sum that is the loss.")


class RatioSplit(Section):
    """A seeded, stratified split."""

    test: number(gt=0, le=0.9) = Field(description="Share of the test split.")
    seed: Seed = Field(0, description="Of the split.")


class Dataset(Section):
    """What all sources take."""

    task: Annotated[Name, OPTIONAL] = Field(
        None, description="What the labels say: your name for it. Short for `labels` with one task, all known."
    )
    source: str = SOURCE
    known: Annotated[dict[Name, number(gt=0, lt=1)], OPTIONAL] = Field(
        None,
        description="Share of the training labels to train on by task, drawn class by class; the others are held back.",
    )
    classes: Annotated[ClassNames, OPTIONAL] = Field(
        None,
        description="Of the one task: class names in index order, or by class the names that the source has for it; "
        "the source's names, sorted, where it is left out. Of several tasks: see `tasks`.",
    )
    drop: Annotated[list[str], OPTIONAL] = Field(None, description="Classes of the one task whose images are left out.")


class ThinnedDataset(Dataset):
    """What sources take whose images exist."""

    part: Annotated[list[Share], Field(min_length=2, max_length=2), OPTIONAL] = Field(
        None, description="Share of the training images at which the part begins, and at which it ends."
    )
    samples: Annotated[int, OPTIONAL] = Field(
        None, ge=2, description="Training samples to keep, drawn class by class; all where it is left out."
    )
    seed: Annotated[Seed, OPTIONAL] = Field(
        None, description="Of `part`, `validation` and `samples`; 0 where it is left out."
    )


Validation = Annotated[
    number(gt=0, le=0.9),
    Field(
        description="Share of the training samples kept for validation, where the source names no such split; "
        "a tenth where it is left out."
    ),
    OPTIONAL,
]
FifthForValidation = Annotated[
    number(gt=0, le=0.9),
    Field(description="Share of the training samples kept for validation; a fifth where it is left out."),
    OPTIONAL,
]
FifthForTesting = Annotated[
    RatioSplit, Field(description="Seeded, stratified split; a fifth for testing where it is left out."), OPTIONAL
]
SixthForTesting = Annotated[
    RatioSplit, Field(description="Seeded, stratified split; a sixth for testing where it is left out."), OPTIONAL
]
PublishedPath = Annotated[
    str, Field(description="Folder below `data_root` that the publisher's archives are unpacked in.")
]
Margin = Annotated[
    number(ge=0, le=10),
    Field(description="Share of a box's size that is added on each side; 0 where it is left out."),
    OPTIONAL,
]
