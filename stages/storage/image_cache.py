"""Files that experiments share: folders of finished files with their digests, which appear whole or not at all.

A file in an entry and the same file in an experiment are one file by two names where the disk allows it.
Nothing here is ever written to once it is finished, so neither can change the other.
"""

import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.storage.contracts import IMAGE_CACHE
from stages.storage.files import digest_file, read_json, replace_when_complete, write_json
from stages.storage.provenance import Provenance

RECORD = "entry.json"


def store_files(entry: Path, files: Mapping[str, str | Path], record: Mapping[str, Any]) -> None:
    """Keep finished files in an entry, unless another process was faster; say so where that fails.

    Args:
        entry: folder of the entry.
        files: path by the name that a file has in the entry.
        record: what else to keep, and `digests`: that of every file, by name.
    """
    temporary = _beside(entry)
    try:
        temporary.mkdir(parents=True)
        for name, path in files.items():
            _link(Path(path), temporary / name)
        write_json(temporary / RECORD, IMAGE_CACHE, dict(record), Provenance("prepare_images", {}, []))
        temporary.rename(entry)
    except OSError as error:
        if not entry.is_dir():
            print(f"{entry}: cannot be written ({error.strerror or error}); these images are not shared")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore_files(entry: Path, files: Mapping[str, str | Path]) -> dict[str, Any] | None:
    """Give the files of an entry to an experiment, all of them or none.

    An entry that is damaged is removed, with a line that says so.

    Args:
        entry: folder of the entry.
        files: wanted path by the name that a file has in the entry.

    Returns:
        What `store_files` was given as `record`, or None where there is no such entry.
    """
    if not entry.is_dir():
        return None
    try:
        record = read_json(entry / RECORD, IMAGE_CACHE)
        with ExitStack() as stack:
            for name, path in files.items():
                path_temporary = stack.enter_context(replace_when_complete(path))
                _link(entry / name, path_temporary)
                if digest_file(path_temporary) != record["digests"][name]:
                    raise UserError(f"the content of {name} is not what it was")
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        print(f"{entry}: is damaged ({error}); it is removed and made anew")
        _discard(entry)
        return None
    except PermissionError as error:
        print(f"{entry}: cannot be read ({error.strerror}); these images are not shared")
        return None
    return record


def _discard(entry: Path) -> None:
    temporary = _beside(entry)
    # Another process may be doing the same.
    with suppress(OSError):
        entry.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _beside(entry: Path) -> Path:
    return entry.with_name(f".{entry.name}.{uuid.uuid4().hex}.tmp")


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
