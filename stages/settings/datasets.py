"""The keys of a dataset, by its source: one class for each reader in stages/sources."""

from functools import reduce
from operator import or_
from typing import Annotated, Literal

from pydantic import Field

from stages.settings.section import OPTIONAL, UNIQUE, Name, Section, Seed, Share, either, number

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


class FaceSamples(Section):
    """How many faces are drawn."""

    train: int = Field(ge=2, description="Faces to train on.")
    validation: int = Field(ge=2, description="Faces to choose an epoch by.")
    test: int = Field(ge=2, description="Faces to report on.")


class SyntheticFaces(Dataset):
    """Cartoon faces drawn in code."""

    source: Literal["synthetic_faces"] = SOURCE
    task: Literal["expression", "pose"] = Field(description="What the drawn faces are labelled for.")
    style: Literal["dark_noisy", "bright_clean"] = Field(description="How the faces look.")
    seed: Annotated[Seed, OPTIONAL] = Field(
        None, description="Of the faces; datasets with different seeds share none. 0 where it is left out."
    )
    samples: FaceSamples = Field(description=FaceSamples.__doc__)


class ImageFolder(ThinnedDataset):
    """A folder for each class."""

    source: Literal["image_folder"] = SOURCE
    path: str = Field(description="Folder below `data_root`.")
    split: either(text=Literal["folders"], section=RatioSplit) = Field(
        description="`folders` where train/ and test/ hold the class folders, or a ratio."
    )
    validation: Validation = None


class TableColumns(Section):
    """What the columns are called."""

    path: str = Field(description="Column of image paths.")
    label: str = Field(description="Column of the task's labels.")
    split: Annotated[str, OPTIONAL] = Field(None, description="Column that says train, validation or test.")
    audit: Annotated[dict[Name, str], OPTIONAL] = Field(
        None, description="Column by task, for labels that are known but never trained on."
    )


class Table(ThinnedDataset):
    """A CSV or Parquet file with a row for each image."""

    source: Literal["table"] = SOURCE
    path: str = Field(description="CSV or Parquet file below `data_root`.")
    images: Annotated[str, OPTIONAL] = Field(
        None, description="Folder of the images below `data_root`; the table's own where it is left out."
    )
    columns: TableColumns = Field(description=TableColumns.__doc__)
    split: either(text=Literal["column"], section=RatioSplit) = Field(
        description="`column` to take `columns.split`, or a ratio."
    )
    validation: Validation = None


class Aflw(ThinnedDataset):
    """Annotated Facial Landmarks in the Wild."""

    source: Literal["aflw"] = SOURCE
    path: PublishedPath
    images: Annotated[str, OPTIONAL] = Field(
        None, description="Folder of the images below `path`; flickr where it is left out."
    )
    yaw_edges: Annotated[list[number(ge=-180, le=180)], Field(min_length=4, max_length=4), UNIQUE, OPTIONAL] = Field(
        None,
        description="Degrees between left profile, left, frontal, right and right profile, rising; "
        "-60, -30, 30, 60 where it is left out.",
    )
    margin: Margin = None
    split: FifthForTesting = None
    validation: Validation = None


class DeepFashion(ThinnedDataset):
    """Clothes of DeepFashion's category and attribute prediction."""

    source: Literal["deepfashion"] = SOURCE
    path: PublishedPath
    crop: Annotated[bool, OPTIONAL] = Field(
        None, description="Whether the clothes are cut out of the image; true where it is left out."
    )
    margin: Margin = None
    split: SixthForTesting = None
    validation: FifthForValidation = None


class Expw(ThinnedDataset):
    """Expression in the Wild."""

    source: Literal["expw"] = SOURCE
    path: PublishedPath
    margin: Margin = None
    split: FifthForTesting = None
    validation: Validation = None


class FerPlus(ThinnedDataset):
    """FER2013 with the labels of FER+; its splits are published."""

    source: Literal["ferplus"] = SOURCE
    path: PublishedPath


class Peta(ThinnedDataset):
    """Pedestrians of PETA's ten parts."""

    source: Literal["peta"] = SOURCE
    path: PublishedPath
    split: SixthForTesting = None
    validation: FifthForValidation = None


class Sfew(ThinnedDataset):
    """Static Facial Expressions in the Wild; its test split is published."""

    source: Literal["sfew"] = SOURCE
    path: PublishedPath
    validation: Validation = None


SOURCES = (SyntheticFaces, ImageFolder, Table, Aflw, DeepFashion, Expw, FerPlus, Peta, Sfew)
AnyDataset = Annotated[reduce(or_, SOURCES), Field(discriminator="source")]
