"""Text for people: plain, aligned, pipe-friendly.

Names come from other machines, so every cell is cleaned: what a terminal would obey instead of show (escape
sequences, line breaks, direction overrides) is written out.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

COLUMN_GAP = "  "


def clean(value: object) -> str:
    """``value`` as text without anything that a terminal acts on."""
    text = "-" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns under upper-case headers; columns of numbers to the right; no line ends in blanks."""
    values = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in values]
    numeric = [
        bool(values) and all(_is_number(row[column]) or row[column] is None for row in values)
        for column in range(len(headers))
    ]
    lines = [[header.upper() for header in headers], *cells]
    return "\n".join(_aligned(lines, numeric))


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Two columns, without a header."""
    rows = [[name, _cell(value)] for name, value in pairs]
    return "\n".join(_aligned(rows, [False, False]))


def records(rows: Sequence[dict[str, Any]]) -> str:
    """A table of dicts with the keys of all of them, in the order in which they first appear, as columns."""
    headers = list(dict.fromkeys(key for row in rows for key in row))
    return table(headers, [[row.get(header) for header in headers] for row in rows])


def as_json(value: object) -> str:
    """Stable JSON: keys in the daemon's order, ASCII only."""
    return json.dumps(value, indent=2)


def number(value: float) -> str:
    """A number without a needless fraction."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min``, ``4 d 2 h``: the two largest units at most."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def plural(count: int, noun: str, several: str | None = None) -> str:
    """``1 route``, ``2 routes``; ``several`` where an s is not enough."""
    return f"{count} {noun}" if count == 1 else f"{count} {several or noun + 's'}"


def listed(items: Iterable[object]) -> str:
    """Items with commas between them, each clean, or a dash."""
    return ", ".join(clean(item) for item in items) or "-"


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return listed(value)
    if isinstance(value, float):
        return number(value)
    return clean(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _aligned(lines: list[list[str]], numeric: list[bool]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(numeric))] if lines else []
    return [
        COLUMN_GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]
