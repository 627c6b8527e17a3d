"""A prepared split: its manifest in memory, its images as a memory map."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np

from stages.core.errors import UserError
from stages.storage.contracts import AUDIT_LABELS, MANIFEST
from stages.storage.files import digest_file
from stages.storage.tables import read_table


class DigestThread(Thread):
    """Hashes a file beside the work that is done with it.

    Hashing leaves Python's lock to others. Processes that are forked meanwhile lack the thread and
    need nothing of it; an error elsewhere ends the process without waiting.

    Attributes:
        digest: of the file, once the thread has ended; None where it could not be read.
    """

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.digest: str | None = None

    def run(self) -> None:
        """Of the thread."""
        with suppress(OSError):
            self.digest = digest_file(self._path)


@dataclass(frozen=True)
class PreparedSplit:
    """One split of one dataset.

    Attributes:
        name: of the dataset.
        split: train, validation or test.
        classes: class names in index order, by task that the dataset has labels for.
        sample_ids: int64 (n,).
        labels: class name of every sample by task, object (n,); None where it is not known.
        images: uint8 (n, H, W, C), read from the disk only where it is indexed.
        path_table: of the manifest, for messages and provenance.
        path_images: of the images, for messages.
        images_digest: of the images, as the manifest records it.
        hashing: what finds out their digest as they are.
    """

    name: str
    split: str
    classes: dict[str, list[str]]
    sample_ids: np.ndarray
    labels: dict[str, np.ndarray]
    images: np.ndarray
    path_table: str
    path_images: str
    images_digest: str
    hashing: DigestThread

    def index_labels(self, task: str, classes: Sequence[str]) -> np.ndarray:
        """Class indices of the samples for a task, int64 (n,); -1 where the label is not known.

        Args:
            task: whatever task; of one that the dataset has no labels for, none is known.
            classes: names in index order, those of the dataset among them.
        """
        index = {name: number for number, name in enumerate(classes)} | {None: -1}
        names = self.labels.get(task, [None] * len(self.sample_ids))
        return np.array([index[name] for name in names], dtype=np.int64)

    def confirm(self) -> None:
        """Wait until it is known that the images are those of the manifest, to the last bit.

        Raises:
            ValueError: they are not.
        """
        self.hashing.join()
        if self.hashing.digest != self.images_digest:
            raise UserError(
                f"{self.path_images}: is damaged, or not the one that {self.path_table} describes; delete both and run "
                "snakemake again"
            )


def open_split(path_table: str, path_images: str) -> PreparedSplit:
    """Open what `prepare_images` wrote; `PreparedSplit.confirm` tells whether the images are whole.

    Raises:
        ValueError: a file is missing or damaged, or the two do not belong together.
    """
    table = read_table(path_table, MANIFEST)
    if not Path(path_images).exists():
        raise UserError(f"{path_images}: does not exist; run snakemake for it first")
    try:
        # What is empty cannot be mapped.
        images = np.load(path_images, mmap_mode="r" if len(table) else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path_images}: is damaged ({error}); delete it and run snakemake again") from None
    if not isinstance(images, np.ndarray):
        images.close()
        raise UserError(f"{path_images}: is no array but an archive; delete it and run snakemake again")
    expected = (len(table), *table.metadata["image_shape"])
    if images.shape != expected or images.dtype != np.uint8:
        raise UserError(
            f"{path_images}: holds {images.dtype} {images.shape}, but {path_table} describes uint8 {expected}; "
            "delete both and run snakemake again"
        )
    classes = {task: table.metadata["classes"][task] for task in table.metadata["tasks"]}
    labels = {task: table[f"label_{task}"] for task in classes}
    for task, names in labels.items():
        if unknown := set(names) - {None, *classes[task]}:
            raise UserError(f"{path_table}: label '{unknown.pop()}' is not among its classes {classes[task]}")
    hashing = DigestThread(path_images)
    hashing.start()
    return PreparedSplit(
        name=table.metadata["dataset"],
        split=table.metadata["split"],
        classes=classes,
        sample_ids=table["sample_id"],
        labels=labels,
        images=images,
        path_table=path_table,
        path_images=path_images,
        images_digest=table.metadata["images_digest"],
        hashing=hashing,
    )


def read_audit_labels(path_table: str, task: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Whose the labels are that were held back for a task: the dataset, sample ids (n,) and class names (n,).

    Names are None where they are not known.

    Raises:
        ValueError: the table has no such column.
    """
    table = read_table(path_table, AUDIT_LABELS, ["sample_id", f"audit_{task}"])
    return table.metadata["dataset"], table["sample_id"], table[f"audit_{task}"]
