"""What an artifact says of itself: its kind, and everything that decided its content."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.storage.contracts import Contract, Document
from stages.storage.files import describe_inputs, name_path

DISTRIBUTIONS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pot", "pillow", "pyarrow")
FAISS_DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
"""All install the module `faiss`; one at most may be there."""


@dataclass(frozen=True)
class Provenance:
    """Where an artifact comes from.

    Attributes:
        stage: module that writes it.
        parameters: the values the stage ran with.
        inputs: paths of the files it read.
        device: type of the device that a network ran on; None without one.
        precision: of the numbers that it ran in; None without one.
        packages: further distributions that decide the content.
    """

    stage: str
    parameters: Mapping[str, Any]
    inputs: Sequence[str | Path]
    device: str | None = None
    precision: str | None = None
    packages: Sequence[str] = ()

    def describe(self, path_output: str | Path, contract: Contract | Document) -> dict[str, Any]:
        """The identity of an artifact as it is recorded in it, free of absolute paths."""
        return {
            "contract": {"name": contract.name, "version": contract.version},
            "path": Path(path_output).name if Path(path_output).is_absolute() else name_path(path_output),
            "stage": self.stage,
            "parameters": dict(self.parameters),
            "inputs": describe_inputs(self.inputs, path_output),
            "versions": list_versions(self.packages),
            "device": self.device,
            "precision": self.precision,
        }


@cache
def list_versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python and of the installed ones among the libraries that results depend on; imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in (*DISTRIBUTIONS, *FAISS_DISTRIBUTIONS, *packages):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        versions |= {"faiss": f"{name} {found}"} if name in FAISS_DISTRIBUTIONS else {name: found}
    return versions
