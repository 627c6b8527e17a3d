"""What a misspelt name was probably meant to be."""

import difflib
from collections.abc import Iterable

MAX_LISTED = 10


def escape_name(name: str) -> str:
    """A name on one line that any terminal and file can hold: what is not printable becomes an escape."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)


def list_names(names: Iterable[str]) -> str:
    """Names for a message, cut where there are many."""
    names = list(names)
    more = len(names) - MAX_LISTED
    return ", ".join(f"'{escape_name(name)}'" for name in names[:MAX_LISTED]) + (
        f" and {more} more" if more > 0 else ""
    )


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest known name, and the list of them."""
    by_name = {other.lower(): other for other in known}
    nearest = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.5)
    hint = f"; did you mean '{by_name[nearest[0]]}'?" if nearest else ""
    return f"{hint} (known: {list_names(by_name.values())})"
