"""What commands print: aligned columns for people, one JSON object a line for programs.

A table that is wider than the terminal is folded: the columns that find no room stand below, indented, under titles
that are folded alike. Left to the terminal, every line would break somewhere else, and no column be one any more.
Where the output is no terminal nothing is folded: what reads it there goes by lines.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import click

from sidecar.ledger.views import Money

_GAP: Final = "  "
"""Between two columns, and before those that stand below the first."""

_LEAST_ROOM: Final = 20
"""Columns of a terminal below which nothing is folded further."""


def terminal_room() -> int | None:
    """How many characters fit into a line of the terminal that is written to; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str = "none") -> None:
    """Print rows under their titles; a title that begins with `>` stands over a column aligned right.

    Args:
        titles: one for each column.
        rows: as many texts as there are titles, each.
        nothing: what to say where there are no rows.
    """
    for line in table_lines(titles, rows, room=terminal_room()) or [nothing]:
        click.echo(line)


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[str]], *, room: int | None = None) -> list[str]:
    """The lines that `show_table` prints, folded into `room`; none where there are no rows."""
    table = [[printable(cell) for cell in row] for row in rows]
    if not table:
        return []
    heads = [title.removeprefix(">").upper() for title in titles]
    widths = [max(map(len, column)) for column in zip(heads, *table, strict=True)]
    bands = _bands(widths, room)
    lines: list[str] = []
    for row in (heads, *table):
        cells = [
            cell.rjust(width) if title.startswith(">") else cell.ljust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        lines += _folded(cells, bands, room)
    return lines


def _bands(widths: Sequence[int], room: int | None) -> list[range]:
    """Which columns share a line: all of them, or as many as find room, the rest below."""
    bands: list[range] = []
    start, taken = 0, 0
    for column, width in enumerate(widths):
        more = width + (len(_GAP) if column > start or bands else 0)
        if room is not None and column > start and taken + more > room:
            bands.append(range(start, column))
            start, taken, more = column, 0, width + len(_GAP)
        taken += more
    return [*bands, range(start, len(widths))]


def _folded(cells: Sequence[str], bands: Sequence[range], room: int | None) -> list[str]:
    """A row's lines, one for each band; a cell that is wider than the terminal by itself goes on below."""
    lines: list[str] = []
    for number, band in enumerate(bands):
        indent = _GAP if number else ""
        line = (indent + _GAP.join(cells[column] for column in band)).rstrip()
        if room is None or len(line) <= room:
            lines.append(line)
        else:
            lines += _wrapped(line.strip(), max(room, _LEAST_ROOM), first=indent, then=2 * _GAP)
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _wrapped(text: str, room: int, *, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, room, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    said = [(name, printable(value)) for name, value in facts if value]
    width = max((len(name) for name, _ in said), default=0)
    room = terminal_room()
    for name, value in said:
        line = f"  {name.ljust(width)}  {value}"
        click.echo("\n".join(beside(line, room, width + 4)))


def beside(line: str, room: int | None, column: int) -> list[str]:
    """A line whose last text begins at `column`; too wide for `room`, the text goes on below its beginning."""
    if room is None or len(line) <= room or room < column + _LEAST_ROOM:
        return [line]
    return textwrap.wrap(
        line[column:],
        room,
        initial_indent=line[:column],
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def counted(count: int, what: str) -> str:
    """So many of something, in the plural but for one."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor: names come from callers."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def show_money(money: Money | None) -> str:
    """An amount with its currency; `-` for unknown."""
    return "-" if money is None else f"{money.text} {money.currency}"


def show_instant(at_ms: int | None) -> str:
    """An instant, UTC, to the second; `never` for None."""
    if at_ms is None:
        return "never"
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError):
        return f"{at_ms} ms"


def show_age(age_ms: int | None) -> str:
    """A duration in the unit that fits; `-` for unknown."""
    if age_ms is None:
        return "-"
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if age_ms >= unit_ms:
            return f"{age_ms / unit_ms:.1f} {unit}"
    return f"{age_ms} ms"
