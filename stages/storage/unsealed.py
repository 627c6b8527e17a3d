"""Networks, optimizers and images as files, without torch: what they hold, and what records their digests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from stages.core.errors import UserError
from stages.core.specification import NetworkSpecification
from stages.storage.contracts import CHECKPOINT, MANIFEST, METRICS
from stages.storage.files import digest_file, read_json
from stages.storage.tables import read_table

VALUES_AT_A_TIME = 2**24


@dataclass(frozen=True)
class Tensors:
    """What a safetensors file holds.

    Attributes:
        tensors: type and shape by name.
        specification: of the network; empty for an optimizer.
        record: the file's digest, and what records it.
    """

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    specification: Mapping[str, Any]
    record: str


@dataclass(frozen=True)
class Images:
    """What a `.npy` file holds.

    Attributes:
        shape: of the array.
        dtype: of its values.
        minimum: the smallest value; None where there is none.
        maximum: the largest value.
        record: the file's digest, and what records it.
    """

    shape: tuple[int, ...]
    dtype: str
    minimum: float | None
    maximum: float | None
    record: str


def read_tensors(path: Path) -> Tensors:
    """The names, types and shapes in a safetensors file.

    Raises:
        ValueError: the file is damaged, or not the one that is recorded beside it.
    """
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            tensors = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
            metadata = file.metadata() or {}
        specification = {}
        if "network" in metadata:
            specification = json.loads(metadata["network"])
            NetworkSpecification.parse(specification)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]}); run snakemake again for it") from None
    return Tensors(tensors, specification, check_record(path))


def read_images(path: Path) -> Images:
    """Shape, type and range of an array.

    Raises:
        ValueError: the file is damaged, or not the one that is recorded beside it.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]}); run snakemake again for it") from None
    if not isinstance(values, np.ndarray):
        values.close()
        raise UserError(f"{path}: is no array but an archive; delete it and run snakemake again")
    record = check_record(path)
    flat = values.reshape(-1, order="A")
    minimum = maximum = None
    if values.dtype.kind in "buif" and flat.size:
        parts = [flat[start : start + VALUES_AT_A_TIME] for start in range(0, flat.size, VALUES_AT_A_TIME)]
        minimum, maximum = float(min(part.min() for part in parts)), float(max(part.max() for part in parts))
    return Images(values.shape, str(values.dtype), minimum, maximum, record)


def check_record(path: Path) -> str:
    """A file's digest, and the artifact beside it that records it.

    Raises:
        ValueError: it records another digest.
    """
    digest = digest_file(path)
    for place, recorded in _find_records(path).items():
        if recorded != digest:
            raise UserError(
                f"{path}: is not the file that {place} records (damaged, or of another run); delete it and run "
                "snakemake again"
            )
        return f"{digest}, as {place.name} records"
    return f"{digest}, which no artifact beside it records"


def _find_records(path: Path) -> dict[Path, str]:
    """Digests of a file by the artifact that records them."""
    card, metrics = path.with_name("checkpoint.json"), path.with_name("metrics.parquet")
    manifest = path.with_suffix(".parquet")
    found = {}
    if path.suffix == ".npy":
        if manifest.is_file():
            found[manifest] = read_table(manifest, MANIFEST, []).metadata["images_digest"]
        return found
    if card.is_file():
        found[card] = read_json(card, CHECKPOINT)["files"].get(path.name)
    elif metrics.is_file():
        found[metrics] = read_table(metrics, METRICS, []).metadata.get("files", {}).get(path.name)
    return {place: digest for place, digest in found.items() if digest}
