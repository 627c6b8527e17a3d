"""Tables for a browser: pages that need no other file, in which names are texts and nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from stages.core.suggestions import escape_name
from stages.storage.reports import write_text

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 "DejaVu Sans", Verdana, sans-serif; margin: 1.5em; color: #000; max-width: 66em; }}
h2 {{ font-size: 1.1em; margin: 1.6em 0 0.5em; }}
p {{ margin: 0.4em 0; }}
table {{ border-collapse: collapse; font-size: 0.87em; }}
th, td {{ padding: 0.3em 0.8em; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }}
th {{ border-bottom: 2px solid #000; }}
th:first-child, td:first-child, .text {{ text-align: left; }}
td.best {{ font-weight: bold; }}
td.paper {{ background: #f0f0f0; }}
svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Cell(str):
    """A cell of a table that looks unlike others: `best`, `paper` or `text`."""

    __slots__ = ("look",)

    def __new__(cls, text: str, look: str) -> "Cell":
        """Text and what it looks like."""
        cell = super().__new__(cls, text)
        cell.look = look
        return cell


def write_page(path: str | Path, title: str, parts: Sequence[str]) -> None:
    """Write a page of parts that are HTML already."""
    write_text(path, _PAGE.format(title=escape(title), body="\n".join(parts)))


def make_heading(text: str) -> str:
    """A heading."""
    return f"<h2>{_clean(text)}</h2>"


def make_paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{_clean(text)}</p>"


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns but the first are numbers unless a cell says otherwise."""
    head = "".join(_make_cell(cell, "th") for cell in header)
    body = "\n".join(f"<tr>{''.join(map(_make_cell, row))}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _make_cell(cell: str, tag: str = "td") -> str:
    look = f' class="{cell.look}"' if isinstance(cell, Cell) else ""
    return f"<{tag}{look}>{_clean(cell)}</{tag}>"


def _clean(text: str) -> str:
    return escape(escape_name(str(text)))
