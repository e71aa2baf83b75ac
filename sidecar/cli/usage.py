"""`spend usage`: settled calls, in the order booked."""

from __future__ import annotations

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.connection import with_ledger
from sidecar.cli.instants import Instant
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.views import UsageView

_TITLES = ("settled", "request", "customer", "who", "model", ">input", ">output", "state", ">charge")


@click.command("usage")
@click.option("--customer", default="", metavar="C", help="This customer only.")
@click.option("--since", type=Instant(past=True), default=0, metavar="T", help="A date, or a duration back from now.")
@json_option
@with_ledger
def command(client: LedgerClient, customer: str, since: int, as_json: bool) -> None:
    """Show settled calls, one a line, in the order booked."""
    pages = client.pages("/v1/usage", customer=customer, since_ms=since)
    if as_json:
        return each_row(pages)
    shown = False
    for page in pages:
        rows = page_rows(page, UsageView)
        if rows or not shown:
            show_table(_TITLES, map(_cells, rows), nothing="No settled calls.")
            shown = True
    return None


def _cells(call: UsageView) -> tuple[str, ...]:
    dimensions = (("user", call.user), ("agent", call.agent), ("session", call.session), ("feature", call.feature))
    who = " ".join((call.path, *(f"{name}={value}" for name, value in dimensions if value)))
    return (
        show_instant(call.recorded_at_ms),
        call.request_id,
        call.customer,
        who.strip() or "-",
        call.model,
        _tokens(call, "input_tokens"),
        _tokens(call, "output_tokens"),
        " ".join((call.state, *call.flags)),
        show_money(call.charge),
    )


def _tokens(call: UsageView, name: str) -> str:
    """A counter; `?` where the provider did not say, which is not zero."""
    count = call.usage.get(name)
    return "?" if count is None else str(count)
