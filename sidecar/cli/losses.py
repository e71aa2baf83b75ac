"""`spend ledger learning` and `accept-loss`: a book that has lost something, and whom it waits for (L50a)."""

from __future__ import annotations

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.connection import with_ledger
from sidecar.cli.heard import reason_option
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.fleet_views import LearningView


@click.command("learning")
@json_option
@with_ledger
def learning(client: LedgerClient, as_json: bool) -> None:
    """Show whether the book has lost something, and which sidecars have not told yet what they know of it.

    After a restore, or a failover that lost what was answered, nothing is lent until every registered sidecar has
    reported its leases and brought its calls again. What is lent goes on. No time ends that; the sidecars do, or
    `spend ledger accept-loss`.
    """
    raw = client.get("/v1/learning")
    if as_json:
        return show_json(raw)
    return _show(decoded(raw, LearningView))


@click.command("accept-loss")
@click.argument("sidecar", required=False)
@click.option("--all", "everybody", is_flag=True, help="Every sidecar that is waited for.")
@reason_option
@json_option
@with_ledger
def accept_loss(client: LedgerClient, sidecar: str | None, *, everybody: bool, reason: str, as_json: bool) -> None:
    """Wait no longer for SIDECAR, or with --all for any: the ledger lends when nobody else is waited for.

    What it was lent and has spent in the span that the book lost is then unknown for good, and may be lent to others
    a second time. Should it come back, its calls are booked all the same. This cannot be undone.
    """
    if (sidecar is None) is not everybody:
        raise click.UsageError("Name the SIDECAR that will not come back, or say --all; `spend ledger learning` lists.")
    raw = client.post("/v1/learning/accept-loss", {"sidecar": sidecar or "", "reason": reason})
    if as_json:
        return show_json(raw)
    return _show(decoded(raw, LearningView))


def _show(found: LearningView) -> None:
    if found.since_ms is None:
        click.echo(f"The ledger lends; its book is whole as far as anybody knows (history {found.history_id}).")
        return
    click.echo(f"What was spent since {show_instant(found.since_ms)} is unknown: {found.why}.")
    click.echo("Nothing is lent before these sidecars have told what they know:")
    show_table(
        ("sidecar", "started"),
        [(one.sidecar, show_instant(one.started_at_ms)) for one in found.awaited],
        nothing="none",
    )
    click.echo("One that will never come back: spend ledger accept-loss SIDECAR --reason WHY", err=True)
