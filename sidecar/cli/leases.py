"""`spend leases`: spending power that is with sidecars which are not heard any more."""

from __future__ import annotations

import shlex
from typing import Final

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, show_json
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import with_ledger
from sidecar.cli.heard import reason_option
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.fleet_views import LeaseView

_HOW: Final = ("spent", "returned", "unaccounted")


@click.group("leases")
def command() -> None:
    """Spending power with sidecars that are not heard any more: list it, and say what became of it."""


@command.command("list")
@click.option("--customer", default="", help="Whose; by default everybody's.")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List what is out on leases whose sidecar is silent, longest first.

    quarantined: reserved until the sidecar is back, or a day has passed. unaccounted: nobody knows whether it was
    spent, and it counts as spent. spent: somebody said so. What the sidecar itself says, should it come back, counts
    for more.
    """
    pages = client.pages("/v1/leases", customer=customer)
    if as_json:
        return each_row(pages)
    show_table(
        ("customer", "lease", "sidecar", "state", "silent since", ">amount"),
        [
            (row.customer, row.lease_id, row.sidecar, row.state, show_instant(row.silent_since_ms), _amount(row))
            for row in all_rows(pages, LeaseView)
        ],
        nothing="Every sidecar that holds anything is heard.",
    )
    return None


@command.command("resolve")
@click.argument("customer")
@click.argument("lease")
@click.option(
    "--as", "how", type=OneOf(list(_HOW)), required=True,
    help="spent: it was. returned: its holder cannot act again (pod and volume gone), and has not spent it. "
    "unaccounted: nobody knows.",
)  # fmt: skip
@reason_option
@json_option
@with_ledger
def resolve(client: LedgerClient, customer: str, lease: str, *, how: str, reason: str, as_json: bool) -> None:
    """Say what became of what is out on LEASE of CUSTOMER, whose sidecar is silent.

    `spent` and `unaccounted` can be said anew; `returned` cannot: what comes back may be lent to others at once.
    """
    form = {"customer": customer, "lease_id": lease, "how": how, "reason": reason}
    raw = client.post("/v1/leases/resolve", form)
    if as_json:
        return show_json(raw)
    done = decoded(raw, LeaseView)
    click.echo(f"{_amount(done)} of {done.account}, lent to {done.sidecar}: {done.state}.")
    if how == "returned":
        click.echo("It can be lent again. Should its holder come back, what it spent is booked all the same, as late.")
    else:
        other = "unaccounted" if how == "spent" else "spent"
        words = f"spend leases resolve {shlex.quote(customer)} {shlex.quote(lease)} --as {other} --reason WHY"
        click.echo(f"To say otherwise: {words}", err=True)
    return None


def _amount(row: LeaseView) -> str:
    return f"{row.amount.text} {row.amount.currency}"
