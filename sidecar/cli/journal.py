"""`spend journal`: the entries of a customer's book."""

from __future__ import annotations

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import EntryView, Leg

_TITLES = (">sequence", "recorded", "kind", "key", "actor", "moves", "hash")


@click.command("journal")
@click.argument("customer")
@click.option("--kind", default="", metavar="K", help="This kind of entry only, such as usage.")
@json_option
@with_ledger
def command(client: LedgerClient, customer: str, kind: str, as_json: bool) -> None:
    """Show the entries of CUSTOMER's book, oldest first. Nothing in it is ever changed or removed."""
    pages = client.pages(f"/v1/customers/{segment(customer)}/entries", kind=kind)
    if as_json:
        return each_row(pages)
    shown = False
    for page in pages:
        rows = page_rows(page, EntryView)
        if rows or not shown:
            show_table(_TITLES, map(_cells, rows), nothing="No entries.")
            shown = True
    return None


def _cells(entry: EntryView) -> tuple[str, ...]:
    return (
        str(entry.sequence),
        show_instant(entry.recorded_at_ms),
        entry.kind,
        entry.key,
        entry.actor,
        " ".join(map(_move, entry.legs)) or "-",
        entry.hash[:12],
    )


def _move(leg: Leg) -> str:
    return f"{leg.account}.{leg.bucket}{leg.atoms:+d}"
