"""`spend audit`: who changed what, when and why."""

from __future__ import annotations

import json

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.connection import with_ledger
from sidecar.cli.instants import Instant
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import ActView

_TITLES = ("recorded", "actor", "did", "customer", "what", "why", ">entry")
MAX_WHAT = 80


@click.command("audit")
@click.option("--customer", default="", metavar="C", help="Of this one only; _system: what is of no customer.")
@click.option("--actor", default="", metavar="A", help="By this one only: the name of a token, or admin.")
@click.option("--since", type=Instant(past=True), default=0, metavar="T", help="A date, or a duration back from now.")
@click.option("--until", type=Instant(past=True), default=None, metavar="T", help="Before then.")
@json_option
@with_ledger
def command(client: LedgerClient, *, customer: str, actor: str, since: int, until: int | None, as_json: bool) -> None:
    """Show every change that somebody made, oldest first: who, what, and the reason they gave with --reason.

    Each is an entry of a customer's journal, chained like any other, or of _system where it is of no customer.
    """
    until_ms: int | str = "" if until is None else until
    pages = client.pages("/v1/audit", customer=customer, actor=actor, since_ms=since, until_ms=until_ms)
    if as_json:
        return each_row(pages)
    shown = False
    for page in pages:
        rows = page_rows(page, ActView)
        if rows or not shown:
            show_table(_TITLES, map(_cells, rows), nothing="Nobody has changed anything.")
            shown = True
    return None


def _cells(act: ActView) -> tuple[str, ...]:
    facts = json.dumps(act.facts, ensure_ascii=False, sort_keys=True)
    return (
        show_instant(act.recorded_at_ms),
        act.actor,
        act.kind,
        act.customer,
        facts if len(facts) <= MAX_WHAT else f"{facts[: MAX_WHAT - 1]}…",
        act.reason or "-",
        str(act.sequence),
    )
