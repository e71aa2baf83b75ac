"""`spend customers`: who pays."""

from __future__ import annotations

import click

from sidecar.cli.answers import decoded, each_row, json_option, page_rows, show_json
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import CustomerView


@click.group("customers")
def command() -> None:
    """Who pays: add and list."""


@command.command("add")
@click.argument("customer")
@click.option(
    "--wallet",
    type=OneOf(["required", "none"]),
    help="required: calls are paid from grants, which is so where nothing is said. "
    "none: calls are counted; at least one hard budget must bound them.",
)
@json_option
@with_ledger
def add(client: LedgerClient, customer: str, wallet: str | None, as_json: bool) -> None:
    """Add a customer. Adding it again changes nothing, and its wallet is for good."""
    raw = client.post("/v1/customers", {"customer": customer, "wallet": wallet or ""})
    if as_json:
        return show_json(raw)
    made = decoded(raw, CustomerView)
    click.echo(f"Customer {made.customer} (wallet {made.wallet}).")
    if made.wallet == "required":
        click.echo(f"Give it credit with `spend grants add {made.customer} AMOUNT`.")
    else:
        click.echo(f"Bound it with `spend budgets set {made.customer} --limit AMOUNT --per day`.")
    return None


@command.command("list")
@json_option
@with_ledger
def list_(client: LedgerClient, as_json: bool) -> None:
    """List all customers."""
    pages = client.pages("/v1/customers")
    if as_json:
        return each_row(pages)
    rows = [row for page in pages for row in page_rows(page, CustomerView)]
    show_table(
        ("customer", "wallet", "created", ">entries"),
        [(row.customer, row.wallet, show_instant(row.created_at_ms), str(row.entries)) for row in rows],
        nothing="No customers yet. Add one with `spend customers add NAME`.",
    )
    return None
