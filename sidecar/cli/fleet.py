"""`spend fleet`: the sidecars of a ledger, and what each holds."""

from __future__ import annotations

import click

from sidecar.cli.answers import all_rows, each_row, json_option
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.fleet_views import SidecarView


@click.command("fleet")
@json_option
@with_ledger
def command(client: LedgerClient, as_json: bool) -> None:
    """List the sidecars: when each was last heard, how many leases it holds, how much, and what is in quarantine.

    All that were heard in the last day and have not stopped, and all that hold anything. A call takes from budgets
    and grants at once, so what a sidecar holds is more than it can spend. Which accounts: spend exposure CUSTOMER.
    """
    pages = client.pages("/v1/sidecars")
    if as_json:
        return each_row(pages)
    show_table(
        ("sidecar", "last heard", ">leases", ">holds", ">quarantined", ">in quarantine"),
        [
            (
                row.sidecar,
                "-" if row.heard_at_ms is None else show_instant(row.heard_at_ms),
                str(row.leases),
                ", ".join(map(show_money, row.holds)) or "-",
                str(row.quarantined_leases),
                ", ".join(map(show_money, row.quarantined)) or "-",
            )
            for row in all_rows(pages, SidecarView)
        ],
        nothing="No sidecar was heard in the last day, and none holds anything.",
    )
    return None
