"""Settled calls added up: the pages of the ledger merged, and shown as a table, as lines, or as CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import click

from sidecar.cli.answers import page_rows
from sidecar.cli.tables import printable, show_table
from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.ledger.views import Money, SumView

BAR_CELLS: Final = 24
COUNTERS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_EIGHTHS: Final = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; names come from callers."""


@dataclass(slots=True)
class Group:
    """One group over all pages. `currency` is None for calls without a known price."""

    by: str
    name: str | None
    currency: str | None
    scale: int = 0
    atoms: int = 0
    calls: int = 0
    estimated_calls: int = 0
    usage: dict[str, int | None] = field(default_factory=dict)

    def add(self, row: SumView) -> None:
        """Add a page's part of it."""
        self.calls += row.calls
        self.estimated_calls += row.estimated_calls
        if row.charge is not None:
            self.atoms += row.charge.atoms
            self.scale = row.charge.scale
        for counter, count in row.usage.items():
            known = self.usage.get(counter)
            self.usage[counter] = count if known is None else known + (count or 0)

    @property
    def charge(self) -> Money | None:
        """What it was charged in all; None where no price was known."""
        return (
            None
            if self.currency is None
            else Money(self.currency, self.atoms, self.scale, amount_text(self.atoms, self.scale))
        )


def amount_text(atoms: int, scale: int) -> str:
    """Atoms of a currency of that scale, as a decimal: its code does not matter to the digits."""
    return format_amount(atoms, Currency("x", scale))


def merged(pages: Iterable[bytes], *, by_time: bool) -> list[Group]:
    """All pages' groups, each once: by time the oldest first, else the dearest; unknown prices last."""
    groups: dict[tuple[str | None, str | None], Group] = {}
    for page in pages:
        for row in page_rows(page, SumView):
            currency = None if row.charge is None else row.charge.currency
            key = (row.group, currency)
            if key not in groups:
                groups[key] = Group(row.by, row.group, currency)
            groups[key].add(row)
    if by_time:
        return sorted(groups.values(), key=lambda one: (one.name or "", one.currency or "~"))
    return sorted(groups.values(), key=lambda one: (one.currency or "~", -one.atoms, -one.calls, one.name or "~"))


def totals(groups: Iterable[Group]) -> list[Group]:
    """One for each currency (and one for calls without a price): the sum of its groups, to the atom."""
    found: dict[str | None, Group] = {}
    for group in groups:
        total = found.setdefault(group.currency, Group(group.by, "total", group.currency))
        total.add(SumView(group.by, None, group.calls, group.estimated_calls, group.usage, group.charge))
    return list(found.values())


def print_table(groups: Sequence[Group], *, by: str, bars: bool) -> None:
    """Groups, then their totals; with bars, each beside the dearest of its currency."""
    dearest: dict[str | None, int] = {}
    for group in groups:
        dearest[group.currency] = max(dearest.get(group.currency, 0), group.atoms)
    rows = [(*_cells(group), _bar(group.atoms, dearest[group.currency]) if bars else "") for group in groups]
    if not rows:
        click.echo("No settled calls. `spend usage --by day` without --since or --customer shows all there are.")
        return
    rows += [(*_cells(total), "") for total in totals(groups)]
    show_table((by, ">calls", ">input", ">cached", ">output", ">charge", "share" if bars else ""), rows)


def print_json(groups: Iterable[Group]) -> None:
    """One object a line."""
    for group in groups:
        charge = group.charge
        shown = None
        if charge is not None:
            names = ("currency", "atoms", "scale", "text")
            shown = {name: getattr(charge, name) for name in names}
        facts = {
            "by": group.by,
            "group": group.name,
            "calls": group.calls,
            "estimated_calls": group.estimated_calls,
            "usage": group.usage,
            "charge": shown,
        }
        click.echo(json.dumps(facts))


def print_csv(groups: Iterable[Group], *, by: str) -> None:
    """A line of titles, then one for each group; no totals, which a spreadsheet would add up again."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((by, "calls", "estimated_calls", *COUNTERS, "charge", "currency", "atoms"))
    for group in groups:
        charge = group.charge
        money = ("-", "-", "-") if charge is None else (charge.text, charge.currency, charge.atoms)
        name = "-" if group.name is None else _harmless(group.name)
        counts = [_count(group.usage.get(counter)) for counter in COUNTERS]
        writer.writerow((name, group.calls, group.estimated_calls, *counts, *money))
    click.echo(text.getvalue(), nl=False)


def _cells(group: Group) -> tuple[str, ...]:
    charge = group.charge
    return (
        "-" if group.name is None else group.name,
        str(group.calls),
        _count(group.usage.get("input_tokens")),
        _count(group.usage.get("cache_read_tokens")),
        _count(group.usage.get("output_tokens")),
        "-" if charge is None else f"{charge.text} {charge.currency}",
    )


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


def _harmless(name: str) -> str:
    """A name that no spreadsheet computes: one that begins like a formula gets a quote before it."""
    shown = printable(name)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _bar(atoms: int, dearest: int) -> str:
    """A bar as long as the share of the dearest, in eighths of a cell; whatever was charged shows a little."""
    if atoms <= 0 or dearest <= 0:
        return ""
    eighths = max(1, atoms * BAR_CELLS * 8 // dearest)
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return "#" * max(1, eighths // 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]
