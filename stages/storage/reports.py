"""Files for people: texts and CSV tables, whole or not at all."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.storage.contracts import Document
from stages.storage.files import replace_when_complete
from stages.storage.provenance import Provenance
from stages.storage.seals import KEY, check_seal, draw_placeholder, seal_file

START, END, ESCAPED = "<!-- ", " -->", "\\u003e"


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replace_when_complete(path) as path_temporary:
        path_temporary.write_text(text, encoding="utf-8")


def write_report(path: str | Path, text: str, contract: Document, provenance: Provenance) -> None:
    """Write Markdown, and below it, where no renderer shows it, what it is, where it comes from and its seal."""
    placeholder = draw_placeholder()
    identity = json.dumps({**provenance.describe(path, contract), KEY: placeholder}, ensure_ascii=False)
    with replace_when_complete(path) as path_temporary:
        # Nothing in it may end the comment.
        content = f"{text.rstrip()}\n\n{START}{identity.replace('>', ESCAPED)}{END}\n"
        path_temporary.write_text(content, encoding="utf-8")
        seal_file(path_temporary, placeholder)


def read_identity(path: str | Path) -> dict[str, Any]:
    """What a report says of itself.

    Raises:
        ValueError: the file is missing, damaged or no report.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        check_seal(path)
        return json.loads(content.rpartition(START)[2].removesuffix(f"{END}\n"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; delete it and run snakemake again") from None


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys; floats with six decimals, NaN as an empty cell."""
    with (
        replace_when_complete(path) as path_temporary,
        path_temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _format_value(value) for name, value in row.items()} for row in rows)


def _format_value(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value + 0.0:.6f}"
