"""`spend journal`: the entries of a customer's book."""

from __future__ import annotations

from typing import Final

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import counted, show_instant, show_table
from sidecar.ledger.views import EntryView, Leg

KINDS: Final = (
    "usage", "customer_added", "timezone_set", "nodes_added", "node_moved", "frozen", "unfrozen", "grant_issued",
    "grant_expired", "grant_voided", "budget_set", "budget_removed", "budget_counted", "threshold_crossed", "lent",
    "returned", "debt_repaid", "key_created", "key_revoked", "rate_limit_set", "rate_limit_removed",
    "token_made", "token_revoked", "sidecar_token_set", "sidecar_token_revoked", "clock_accepted", "book_restored",
    "history_fenced", "loss_accepted", "learning_ended", "lease_redeclared", "lease_written_off", "lease_resolved",
    "lease_revived",
)  # fmt: skip
"""Every kind of entry that the ledger writes."""

_TITLES = (">sequence", "recorded", "kind", "key", "actor", "moves", "hash")


@click.command("journal")
@click.argument("customer")
@click.option("--kind", type=OneOf(KINDS), metavar="K", help=f"This kind only: {', '.join(KINDS)}.")
@json_option
@with_ledger
def command(client: LedgerClient, customer: str, kind: str | None, as_json: bool) -> None:
    """Show the entries of CUSTOMER's book, oldest first. Nothing in it is ever changed or removed."""
    pages = client.pages(f"/v1/customers/{segment(customer)}/entries", kind=kind or "")
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
        entry.key or _calls(entry),
        entry.actor,
        " ".join(map(_move, entry.legs)) or "-",
        entry.hash[:12],
    )


def _calls(entry: EntryView) -> str:
    """How many settled calls an entry books; they have no key in common."""
    count = entry.facts.get("calls")
    return counted(count, "call") if isinstance(count, int) else ""


def _move(leg: Leg) -> str:
    return f"{leg.account}.{leg.bucket}{leg.atoms:+d}"
