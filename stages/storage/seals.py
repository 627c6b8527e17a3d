"""Seals: files that contain the SHA-256 of themselves, computed with its own digits replaced by zeros.

A Parquet file holds it as the metadata entry `digest` of its footer, a JSON file as its key `digest`. So
every byte is covered: headers, statistics and metadata too, which page checksums leave out.
"""

import hashlib
import re
import secrets
from pathlib import Path

from stages.core.errors import UserError

KEY = "digest"
UNSEALED = b"sha256:" + 64 * b"0"
BLOCK = 2**20
_PLACES = re.compile(rb'["\x06]digest(?:\x18G|": ")(sha256:[0-9a-f]{64})')
"""The key and its value as Parquet's footer has them (lengths 6 and 71), and as JSON has them."""


class SealError(UserError):
    """A file has no seal, or is not what was sealed; the message goes on after the file's name."""


def draw_placeholder() -> str:
    """What stands in a file until it is sealed: drawn, so that no text of a user can be the same."""
    return f"sha256:{secrets.token_hex(32)}"


def find_footer(path: str | Path) -> int:
    """Where the footer of a Parquet file begins.

    Raises:
        SealError: there is none.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        end = file.read()
    start = size - 8 - int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or start < 4:
        raise SealError("is damaged (its end is not that of a Parquet file)")
    return start


def seal_file(path: str | Path, placeholder: str, start: int = 0) -> None:
    """Put the digest of a file in the place of its placeholder.

    Args:
        path: of the file.
        placeholder: of `draw_placeholder`, in the file once.
        start: from which byte on it is looked for.
    """
    digest, rest = _hash_until(path, start)
    place = rest.index(placeholder.encode())
    digest.update(_without(rest, place))
    with Path(path).open("rb+") as file:
        file.seek(start + place)
        file.write(f"sha256:{digest.hexdigest()}".encode())


def check_seal(path: str | Path, start: int = 0) -> None:
    """Check all bytes of a file against its seal, in constant memory.

    Args:
        path: of the file.
        start: from which byte on the seal may stand; what follows is held in memory.

    Raises:
        SealError: the file has no seal or is not what was sealed.
    """
    digest, rest = _hash_until(path, start)
    places = list(_PLACES.finditer(rest))
    if not places:
        raise SealError("was written by an earlier version of this project")
    # A name that a user has given may look like a seal.
    for place in places:
        found = digest.copy()
        found.update(_without(rest, place.start(1)))
        if place[1] == f"sha256:{found.hexdigest()}".encode():
            return
    raise SealError("is damaged (its bytes are not those that were sealed)")


def _hash_until(path: str | Path, end: int) -> tuple["hashlib._Hash", bytes]:
    """SHA-256 of the first `end` bytes of a file, and the bytes that follow."""
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while end and (block := file.read(min(end, BLOCK))):
            digest.update(block)
            end -= len(block)
        return digest, file.read()


def _without(content: bytes, place: int) -> bytes:
    return content[:place] + UNSEALED + content[place + len(UNSEALED) :]
