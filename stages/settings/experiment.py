"""The keys of an experiment, section by section in the order of config.yaml."""

from functools import reduce
from operator import or_
from typing import Annotated, Literal

from pydantic import Field

from stages.data.sources.registry import list_readers
from stages.settings.datasets import Task
from stages.settings.section import (
    EXPERIMENT_NAME,
    INTEGER,
    Methods,
    Name,
    Section,
    Seeds,
    Share,
    defaults,
    either,
    number,
)

AnyDataset = Annotated[
    reduce(or_, (reader.settings for reader in list_readers().values())), Field(discriminator="source")
]


class Images(Section):
    """How images are decoded."""

    height: int = Field(224, ge=1, le=4096, description="Pixels.")
    width: int = Field(224, ge=1, le=4096, description="Pixels.")
    channels: Annotated[Literal[1, 3], INTEGER] = Field(
        3, description="Grey (1) or colour (3); other images are converted."
    )
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="How an image of another shape is fitted: crop cuts its centre out, pad adds black bars."
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What to do about files that are not readable images."
    )
    max_pixels: int = Field(89478485, ge=1, description="Larger images are refused as decompression bombs.")
    outside_data_root: Literal["refuse", "allow"] = Field(
        "refuse",
        description="What to do about images that a table names outside `data_root` and the table's own folder.",
    )
    mean: Annotated[list[number()], Field(min_length=1)] | None = Field(
        None,
        description="Subtracted from pixel values in [0, 1], per channel; "
        "null as the pretrained network saw them, else 0.5.",
    )
    std: Annotated[list[number(gt=0)], Field(min_length=1)] | None = Field(
        None, description="By which the difference is divided, per channel; null as for `mean`."
    )


class Network(Section):
    """The network."""

    backbone: str = Field(
        "vgg16",
        pattern="^[a-z0-9_]+$",
        description="Shared layers: `vgg_tiny`, or a classification network of torchvision.",
    )
    pretrained: str | None = Field(
        None, description="Name of torchvision's weights, or a local .pth or .safetensors file."
    )
    head_features: int = Field(128, ge=1, description="d, length of the feature vector of each task.")
    cross_stitch_identity: Share = Field(
        0.9, description="Initial share of a task's own layer in the cross-stitch unit."
    )


class Augmentation(Section):
    """How training images are varied."""

    horizontal_flip: bool = Field(False, description="Mirror half of the images; not where a task has sides.")
    shift: int = Field(0, ge=0, description="Pixels, either way.")
    brightness: Share = Field(0, description="Largest relative change.")
    contrast: Share = Field(0, description="Largest relative change.")
    crop: number(gt=0, le=1) = Field(
        1, description="Smallest share of the area that a random crop keeps; not where position or pose is a label."
    )
    rotation: number(ge=0, le=180) = Field(0, description="Degrees, either way; not where a pose is a label.")
    policy: Literal["none", "trivial_augment", "rand_augment"] = Field(
        "none", description="Random changes of colours and sharpness, by TrivialAugmentWide or RandAugment."
    )
    geometric: bool = Field(
        False, description="Whether the policy also shears, moves and rotates; not where a pose is a label."
    )
    erasing: Share = Field(0, description="Probability that a rectangle is painted grey.")


class StrongAugmentation(Section):
    """What is added where a method with `augmentation: strong` trains on labels that were made."""

    policy: Literal["none", "trivial_augment", "rand_augment"] = Field("rand_augment", description="As above.")
    geometric: bool = Field(False, description="As above.")
    erasing: Share = Field(0.5, description="As above.")


class Training(Section):
    """Joint training and the epochs after it."""

    initial_epochs: int = Field(1, ge=1, description="Passes of joint training (epoch 0).")
    epochs: int = Field(20, ge=1, description="Epochs after it.")
    select: Literal["validation", "last"] = Field(
        "validation", description="Which epoch's network is the final one; validation takes the best on validation."
    )
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    sampling: Literal["proportional", "square_root", "balanced"] = Field(
        "proportional",
        description="What mixed batches draw: every sample once, samples for each task by the square root of how many "
        "labels it has, or equally many.",
    )
    steps: Literal["dataset", "equal"] = Field(
        "dataset", description="How long an epoch on one dataset is: as its dataset, or as the mean of all datasets."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="How given labels count: alike, or so that all classes of a task count alike."
    )
    label_smoothing: number(ge=0, lt=1) = Field(
        0, description="Share of a given label that is spread over all classes."
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="What moves the weights.")
    learning_rate: number(gt=0) = Field(0.0001, description="The highest of the run.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Of the learning rate over the whole run; cosine falls to 0."
    )
    warmup: number(ge=0, lt=1) = Field(
        0, description="Share of the run in which the learning rate rises from 0, joint training included."
    )
    weight_decay: number(ge=0) = Field(
        0, description="Of the layers' weights; through the gradient with adam and sgd, apart from it with adamw."
    )
    momentum: number(ge=0, lt=1) = Field(0.9, description="Of sgd.")
    clip_norm: number(gt=0) | None = Field(
        None, description="Length that longer gradients are shortened to; null leaves all as they are."
    )
    average: number(ge=0, lt=1) = Field(
        0,
        description="Share that stays, in every step, of the moving average of the weights; 0 takes the last weights.",
    )
    devices: int = Field(
        1,
        ge=1,
        description="Processes that share every batch, and the images to extract features of, each with its own card; "
        "part of the result, to the last bit.",
    )
    loader_workers: int = Field(
        0, ge=0, description="Processes that load batches, for each that trains; 0 loads in the training process."
    )
    augmentation: Augmentation = defaults(Augmentation)
    strong_augmentation: StrongAugmentation = defaults(StrongAugmentation)


class Schedule(Section):
    """In which order epochs train on the datasets."""

    turns: Literal["in_turn", "by_size"] = Field(
        "in_turn", description="One after the other, as in the paper, or each as often as its training images ask for."
    )


class Features(Section):
    """The features that the weights are computed from."""

    normalize: Literal["l2", "none"] = Field(
        "l2", description="Scale of the features: unit length, or as they are (the paper's letter)."
    )
    batch_size: int = Field(256, ge=1, description="Images at a time, here and in evaluation.")


class Density(Section):
    """The local density of samples."""

    cutoff_quantile: number(gt=0, le=1) = Field(
        0.6, description="κ, share of all pairs of a group that lie within the cutoff."
    )
    mode: Literal["auto", "exact", "sampled"] = Field(
        "auto",
        description="Whether large groups are estimated from a sample of them: those above `exact_up_to`, none, "
        "or all above `sample_size`.",
    )
    exact_up_to: int = Field(100_000, ge=1, description="With `auto`, samples of the largest group that is exact.")
    sample_size: int = Field(
        10_000, ge=100, description="m, samples that are drawn from a larger group where it is estimated."
    )


class Mixture(Section):
    """The Gaussian mixture of each domain."""

    components: int = Field(5, ge=1, description="C, Gaussian components of each domain.")
    covariance: Literal["diag", "spherical", "tied", "full"] = Field("diag", description="Shape of the components.")
    max_iterations: int = Field(100, ge=1, description="Of expectation maximisation.")
    tolerance: number(gt=0) = Field(0.001, description="Gain in mean log likelihood at which it stops.")


class Transport(Section):
    """The distance of clusters from the labeled domain."""

    ground_distance: Literal["sqeuclidean", "euclidean"] = Field(
        "sqeuclidean", description="Distance between component means; the paper's formula is the square."
    )
    decay: number(ge=0) = Field(0.1, description="λ, per unit of distance.")


class Labels(Section):
    """The label vectors of samples without a label; a method may fix its own."""

    temperature: number(gt=0) = Field(2, description="T of the soft labels.")
    interpolation: Literal["soft", "threshold"] = Field(
        "soft", description="Whether w interpolates the labels, or chooses at a quantile of w."
    )
    quantile: Share = Field(0.5, description="Share of the samples that threshold leaves their soft labels.")
    teacher: Literal["averaged", "last"] = Field(
        "averaged", description="Whose features and soft labels: of the moving average of the weights, if there is one."
    )


class Comparison(Section):
    """What `snakemake --cores all comparison` compares."""

    methods: Methods | None = Field(None, description="Rows of workflow/methods.yaml; null compares all of them.")
    seeds: Seeds = Field([0, 1, 2, 3, 4], description="Every method is trained once per seed.")
    last_epochs: int = Field(4, ge=1, description="Epochs at the end over which scores are averaged.")
    reference: str = Field("mtl_sa", description="Method that the others are compared with.")


class Compute(Section):
    """Where and how it runs."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one.")
    threads: int = Field(2, ge=1, description="Of one network or mixture job; part of the result, to the last bit.")
    warm_start: bool = Field(
        True, description="Fork jobs from processes that have torch and scikit-learn loaded; no part of the result."
    )
    redo_on_upgrade: bool = Field(
        False, description="Whether another version of a library redoes what was made with it."
    )


class EveryEpoch(Section):
    """Some epochs, evenly."""

    every: int = Field(ge=1, description="The networks of epochs that are multiples of it stay.")


class Storage(Section):
    """What stays on the disk."""

    keep_features: bool = Field(True, description="false deletes features and responsibilities once they are used.")
    keep_optimizers: either(number=Annotated[int, Field(ge=2)], text=Literal["all"]) = Field(
        2,
        description="Of how many of the last epochs of a run the optimizer's state stays; older ones are deleted.",
    )
    keep_networks: either(text=Literal["all", "last"], section=EveryEpoch) = Field(
        "all",
        description="Which epochs' networks stay once a run is finished; the chosen one and the last always do.",
    )
    image_cache: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Folder in which experiments share decoded images; null shares none."
    )


class Experiment(Section):
    """One experiment, as a config file describes it."""

    experiment: str = Field(pattern=EXPERIMENT_NAME, description="Results go to `results/<experiment>/`.")
    data_root: str = Field(".", description="Folder that the paths of datasets are relative to.")
    seeds: Seeds = Field([0], description="Every method is trained once per seed.")
    methods: Methods = Field(["mtl_sa"], description="Rows of workflow/methods.yaml.")
    datasets: Annotated[dict[Name, AnyDataset], Field(min_length=1)] = Field(
        description="One or more datasets; methods that alternate take turns in this order."
    )
    tasks: dict[Name, Task] = Field({}, description="What datasets that are labelled for the same task share, by task.")
    schedule: Schedule = defaults(Schedule)
    images: Images = defaults(Images)
    network: Network = defaults(Network)
    training: Training = defaults(Training)
    features: Features = defaults(Features)
    density: Density = defaults(Density)
    mixture: Mixture = defaults(Mixture)
    transport: Transport = defaults(Transport)
    labels: Labels = defaults(Labels)
    comparison: Comparison = defaults(Comparison)
    compute: Compute = defaults(Compute)
    storage: Storage = defaults(Storage)
