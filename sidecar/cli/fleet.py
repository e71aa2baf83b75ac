"""`spend fleet`: the sidecars of a ledger, how each is, and what it holds."""

from __future__ import annotations

import click

from sidecar.cli.answers import all_rows, each_row, json_option
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_age, show_instant, show_money, show_table
from sidecar.ledger.fleet_views import SidecarView


@click.command("fleet")
@json_option
@with_ledger
def command(client: LedgerClient, as_json: bool) -> None:
    """List the sidecars: version, when each was last heard, what it holds, its outbox, and its drift from the book.

    All that were heard in the last day and have not stopped, and all that hold anything. A call takes from budgets
    and grants at once, so what a sidecar holds is more than it can spend. Which accounts: spend exposure CUSTOMER.

    "unbooked": calls that it has settled and the ledger has not booked yet, as it said when it was heard, and since
    when the oldest waits. "drift": how much of its own count the book lacks, on all its leases together; with a minus
    what the book has beyond it. If that lasts, another runs on a copy of its files, or see spend verify CUSTOMER.
    """
    pages = client.pages("/v1/sidecars")
    if as_json:
        return each_row(pages)
    show_table(
        ("sidecar", "version", "last heard", ">leases", ">holds", ">quarantined", ">in quarantine", ">unbooked",
         ">for", ">outbox", ">drift"),
        [
            (
                row.sidecar,
                row.software or "-",
                "-" if row.heard_at_ms is None else show_instant(row.heard_at_ms),
                str(row.leases),
                ", ".join(map(show_money, row.holds)) or "-",
                str(row.quarantined_leases),
                ", ".join(map(show_money, row.quarantined)) or "-",
                "-" if row.outbox_calls is None else str(row.outbox_calls),
                show_age(row.outbox_age_ms) if row.outbox_calls else "-",
                "-" if row.outbox_bytes is None else f"{row.outbox_bytes / 2**20:.1f} MiB",
                _drift(row),
            )
            for row in all_rows(pages, SidecarView)
        ],
        nothing="No sidecar was heard in the last day, and none holds anything.",
    )  # fmt: skip
    return None


def _drift(row: SidecarView) -> str:
    return ", ".join([*map(show_money, row.unbooked), *(f"-{show_money(one)}" for one in row.overbooked)]) or "-"
