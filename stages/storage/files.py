"""Files that appear whole or not at all, and the digests by which artifacts name their inputs."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.storage.seals import KEY, check_seal, draw_placeholder, seal_file

if TYPE_CHECKING:
    from stages.storage.contracts import Document
    from stages.storage.provenance import Provenance


@contextlib.contextmanager
def replace_when_complete(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; move it to `path` once the block has ended well.

    The data reaches the disk (fsync) before the name appears, so neither a kill nor a power cut
    leaves a half-written artifact under its final name; at worst the old one is still there. An
    exception removes the temporary file and leaves an older `path` untouched; what a killed process
    left is removed by the next that writes the same file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, re.escape(path.name))
    path_temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        yield path_temporary
        with path_temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(path_temporary, path)
    except OSError as error:
        if "No space left" in str(error):
            message = "the disk is full; free some space and run it again"
            raise OSError(f"{path}: cannot be written: {message}") from error
        raise
    finally:
        path_temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder_when_complete(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place once the block has ended well."""
    path = Path(path)
    path_temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(path_temporary, ignore_errors=True)
    path_temporary.mkdir(parents=True)
    try:
        yield path_temporary
        shutil.rmtree(path, ignore_errors=True)
        os.replace(path_temporary, path)
    finally:
        shutil.rmtree(path_temporary, ignore_errors=True)


def remove_abandoned(folder: Path, name: str = ".+") -> None:
    """Remove temporary files whose process is dead; those of other hosts may be alive there.

    Args:
        folder: where they are.
        name: pattern of the names of the files that they were to become.
    """
    pattern = re.compile(rf"\.{name}\.{re.escape(platform.node())}\.(\d{{1,9}})\.tmp", re.DOTALL)
    for temporary in os.listdir(folder):
        if (found := pattern.fullmatch(temporary)) and not is_running(int(found[1])):
            with contextlib.suppress(OSError):
                Path(folder, temporary).unlink()


def is_running(process: int) -> bool:
    """Whether this host has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        return True
    return True


def write_json(path: str | Path, contract: "Document", content: dict[str, Any], provenance: "Provenance") -> None:
    """Write `content`, its identity and its seal as indented JSON, whole or not at all.

    Raises:
        ContractError: the content breaks the contract.
    """
    placeholder = draw_placeholder()
    described = {**content, **provenance.describe(path, contract), KEY: placeholder}
    contract.check(described)
    with replace_when_complete(path) as path_temporary:
        path_temporary.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        seal_file(path_temporary, placeholder)


def read_json(path: str | Path, contract: "Document") -> dict[str, Any]:
    """Read a JSON artifact, and check its seal and what it holds.

    Raises:
        ValueError: the file is missing, damaged or breaks its contract; the message says how to
            make it anew.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: does not exist; run snakemake for it first")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        check_seal(path)
        contract.check(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}); delete it and run snakemake again") from None
    except UserError as error:
        raise UserError(f"{path}: {error}; delete it and run snakemake again") from None
    return content


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as `sha256:<hex>`, what `sha256sum` prints."""
    with Path(path).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def describe_inputs(inputs: Iterable[str | Path], path_output: str | Path) -> dict[str, str]:
    """Digest of every input under its path relative to the folder of `path_output`.

    Relative paths keep an artifact free of the folder that it was made in.
    """
    folder = Path(name_path(path_output)).parent
    return {os.path.relpath(name_path(path), folder): digest_file(path) for path in sorted(map(str, inputs))}


def name_path(path: str | Path) -> str:
    """A path as it is recorded: of the copy of an object in storage, as if it lay in the current folder."""
    folder = os.environ.get("STAGE_STORAGE")
    path = Path(path)
    return (path.relative_to(folder) if folder and path.is_relative_to(folder) else path).as_posix()
