"""What the pages say is runnable: marks in comments before blocks of code.

<!-- runnable -->              the block runs as printed, in a project whose default experiment is finished
<!-- runnable: MODULE -->      the same, where MODULE is installed
<!-- write: PATH -->           the block is a file
<!-- append: PATH -->          the block is the end of one
<!-- edit: PATH -->            the block says which lines of a file are replaced; @@ lies between places
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
MARK = re.compile(
    r"^<!-- (runnable|write|append|edit)(?:: (\S+))? -->\n\n?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A marked block: what is to be done with it, a module or a path, its language, its text."""

    action: str
    object: str
    language: str
    text: str


def find_blocks(page):
    """The marked blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    blocks = [Block(*found) for found in MARK.findall(text)]
    # A mark that stands before nothing would be a promise that nobody keeps.
    assert len(blocks) == len(re.findall(r"^<!-- (?:runnable|write|append|edit)\b", text, re.MULTILINE)), page.name
    return blocks


def edit(text, change):
    """Text with the lines of a change in the place of those that it names; each must stand there once."""
    for part in re.split(r"^@@.*\n", change, flags=re.MULTILINE):
        lines = [(line[:1], f"{line[1:]}\n") for line in part.splitlines()]
        old = "".join(line for sign, line in lines if sign != "+")
        assert text.count(old) == 1, f"stands {text.count(old)} times in the file:\n{old}"
        text = text.replace(old, "".join(line for sign, line in lines if sign != "-"))
    return text
