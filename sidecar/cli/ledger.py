"""`spend ledger`: the ledger itself."""

from __future__ import annotations

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant
from sidecar.ledger.views import ClockView


@click.group("ledger")
def command() -> None:
    """The ledger itself: its clock."""


@command.command("clock")
@click.option("--accept", is_flag=True, help="The machine's clock is right: go by it from now on.")
@json_option
@with_ledger
def clock(client: LedgerClient, accept: bool, as_json: bool) -> None:
    """Show the time that the ledger goes by, and how far the machine's clock has jumped from it.

    After a jump of more than 5 minutes the ledger goes on by time as it passes: no period begins and no
    grant expires because a clock was set. It goes by the machine's clock again once that is back, after
    a restart, or with --accept.
    """
    raw = client.post("/v1/clock/accept", {}) if accept else client.get("/v1/clock")
    found = decoded(raw, ClockView)
    if as_json:
        show_json(raw)
    elif not found.jump_ms:
        click.echo(f"{show_instant(found.now_ms)}, by the machine's clock")
    else:
        way = "ahead of" if found.jump_ms > 0 else "behind"
        click.echo(f"{show_instant(found.now_ms)}; the machine's clock is {abs(found.jump_ms) // 1000} s {way} it")
        click.echo("If the machine's clock is right: spend ledger clock --accept", err=True)
