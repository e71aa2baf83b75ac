"""`spend keys`: virtual keys, which say for whom an application spends."""

from __future__ import annotations

import secrets

import click
import msgspec

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, show_json
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.instants import Duration
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import KeyView


@click.group("keys")
def command() -> None:
    """Virtual keys, each of which names who spends: create, list and revoke."""


@command.command("create")
@click.argument("path")
@click.option("--name", default="", help="What it is for, to know it by in the list.")
@click.option("--agent", default="", help="Names this agent too.")
@click.option("--session", default="", help="Names this session too.")
@click.option("--feature", default="", help="Names this feature too.")
@click.option("--product", default="", help="Names this product too.")
@click.option("--expires", type=Duration(), metavar="90d", help="How long it is good: 30m, 12h, 90d, 2w.  [for ever]")
@why_option
@json_option
@with_ledger
def create(
    client: LedgerClient,
    path: str,
    *,
    name: str,
    agent: str,
    session: str,
    feature: str,
    product: str,
    expires: int | None,
    as_json: bool,
) -> None:
    """Make a key that names PATH, and print it: acme, acme/team:data, acme/user:ada, acme/team:data/user:ada.

    Whoever brings it spends as that, whatever else a request says; what the key leaves open a request
    may say for itself: without a user it may name any user of the customer. The ledger is told its hash alone:
    nobody can show it again.
    """
    from sidecar.core.governance.checked_tokens import SECRET_BYTES  # noqa: PLC0415 (not for --help)
    from sidecar.core.governance.virtual_keys import key_digest, write_key  # noqa: PLC0415

    key = write_key(secrets.token_bytes(SECRET_BYTES))
    said = {"name": name, "agent": agent, "session": session, "feature": feature, "product": product}
    form = {"path": path, "sha256": key_digest(key).hex(), "expires_in_ms": expires, **said}
    raw = client.post("/v1/keys", form)
    made = decoded(raw, KeyView)
    if as_json:
        click.echo(msgspec.json.encode({"key": key} | msgspec.to_builtins(made)).decode())
        return
    click.echo(key)
    click.echo(f"It names {_whom(made)}, is shown this once, and goes where a provider's key would.", err=True)
    click.echo(f"To end it: spend keys revoke {made.customer} {made.key_id}", err=True)


@command.command("list")
@click.argument("customer")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List a customer's keys as they were made, revoked ones too; a key shows as its fingerprint."""
    pages = client.pages(f"/v1/customers/{segment(customer)}/keys")
    if as_json:
        return each_row(pages)
    rows = [
        (
            key.key_id,
            key.name,
            _whom(key),
            key.fingerprint,
            show_instant(key.created_at_ms),
            key.last_used_on or "-",
            _state(key),
        )
        for key in all_rows(pages, KeyView)
    ]
    titles = ("key", "name", "names", "fingerprint", "created", "last used", "state")
    show_table(titles, rows, nothing=f"No keys. Make one with `spend keys create {customer}`.")
    return None


@command.command("revoke")
@click.argument("customer")
@click.argument("key_id", metavar="KEY")
@why_option
@json_option
@with_ledger
def revoke(client: LedgerClient, customer: str, key_id: str, as_json: bool) -> None:
    """End the key KEY, as `spend keys list CUSTOMER` calls it, on every sidecar within a second."""
    if key_id.startswith("sk-"):
        raise click.BadParameter(
            f"give the key's name and not the key itself: see `spend keys list {customer}`.", param_hint="KEY"
        )
    raw = client.post("/v1/keys/revoke", {"customer": customer, "key_id": key_id})
    if as_json:
        return show_json(raw)
    gone = decoded(raw, KeyView)
    click.echo(f"Key {gone.key_id}, which named {_whom(gone)}, lets in nobody any more.")
    return None


def _whom(key: KeyView) -> str:
    """The subject as people write it."""
    said = (("agent", key.agent), ("session", key.session), ("feature", key.feature), ("product", key.product))
    return " ".join([key.path, *(f"{name}={value}" for name, value in said if value)])


def _state(key: KeyView) -> str:
    if key.revoked_at_ms is not None:
        return f"revoked {show_instant(key.revoked_at_ms)}"
    return "good" if key.expires_at_ms is None else f"until {show_instant(key.expires_at_ms)}"
