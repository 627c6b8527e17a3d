"""What the keys of datasets share; those of a source are a class beside its reader, in stages/data/sources."""

from typing import Annotated

from pydantic import Field

from stages.settings.section import OPTIONAL, UNIQUE, Name, Section, Seed, Share, number

SOURCE = Field(description="What reads the dataset.")


class RatioSplit(Section):
    """A seeded, stratified split."""

    test: number(gt=0, le=0.9) = Field(description="Share of the test split.")
    seed: Seed = Field(0, description="Of the split.")


class Dataset(Section):
    """What all sources take."""

    task: Name = Field(description="What the labels say: your name for it, another one for each dataset.")
    source: str = SOURCE
    classes: Annotated[list[str], Field(min_length=2), UNIQUE, OPTIONAL] = Field(
        None, description="Class names in index order; sorted names where it is left out."
    )


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
