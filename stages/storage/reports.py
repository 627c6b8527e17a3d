"""Files for people: texts and CSV tables, whole or not at all."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.storage.files import replace_when_complete


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replace_when_complete(path) as path_temporary:
        path_temporary.write_text(text, encoding="utf-8")


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
