"""`spend verify`: check a customer's book."""

from __future__ import annotations

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.connection import with_ledger
from sidecar.cli.failures import Failed
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import printable
from sidecar.ledger.views import VerifyView


@click.command("verify")
@click.argument("customer")
@json_option
@with_ledger
def command(client: LedgerClient, customer: str, as_json: bool) -> None:
    """Check CUSTOMER's book: the hash chain of its entries, and every balance against them.

    Exit code 1 where something is wrong.
    """
    raw = client.get(f"/v1/customers/{segment(customer)}/verify")
    found = decoded(raw, VerifyView)
    if as_json:
        show_json(raw)
    elif not found.problems:
        click.echo(f"{found.customer}: {found.entries} entries, all well. Head {found.head}")
    if found.problems:
        problems = "".join(f"\n  {printable(problem)}" for problem in found.problems)
        raise Failed(
            f"{found.customer}: {len(found.problems)} problems in {found.entries} entries:{problems}",
            f"Keep a copy of the whole data folder as it is now; `spend journal {found.customer}` shows the entries.",
        )
