"""What stages hand to each other: names, types, units and ranges of every column, and the keys of JSON files.

This is the one place that knows them; `stages.storage` checks every table and every JSON file against
it when it is written and again when it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from stages.core.errors import UserError

TOLERANCE_ROW_SUM = 1e-4
"""How far the float32 probabilities of one sample may be from summing to 1."""


IDENTITY = ("contract", "path", "stage", "parameters", "inputs", "versions", "device", "precision")
"""What every artifact says of itself."""


class ContractError(UserError):
    """An artifact breaks its contract; the message names the column, the row and the rule."""


@dataclass(frozen=True)
class Column:
    """One column.

    `kind` is an Arrow type; `float32_list` and `float64_list` are lists of one length per table,
    `vector` is a float32 vector stored as `FixedSizeBinary(4 * dim)`. A name that ends in `*`
    stands for one column per task.
    """

    name: str
    kind: str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    sums_to_one: bool = False
    nullable: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Contract:
    """The columns of one kind of table and the file metadata it must carry."""

    name: str
    columns: tuple[Column, ...]
    metadata: tuple[str, ...] = ()
    key: str | None = "sample_id"
    version: int = 1
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({column.name: column for column in self.columns})

    def find_column(self, name: str) -> Column:
        """The definition of column `name`.

        Raises:
            ContractError: the contract has no such column.
        """
        if name in self._by_name:
            return self._by_name[name]
        for column in self.columns:
            if column.name.endswith("*") and name.startswith(column.name[:-1]) and len(name) >= len(column.name):
                return column
        raise ContractError(f"a {self.name} table has no column '{name}'")

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Check what a file says of itself.

        Raises:
            ContractError: it is another kind of table, of another version, or lacks some metadata.
        """
        _check_identity(self, metadata)
        if missing := [key for key in self.metadata if key not in metadata]:
            raise ContractError(f"a {self.name} table needs the metadata {missing}")

    def check(self, columns: Mapping[str, np.ndarray], *, complete: bool = True) -> None:
        """Check arrays against the contract.

        Args:
            columns: arrays by column name; list and vector columns have shape (n, width).
            complete: whether every column of the contract must be there.

        Raises:
            ContractError: a column is missing, unknown, of another length, null where it may not
                be, out of range or not finite, or the key is not strictly increasing.
        """
        if complete:
            for column in self.columns:
                if not (column.optional or column.name.endswith("*")) and column.name not in columns:
                    raise ContractError(f"a {self.name} table needs the column '{column.name}'")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the columns of a {self.name} table differ in length: {lengths}")
        for name, values in columns.items():
            _check_values(name, self.find_column(name), values)
        if self.key in columns:
            keys = columns[self.key]
            if len(keys) > 1 and not (np.diff(keys) > 0).all():
                row = int(np.argmax(np.diff(keys) <= 0)) + 1
                raise ContractError(f"{self.key} must be unique and increasing; row {row} holds {keys[row]}")


@dataclass(frozen=True)
class Document:
    """The keys of one kind of JSON file, or the metadata of a file for people."""

    name: str
    keys: tuple[str, ...]
    version: int = 1

    def check(self, content: Any) -> None:
        """Check a file's content.

        Raises:
            ContractError: it is another kind of file, of another version, or lacks keys.
        """
        if not isinstance(content, dict):
            raise ContractError("holds no mapping")
        _check_identity(self, content)
        if missing := [key for key in self.keys if key not in content]:
            raise ContractError(f"lacks the keys {missing}")


def _check_identity(contract: "Contract | Document", found: Mapping[str, Any]) -> None:
    if missing := [key for key in IDENTITY if key not in found]:
        raise ContractError(f"does not say its {missing[0]}")
    if found["contract"] != {"name": contract.name, "version": contract.version}:
        raise ContractError(f"is of the kind {found['contract']}, not {contract.name} of version {contract.version}")


def find_contract(found: Any) -> Contract | Document:
    """The contract that an artifact says it keeps.

    Raises:
        ContractError: it says too little of itself, or keeps none that this version knows.
    """
    recorded = found.get("contract") if isinstance(found, dict) else None
    name = str(recorded.get("name")) if isinstance(recorded, dict) else ""
    if name not in CONTRACTS:
        raise ContractError("is of no kind that this version of the project knows")
    _check_identity(CONTRACTS[name], found)
    return CONTRACTS[name]


def arrow_type(kind: str, width: int = 0) -> pa.DataType:
    """The Arrow type of a column kind; `width` is the length of a `vector`."""
    if kind == "vector":
        return pa.binary(4 * width)
    return {
        "int64": pa.int64(),
        "int32": pa.int32(),
        "float64": pa.float64(),
        "string": pa.string(),
        "bool": pa.bool_(),
        "binary": pa.binary(),
        "float32_list": pa.list_(pa.float32()),
        "float64_list": pa.list_(pa.float64()),
    }[kind]


def _check_values(name: str, column: Column, values: np.ndarray) -> None:
    if column.kind == "string":
        if not column.nullable and any(value is None for value in values):
            raise ContractError(f"column {name} has a null")
        return
    values = np.asarray(values)
    if values.dtype.kind == "f":
        valid = np.isfinite(values)
        if column.nullable:
            valid |= np.isnan(values)
        _fail_where(name, ~valid, values, "must be finite")
    if column.minimum is not None:
        _fail_where(name, values < column.minimum, values, f"must be at least {column.minimum:g}")
    if column.maximum is not None:
        _fail_where(name, values > column.maximum, values, f"must be at most {column.maximum:g}")
    if column.sums_to_one and len(values):
        sums = values.sum(axis=1, dtype=np.float64)
        _fail_where(name, np.abs(sums - 1) > TOLERANCE_ROW_SUM, sums, "must sum to 1 in every row")


def _fail_where(name: str, wrong: np.ndarray, values: np.ndarray, rule: str) -> None:
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ContractError(
            f"column {name} {rule}; {int(wrong.sum())} values do not, the first in row {first[0]}: {values[first]}"
        )


def _probability(name: str, description: str, **options) -> Column:
    return Column(name, "float64", description, minimum=0, maximum=1, **options)


_SAMPLE_ID = Column("sample_id", "int64", "number of the sample within its dataset", minimum=0)
_PSEUDO_LABEL = Column(
    "pseudo_label",
    "int32",
    "class index, of the largest soft label (lowest on ties) or refined",
    minimum=0,
)

MANIFEST = Contract(
    "manifest",
    (
        _SAMPLE_ID,
        Column("path", "string", "path below the dataset's image folder"),
        Column("label_*", "string", "class name for a task; null where it is not known", nullable=True),
    ),
    metadata=("dataset", "tasks", "split", "classes", "image_shape", "images_digest", "skipped"),
)

AUDIT_LABELS = Contract(
    "audit labels",
    (
        _SAMPLE_ID,
        Column("audit_*", "string", "class name for a task, known but never trained on", nullable=True),
    ),
    metadata=("dataset", "split"),
)

FEATURES = Contract(
    "features",
    (
        _SAMPLE_ID,
        Column(
            "features_*",
            "vector",
            "f, the vector that enters the task's classifier, after features.normalize",
        ),
        Column("soft_label_*", "float32_list", "softmax of the task's scores", 0, 1, sums_to_one=True),
        Column("label_*", "int32", "class index of the given label; -1 where none is given", minimum=-1),
    ),
    metadata=("dataset", "dim", "dtype", "normalize", "classes"),
    version=2,
)

DENSITY = Contract(
    "density",
    (
        _SAMPLE_ID,
        _PSEUDO_LABEL,
        Column("group_size", "int64", "n, samples with the same pseudo label", minimum=1),
        Column("local_density", "int64", "rho, samples of the group closer than the cutoff", minimum=0),
        _probability("density_weight", "w^d, rho over the group's largest rho"),
    ),
    metadata=("dataset", "classes", "density_cutoff", "cutoff_quantile", "mode", "exact", "sampled"),
    version=2,
)

MIXTURE = Contract(
    "mixture",
    (
        Column("component", "int32", "number of the Gaussian component", minimum=0),
        _probability("mixing_weight", "pi, the component's prior"),
        Column("mean", "float64_list", "mu, the component's mean feature vector"),
        Column("covariance", "float64_list", "the component's covariance, flattened; d values when diagonal"),
    ),
    metadata=("domain", "covariance_type", "converged", "iterations", "log_likelihood"),
    key="component",
)

RESPONSIBILITIES = Contract(
    "responsibilities",
    (
        _SAMPLE_ID,
        Column("responsibilities", "float64_list", "gamma, posterior of every component", 0, 1, sums_to_one=True),
    ),
    metadata=("dataset",),
)

TRANSPORT = Contract(
    "transport",
    (
        Column("component", "int32", "component of the unlabeled domain", minimum=0),
        Column("flow", "float64_list", "h, optimal flow to every labeled component", 0, 1, sums_to_one=True),
        Column("component_distance", "float64_list", "d^M, distance to every labeled component", minimum=0),
        Column("transport_distance", "float64", "d^E, earth mover's distance to the labeled domain", minimum=0),
        Column("mean_distance", "float64", "distance to the mean of the labeled domain", minimum=0),
    ),
    metadata=("ground_distance", "decay"),
    key="component",
)

DISCREPANCY = Contract(
    "discrepancy",
    (
        Column("component", "int32", "component of the unlabeled domain", minimum=0),
        Column("kernel_discrepancy", "float64", "MMD^2, kernel discrepancy from the labeled domain", minimum=0),
    ),
    metadata=("bandwidth", "decay"),
    key="component",
)

REFINEMENT = Contract(
    "refinement",
    (
        _SAMPLE_ID,
        _PSEUDO_LABEL,
        Column("refined_label", "int32", "class index of the largest refined probability", minimum=0),
        Column("refined_probability", "float32_list", "q, mean field of the random field", 0, 1, sums_to_one=True),
    ),
    metadata=("dataset", "classes", "strength", "n_neighbors", "iterations", "converged"),
)

WEIGHTS = Contract(
    "weights",
    (
        _SAMPLE_ID,
        _PSEUDO_LABEL,
        Column("pseudo_class", "string", "name of the pseudo label's class"),
        _probability("confidence_weight", "w^c, largest soft label"),
        _probability("density_weight", "w^d; null where the method does not use it", nullable=True),
        _probability("confident_weight", "w^s = w^c w^d; null without w^d", nullable=True),
        Column(
            "sample_distance",
            "float64",
            "d^, distance to the labeled domain; null if unused",
            0,
            nullable=True,
        ),
        _probability("distribution_weight", "w^g = exp(-decay d^); null if unused", nullable=True),
        _probability("selection_weight", "w, what interpolates pseudo and soft label"),
    ),
    metadata=("dataset", "classes", "selection"),
)

LABELS = Contract(
    "labels",
    (
        _SAMPLE_ID,
        Column("given", "bool", "whether the dataset gives the label, so that it has no weight"),
        Column("soft_label", "float32_list", "soft label at the method's temperature", 0, 1, sums_to_one=True),
        Column("pseudo_label", "int32", "class index of the pseudo label, or of the given one", minimum=0),
        Column("training_label", "float32_list", "y^, what the epoch trains on", 0, 1, sums_to_one=True),
    ),
    metadata=("dataset", "classes", "temperature", "strength", "student_temperature", "normalization"),
    version=4,
)

RELIABILITY = Document(
    "reliability",
    (
        *("task", "dataset", "epoch", "n_unlabeled", "n_labeled", "frequencies", "temperature"),
        *("estimates", "chance", "reliability", "balance", "strength"),
    ),
)

AUDIT = Contract(
    "audit",
    (
        Column("weight", "string", "which weight the samples are ranked by"),
        Column("fifth", "int32", "1 holds the lowest fifth of that weight, 5 the highest", 1, 5),
        Column("n_samples", "int64", "samples with an audit label in this fifth", minimum=0),
        Column("lowest", "float64", "smallest weight in the fifth"),
        Column("highest", "float64", "largest weight in the fifth"),
        _probability("pseudo_label_accuracy", "share of pseudo labels that equal the audit label"),
    ),
    metadata=("pseudo_label_accuracy", "estimates"),
    key=None,
    version=2,
)

METRICS = Contract(
    "metrics",
    (
        Column("epoch", "int32", "0 is joint training", minimum=0),
        Column("task", "string", "task that was evaluated"),
        Column("dataset", "string", "whose samples; null for those of all that know the task", nullable=True),
        Column("split", "string", "split that was evaluated"),
        _probability("accuracy", "share of correct predictions"),
        _probability("macro_f1", "mean of the F1 scores of all classes"),
        Column("n_samples", "int64", "samples evaluated", minimum=1),
        Column("trained_dataset", "string", "dataset of the epoch; null where it mixed all of them", nullable=True),
    ),
    metadata=("select", "selected_epoch"),
    key=None,
)

COMPARISON = Contract(
    "comparison",
    (
        Column("method", "string", "row of workflow/methods.yaml"),
        Column("task", "string", "task that was evaluated"),
        # Tables of earlier versions, which `tabulate_experiments` reads as well, lack it.
        Column("dataset", "string", "whose samples; null for all that know the task", nullable=True, optional=True),
        Column("seed", "int64", "seed of the run", minimum=0),
        Column("split", "string", "split that was evaluated"),
        Column("epoch", "string", "last, validation (chosen by it) or mean_of_last"),
        Column("first_epoch", "int32", "first of the epochs that were averaged", minimum=0),
        Column("last_epoch", "int32", "last of the epochs that were averaged", minimum=0),
        _probability("accuracy", "share of correct predictions"),
        _probability("macro_f1", "mean of the F1 scores of all classes"),
        Column("seconds_per_epoch", "float64", "job seconds of the run's epochs; null if unknown", 0, nullable=True),
    ),
    metadata=("experiment", "reference", "last_epochs", "paper_names", "samples"),
    key=None,
)

SAMPLES = Contract(
    "samples",
    (
        Column("dataset", "string", "dataset of the sample"),
        _SAMPLE_ID,
        Column("path", "string", "path below the dataset's image folder"),
        Column("image", "binary", "what the network saw, as JPEG"),
        Column("label_*", "string", "class name that is trained on; null where it is not known", nullable=True),
        Column("held_back_*", "string", "class name that is known, but not trained on", nullable=True),
        Column("epoch_*", "int32", "epoch that the columns below are from, the last that weighed", nullable=True),
        Column("pseudo_class_*", "string", "class that the network of the epoch before predicted", nullable=True),
        *(
            Column(f"{column.name}_*", "float64", column.description, column.minimum, column.maximum, nullable=True)
            for column in WEIGHTS.columns
            if column.kind == "float64"
        ),
        Column("soft_label_*", "float32_list", "soft label before any temperature; NaN for none", 0, 1, nullable=True),
        Column("training_label_*", "float32_list", "y^, what is trained on; NaN for none", 0, 1, nullable=True),
        Column("x_*", "float64", "first principal component of the features", nullable=True),
        Column("y_*", "float64", "second principal component of the features", nullable=True),
    ),
    metadata=("method", "seed", "classes"),
    key=None,
)

CHECKPOINT = Document("checkpoint", ("epoch", "dataset", "n_samples", "losses", "seed", "threads", "files"))

EVALUATION = Document("evaluation", ("epoch", "trained_dataset", "tasks", "validation"))

EXPORT = Document("export", ("n_images", "maximum_difference", "files"))

SCORES = Document("scores", ("task", "n_samples", "accuracy", "macro_f1", "classes", "confusion_matrix"))

PREDICTIONS = Document("predictions", ("classes",))

IMAGE_CACHE = Document("image cache", ("skipped", "digests"))

COMPARISON_REPORT = Document("comparison report", ())

TIMING = Document("timing", ())

MODEL_CARD = Document("model card", ())

FIGURES = Document("figures", ("drawn", "files"))
EXPLORER = Document("explorer", ("files",))

CONTRACTS = {value.name: value for value in tuple(globals().values()) if isinstance(value, Contract | Document)}
"""All of them, by the name that every artifact bears."""
