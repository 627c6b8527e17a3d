"""Files of the project that are no modules, in a checkout or where an installation has put them."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

BASE = Path(__file__).resolve().parents[2]
INSTALLED = "share/mtl-sa"


def find_shipped(name: str) -> Path:
    """The path of a file.

    Args:
        name: its path in a checkout, such as `workflow/methods.yaml`.

    Raises:
        FileNotFoundError: neither a checkout nor an installation has it.
    """
    if (BASE / name).is_file():
        return BASE / name
    try:
        # Where the file is depends on how it was installed: for all, for a user, into an environment.
        installed = files("mtl-sa") or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.as_posix().endswith(f"{INSTALLED}/{name}"):
            return Path(file.locate()).resolve()
    raise FileNotFoundError(f"{name}: belongs to mtl-sa, but is not installed; install mtl-sa again")
