"""`spend nodes`: the tree below a customer."""

from __future__ import annotations

import click

from sidecar.cli.answers import each_row, json_option, page_rows
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import NodeView


@click.group("nodes")
def command() -> None:
    """The departments, teams … below a customer: add and list."""


@command.command("add")
@click.argument("path")
@json_option
@with_ledger
def add(client: LedgerClient, path: str, as_json: bool) -> None:
    """Add every node of PATH that does not exist yet, such as acme/department:analytics/team:data."""
    page = client.post("/v1/nodes", {"path": path})
    if as_json:
        return each_row([page])
    for row in page_rows(page, NodeView):
        click.echo(f"Node {row.path}.")
    return None


@command.command("list")
@click.argument("customer")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List a customer's tree, parents before children."""
    page = client.get(f"/v1/customers/{segment(customer)}/nodes")
    if as_json:
        return each_row([page])
    show_table(
        ("path", "kind", "id", "created"),
        [(row.path, row.kind, row.id, show_instant(row.created_at_ms)) for row in page_rows(page, NodeView)],
        nothing=f"No nodes. Add some with `spend nodes add {customer}/department:NAME/team:NAME`.",
    )
    return None
