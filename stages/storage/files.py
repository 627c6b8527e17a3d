"""Files that appear whole or not at all, and the digests by which artifacts name their inputs."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_when_complete(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; move it to `path` once the block has ended well.

    The data reaches the disk (fsync) before the name appears, so neither a kill nor a power cut
    leaves a half-written artifact under its final name; at worst the old one is still there. An
    exception removes the temporary file and leaves an older `path` untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path_temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with replace_when_complete(path) as path_temporary:
        path_temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict:
    """Read a JSON file.

    Raises:
        ValueError: the file is not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not valid JSON ({error}); delete it and run snakemake again") from None


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as `sha256:<hex>`, what `sha256sum` prints."""
    with Path(path).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def describe_inputs(inputs: Iterable[str | Path], path_output: str | Path) -> dict[str, str]:
    """Digest of every input under its path relative to the folder of `path_output`.

    Relative paths keep an artifact free of the folder that it was made in.
    """
    folder = Path(path_output).parent
    return {os.path.relpath(path, folder): digest_file(path) for path in sorted(map(str, inputs))}
