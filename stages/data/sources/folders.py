"""The folders of what may be a dataset."""

import os
from collections.abc import Iterator
from pathlib import Path

SEARCH_DEPTH = 2
"""So many levels below a folder are looked through."""


def walk_folders(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, the upper ones first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inner for one in level for inner in list_folders(one)]


def list_folders(folder: Path) -> list[Path]:
    """The folders right below one, sorted, but no hidden ones."""
    return sorted(Path(entry.path) for entry in scan_folder(folder) if entry.is_dir())


def scan_folder(folder: Path) -> list[os.DirEntry]:
    """What a folder holds, without hidden entries; nothing if it is none or may not be looked into."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except PermissionError:
        return []
