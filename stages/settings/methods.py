"""The keys of a method, which is a row of workflow/methods.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.settings.section import OPTIONAL, UNIQUE, Section, Share, either, number

Strength = Annotated[number(ge=0), OPTIONAL]
Criteria = Annotated[
    list[Literal["confidence", "density", "distribution"]],
    Field(min_length=1),
    UNIQUE,
]


class Refinement(Section):
    """A Markov random field on a graph of neighbors."""

    strength: number(ge=0) = Field(description="η, weight of what the neighbors say.")
    neighbors: int = Field(ge=1, description="Of a sample in the graph.")


class RampedStrength(Section):
    """A strength that grows over the first epochs."""

    value: number(ge=0) = Field(description="α once it is grown.")
    ramp: int = Field(ge=1, description="Epoch that reaches it; the epochs before have their share of it.")


class LabelTransfer(Section):
    """Label transfer networks."""

    warmup: int = Field(ge=1, description="Epochs before their labels are used.")


class Regularization(Section):
    """What is added to the loss."""

    laplacian: Strength = Field(None, description="μ of the batch graph's roughness.")
    l21: Strength = Field(None, description="α of the classifiers' l2.1 norms.")
    joint_nuclear: Strength = Field(None, description="β of the stacked classifiers' nuclear norm.")
    task_nuclear: Strength = Field(None, description="β of each classifier's nuclear norm.")
    neighbors: Annotated[int, OPTIONAL] = Field(None, ge=1, description="Of a sample in the batch graph.")


class Method(Section):
    """One method."""

    paper_name: str = Field(description="What the paper's tables call it.")
    schedule: Literal["alternating", "mixed", "single"] = Field(
        description="What an epoch trains on: one dataset, batches of all of them, or one dataset for its task alone."
    )
    selection: Annotated[either(list=Criteria, number=Share), OPTIONAL] = Field(
        None,
        description="Criteria whose product over its maximum is the weight w of a pseudo label, or a constant w.",
    )
    distance: Annotated[Literal["emd", "mmd", "mean"], OPTIONAL] = Field(
        None,
        description="Of a cluster from the labeled domain, for the criterion distribution; emd where it is left out.",
    )
    decay: Annotated[number(ge=0), OPTIONAL] = Field(
        None, description="λ of the criterion distribution; the config's `transport.decay` where it is left out."
    )
    decay_scale: Annotated[Literal["absolute", "median"], OPTIONAL] = Field(
        None, description="Whether λ is per unit of distance (where it is left out) or per median distance."
    )
    sharpness: Annotated[number(gt=0), OPTIONAL] = Field(
        None, description="Power of the product of the criteria; 1 where it is left out."
    )
    alignment: Annotated[Literal["none", "once", "full"], OPTIONAL] = Field(
        None,
        description="Whether soft labels are scaled to the class mix of the labeled samples: not (where it is left "
        "out), once, or until their mean is that mix.",
    )
    temperature: Annotated[number(gt=0), OPTIONAL] = Field(
        None, description="T of the soft labels; the config's `labels.temperature` where it is left out."
    )
    interpolation: Annotated[Literal["soft", "threshold"], OPTIONAL] = Field(
        None, description="How w is used; the config's `labels.interpolation` where it is left out."
    )
    quantile: Annotated[Share, OPTIONAL] = Field(
        None, description="Where threshold selection begins; the config's `labels.quantile` where it is left out."
    )
    strength: Annotated[either(number=number(ge=0), section=RampedStrength), OPTIONAL] = Field(
        None,
        description="α, weight of the loss of samples that train on made labels, against 1 for given ones; 1 where it "
        "is left out.",
    )
    student_temperature: Annotated[number(gt=0), OPTIONAL] = Field(
        None,
        description="By which the scores of these samples are divided, their loss times its square; 1 where it is "
        "left out.",
    )
    normalization: Annotated[Literal["joint", "separate"], OPTIONAL] = Field(
        None,
        description="What the loss of a task is a mean over: given and made labels together (where it is left out), or "
        "each of them apart, the second times α.",
    )
    reliability: Annotated[Literal["none", "validation", "transport"], OPTIONAL] = Field(
        None,
        description="What the accuracy of the pseudo labels is taken for, by which the strength is scaled: that on the "
        "labeled datasets' validation splits, or an estimate by optimal transport; not scaled where it is left out.",
    )
    balance: Annotated[Literal["none", "rows"], OPTIONAL] = Field(
        None,
        description="Whether the strength is scaled by how many samples lack a label, per sample that has one, up to "
        "1; not where it is left out.",
    )
    refinement: Annotated[Refinement, OPTIONAL] = Field(
        None, description="Markov random field that refines the pseudo labels."
    )
    label_transfer: Annotated[LabelTransfer, OPTIONAL] = Field(None, description="Label transfer networks.")
    augmentation: Annotated[Literal["weak", "strong"], OPTIONAL] = Field(
        None,
        description="Of images where they are trained on made labels; strong adds `training.strong_augmentation`.",
    )
    regularization: Annotated[Regularization, OPTIONAL] = Field(None, description="What is added to the loss.")
