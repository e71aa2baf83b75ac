"""What commands print: aligned columns for people, one JSON object a line for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from sidecar.ledger.views import Money


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str = "none") -> None:
    """Print rows under their titles; a title that begins with `>` stands over a column aligned right.

    Args:
        titles: one for each column.
        rows: as many texts as there are titles, each.
        nothing: what to say where there are no rows.
    """
    for line in table_lines(titles, rows) or [nothing]:
        click.echo(line)


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines that `show_table` prints; none where there are no rows."""
    table = [[printable(cell) for cell in row] for row in rows]
    if not table:
        return []
    heads = [title.removeprefix(">").upper() for title in titles]
    widths = [max(map(len, column)) for column in zip(heads, *table, strict=True)]
    lines: list[str] = []
    for row in (heads, *table):
        cells = [
            cell.rjust(width) if title.startswith(">") else cell.ljust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    said = [(name, printable(value)) for name, value in facts if value]
    width = max((len(name) for name, _ in said), default=0)
    for name, value in said:
        click.echo(f"  {name.ljust(width)}  {value}")


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
