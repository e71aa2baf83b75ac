"""How many sidecars have heard of what was just done (L35): shown after every act that takes something away."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import click

from sidecar.cli.answers import decoded
from sidecar.cli.failures import Failed
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.ledger.views import HoldersView

WAIT_S: Final = 2.0
"""For how long it is asked again until all have: they are told at once, and those that hear it say so at once."""

ASK_EVERY_S: Final = 0.05


reason_option = click.option("--reason", required=True, metavar="WHY", help="Stands in the journal, with your name.")


def wait_until_heard(client: LedgerClient, customer: str) -> HoldersView:
    """Who decides by the customer's last change, after at most WAIT_S."""
    give_up_at = time.monotonic() + WAIT_S
    while True:
        found = decoded(client.get(f"/v1/customers/{segment(customer)}/holders"), HoldersView)
        if found.acknowledged >= found.holders or time.monotonic() >= give_up_at:
            return found
        time.sleep(ASK_EVERY_S)


def show_done(client: LedgerClient, customer: str, raw: bytes, words: str, *, as_json: bool) -> None:
    """Print an act's answer, and how many sidecars decide by it.

    Args:
        client: of the ledger that did it.
        customer: whose policies were changed.
        raw: the ledger's answer, an object.
        words: the same for people.
        as_json: one object, the answer with `heard` beside its own fields where that can be seen.
    """
    try:
        heard = wait_until_heard(client, customer)
    except Failed:  # it was done all the same; a token of one node may not see who holds anything of the customer
        if as_json:
            click.echo(raw.decode())
        else:
            click.echo(words)
        return
    if as_json:
        answer: dict[str, Any] = json.loads(raw)
        counts = {"holders": heard.holders, "acknowledged": heard.acknowledged, "waiting": list(heard.waiting)}
        click.echo(json.dumps(answer | {"heard": counts}, separators=(",", ":")))
        return
    click.echo(words)
    if heard.holders:
        click.echo(told(heard))


def told(heard: HoldersView) -> str:
    """In words, and what to type to look again."""
    if not heard.holders:
        return f"No sidecar holds anything of {heard.customer}: each asks before it lets a call run."
    count = f"{heard.acknowledged} of {heard.holders} sidecars that hold anything of {heard.customer} go by it"
    if heard.acknowledged == heard.holders:
        return f"{count}."
    names = ", ".join(heard.waiting[:5]) + (", …" if len(heard.waiting) > 5 else "")
    return (
        f"{count}. Until they hear of it, at the latest until their leases end, not: {names}.\n"
        f"`spend customers holders {heard.customer}` counts again."
    )
