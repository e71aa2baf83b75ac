"""`spend exposure`: what can be spent without asking the ledger, and by whom."""

from __future__ import annotations

import click

from sidecar.cli.answers import all_rows, each_row, json_option
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.fleet_views import ExposureView


@click.command("exposure")
@click.argument("path")
@json_option
@with_ledger
def command(client: LedgerClient, path: str, as_json: bool) -> None:
    """Show what can be spent of PATH (acme, acme/team:data, acme/user:ann) without asking the ledger, and by whom.

    One line for each account, of a budget in a period, of a grant, of a budget's overdraft (grace). What is really
    consumed of it is never more than settled + unaccounted + exposure. "unshipped" of that is spent already, by the
    sidecars' own counts, and not booked yet. What open calls may cost beyond their holds is not in it: the sidecars'
    metrics tell it (spend_unbounded_excess_atoms, spend_growing_excess_atoms). A call takes from each budget above it
    and from grants, so lines are not to be added up. Who holds it stands below, those with the most first.
    """
    customer, _, rest = path.partition("/")
    pages = client.pages(f"/v1/customers/{segment(customer)}/exposure", node=rest.rpartition("/")[2])
    if as_json:
        return each_row(pages)
    rows = list(all_rows(pages, ExposureView))
    if rows and rows[0].unknown_since_ms is not None:
        since = show_instant(rows[0].unknown_since_ms)
        click.echo(f"UNKNOWN since {since}: the book has lost something. See: spend ledger learning", err=True)
    show_table(
        ("path", "account", "kind", ">settled", ">unaccounted", ">live", ">quarantined", ">unshipped", ">exposure"),
        [
            (row.path, row.account, row.kind, *map(show_money, (row.settled, row.unaccounted, row.live)),
             show_money(row.quarantined), show_money(row.unshipped), show_money(row.exposure))
            for row in rows
        ],
        nothing=f"Nothing of {path} can be spent without asking the ledger.",
    )  # fmt: skip
    if rows:
        click.echo()
        show_table(
            ("account", "sidecar", ">amount", "until", "state"),
            [
                (row.account, one.sidecar, show_money(one.amount), show_instant(one.pays_until_ms),
                 "quarantined" if one.quarantined else "live")
                for row in rows
                for one in row.holders
            ],
        )  # fmt: skip
    return None
