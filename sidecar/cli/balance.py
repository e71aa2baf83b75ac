"""`spend balance`: what a customer has, and has used."""

from __future__ import annotations

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.budgets import show_budgets
from sidecar.cli.connection import with_ledger
from sidecar.cli.grants import show_grants
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_facts, show_money
from sidecar.ledger.views import BalanceView


@click.command("balance")
@click.argument("customer")
@json_option
@with_ledger
def command(client: LedgerClient, customer: str, as_json: bool) -> None:
    """Show what CUSTOMER has: its credit, its grants in burn order, its budgets.

    Leased is what sidecars hold to spend without asking; it is neither spent nor free.
    """
    raw = client.get(f"/v1/customers/{segment(customer)}/balance")
    if as_json:
        return show_json(raw)
    balance = decoded(raw, BalanceView)
    click.echo(f"{balance.customer} (wallet {balance.wallet})")
    show_facts(
        (name, ", ".join(map(show_money, amounts)))
        for name, amounts in (
            ("available", balance.available),
            ("leased", balance.leased),
            ("consumed", balance.consumed),
            ("debt", tuple(debt for debt in balance.debt if debt.atoms)),
        )
    )
    if balance.grants or balance.wallet == "required":
        click.echo()
        show_grants(balance.grants, balance.customer)
    click.echo()
    show_budgets(balance.budgets, balance.customer)
    return None
