"""`spend usage`: settled calls, in the order booked; or added up."""

from __future__ import annotations

import sys
from typing import Final

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.choices import Grouping, OneOf
from sidecar.cli.connection import with_ledger
from sidecar.cli.instants import Instant
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.sums import merged, print_csv, print_json, print_table
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.views import UsageView

_TITLES = ("settled", "request", "customer", "who", "model", ">input", ">output", "state", ">charge")

GROUPINGS: Final = (
    "day", "hour", "month", "model", "team", "department", "user", "agent", "session", "feature", "product", "provider",
    "customer",
)  # fmt: skip
"""The ledger's own (`ledger.summing`), named here so that the help needs none of it."""

THIS: Final = ("hour", "day", "week", "month", "quarter", "year")
"""Likewise."""


@click.command("usage")
@click.option("--customer", default="", metavar="C", help="This customer only.")
@click.option("--since", type=Instant(past=True), default=0, metavar="T", help="A date, or a duration back from now.")
@click.option("--this", type=OneOf(THIS), help="With --by and --customer: of its day, month … that runs now.")
@click.option("--by", type=Grouping(GROUPINGS), metavar="WHAT", help=f"Sums, by {', '.join(GROUPINGS)} or node:KIND.")
@click.option("--csv", "as_csv", is_flag=True, help="With --by: comma-separated, with titles.")
@click.option("--bars/--no-bars", default=None, help="With --by: a bar for each row.  [on a terminal]")
@json_option
@with_ledger
def command(
    client: LedgerClient,
    *,
    customer: str,
    since: int,
    this: str | None,
    by: str | None,
    as_csv: bool,
    bars: bool | None,
    as_json: bool,
) -> None:
    """Show settled calls, one a line, in the order booked; with --by, what they add up to.

    An hour, day or month is that in which a call was admitted, by the clocks of its customer's time zone, as
    budgets count it; --since goes by when it was booked. What a group does not have is shown as -.
    """
    if this is not None and (by is None or not customer):
        raise click.UsageError(
            f"--this goes with sums of one customer: spend usage --customer C --this {this} --by team"
        )
    if by is not None:
        return _show_sums(client, by, customer, since, this=this or "", as_csv=as_csv, bars=bars, as_json=as_json)
    if as_csv or bars is not None:
        raise click.UsageError("--csv and --bars go with sums: add --by model, or another of those in --help.")
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


def _show_sums(
    client: LedgerClient,
    by: str,
    customer: str,
    since: int,
    *,
    this: str,
    as_csv: bool,
    bars: bool | None,
    as_json: bool,
) -> None:
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms; give one of them.")
    pages = client.pages("/v1/usage/sums", limit=None, by=by, customer=customer, since_ms=since, this=this)
    groups = merged(pages, by_time=by in ("day", "hour", "month"))
    if as_json:
        print_json(groups)
    elif as_csv:
        print_csv(groups, by=by)
    else:
        print_table(groups, by=by, bars=sys.stdout.isatty() if bars is None else bars)


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
