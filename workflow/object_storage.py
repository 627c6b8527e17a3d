"""Results in object storage, by Snakemake's --default-storage-provider: where their local copies lie.

Every file of the workflow then is an object, of which Snakemake keeps a copy below .snakemake/storage. The links
`results` and `logs` make what people and jobs name find these copies.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

LINKS = ("results", "logs")


def enter_storage(workflow: Any) -> str | None:
    """Have `results` and `logs` stand for the local copies of objects.

    Returns:
        The folder of the copies, which stands for the current one; None where results are plain files.

    Raises:
        WorkflowError: there are such folders, or copies are not to be kept.
    """
    settings = workflow.storage_settings
    if settings.default_storage_provider is None:
        return None
    if not settings.keep_storage_local:
        raise WorkflowError(
            "With --default-storage-provider add --keep-storage-local-copies: some jobs read what others have left "
            "on this machine (docs/scaling.md)"
        )
    prefix = str(settings.default_storage_prefix or "").rstrip("/")
    provider = workflow.storage_registry.default_storage_provider
    folder = Path(provider.object(f"{prefix}/{LINKS[0]}").local_path()).parent
    for name in LINKS:
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(name):
            with contextlib.suppress(FileExistsError):
                Path(name).symlink_to(target)
        if not os.path.samefile(name, target):
            raise WorkflowError(
                f"'{name}' is here already, and not the copy of what lies below {prefix}; move it away, or run in "
                "another folder (--directory)"
            )
    return str(folder)
