"""`spend customers`: who pays."""

from __future__ import annotations

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, show_json
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.heard import told
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import CustomerView, HoldersView


@click.group("customers")
def command() -> None:
    """Who pays: add and list, by which clocks their periods go, and which sidecars hold what they have."""


@command.command("add")
@click.argument("customer")
@click.option(
    "--wallet",
    type=OneOf(["required", "none"]),
    help="required: calls are paid from grants, which is so where nothing is said. "
    "none: calls are counted; at least one hard budget must bound them.",
)
@click.option("--timezone", metavar="ZONE", help="As `spend customers timezone` sets it; UTC where nothing is said.")
@why_option
@json_option
@with_ledger
def add(client: LedgerClient, customer: str, *, wallet: str | None, timezone: str | None, as_json: bool) -> None:
    """Add a customer. Adding it again changes nothing, and its wallet is for good."""
    raw = client.post("/v1/customers", {"customer": customer, "wallet": wallet or ""})
    if timezone is not None:
        raw = client.post("/v1/customers/timezone", {"customer": customer, "timezone": timezone})
    if as_json:
        return show_json(raw)
    made = decoded(raw, CustomerView)
    place = "" if timezone is None else f", time zone {made.timezone}"
    click.echo(f"Customer {made.customer} (wallet {made.wallet}{place}).")
    if made.wallet == "required":
        click.echo(f"Give it credit with `spend grants add {made.customer} AMOUNT`.")
    else:
        click.echo(f"Bound it with `spend budgets set {made.customer} --limit AMOUNT --per day`.")
    return None


@command.command("timezone")
@click.argument("customer")
@click.argument("zone")
@why_option
@json_option
@with_ledger
def timezone(client: LedgerClient, customer: str, zone: str, as_json: bool) -> None:
    """Let CUSTOMER's days, weeks and months follow the clocks of a place: Europe/Berlin, Asia/Kolkata, UTC.

    What runs goes on to its end as it was told. The period after it begins there and ends with one of the new
    time zone: where less than half of that one is left, with the next. Without a budget yet, it acts at once.
    """
    raw = client.post("/v1/customers/timezone", {"customer": customer, "timezone": zone})
    if as_json:
        return show_json(raw)
    made = decoded(raw, CustomerView)
    click.echo(f"The periods of {made.customer} follow {made.timezone}, each from its next one on.")
    click.echo(f"When they end: `spend budgets list {made.customer}`.")
    return None


@command.command("list")
@json_option
@with_ledger
def list_(client: LedgerClient, as_json: bool) -> None:
    """List all customers."""
    pages = client.pages("/v1/customers")
    if as_json:
        return each_row(pages)
    rows = all_rows(pages, CustomerView)
    show_table(
        ("customer", "wallet", "timezone", "created", ">entries"),
        [(row.customer, row.wallet, row.timezone, show_instant(row.created_at_ms), str(row.entries)) for row in rows],
        nothing="No customers yet. Add one with `spend customers add NAME`.",
    )
    return None


@command.command("holders")
@click.argument("customer")
@json_option
@with_ledger
def holders(client: LedgerClient, customer: str, as_json: bool) -> None:
    """Count the sidecars that hold spending power of CUSTOMER, and those of them that go by its last change."""
    raw = client.get(f"/v1/customers/{segment(customer)}/holders")
    if as_json:
        return show_json(raw)
    click.echo(told(decoded(raw, HoldersView)))
    return None
