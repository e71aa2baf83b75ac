"""`spend tokens`: who may use the ledger's API, as what, and where."""

from __future__ import annotations

import secrets
from typing import Final

import click
import msgspec

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, show_json
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.instants import Duration
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.tables import show_instant, show_table
from sidecar.core.governance.rights import Role
from sidecar.ledger.views import TokenView

_ROLES: Final = [role.value for role in Role]


@click.group("tokens")
def command() -> None:
    """Tokens of the ledger's API: create, list and revoke. Each is somebody, with a role, for a part of the tree."""


@command.command("create")
@click.argument("name")
@click.option("--role", type=OneOf(_ROLES), required=True, help="What it may do; see the README.")
@click.option("--path", default="", help="What it reaches: acme, or acme/team:data and below. By default everything.")
@click.option("--expires", type=Duration(), metavar="90d", help="How long it is good: 30m, 12h, 90d, 2w.")
@why_option
@json_option
@with_ledger
def create(client: LedgerClient, name: str, *, role: str, path: str, expires: int | None, as_json: bool) -> None:
    """Make a token called NAME, and print it. NAME is the actor of whatever it changes.

    A name is used once. The ledger is told the token's hash alone: nobody can show it again.
    """
    from sidecar.core.governance.checked_tokens import SECRET_BYTES, digest_of  # noqa: PLC0415 (not for --help)
    from sidecar.ledger.http_access import api_token  # noqa: PLC0415

    token = api_token(secrets.token_bytes(SECRET_BYTES))
    digest = digest_of(token).hex()
    form = {"name": name, "role": role, "path": path, "token_sha256": digest, "expires_in_ms": expires}
    made = decoded(client.post("/v1/tokens", form), TokenView)
    if as_json:
        click.echo(msgspec.json.encode({"token": token} | msgspec.to_builtins(made)).decode())
        return
    click.echo(token)
    click.echo(f"It is {_where(made)}'s {made.role}, and shown this once: SPEND_TOKEN, or --token.", err=True)
    click.echo(f"To end it: spend tokens revoke {made.name}{_path_option(made)}", err=True)


@command.command("list")
@click.option("--customer", default="", help="Whose; by default those that reach over the whole ledger.")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List tokens by name, revoked ones too."""
    pages = client.pages("/v1/tokens", customer=customer)
    if as_json:
        return each_row(pages)
    rows = [
        (one.name, one.role, _where(one), show_instant(one.created_at_ms), one.created_by, _state(one))
        for one in all_rows(pages, TokenView)
    ]
    titles = ("name", "role", "reaches", "created", "by", "state")
    show_table(titles, rows, nothing="No tokens. Make one with `spend tokens create NAME --role auditor`.")
    return None


@command.command("revoke")
@click.argument("name")
@click.option("--path", default="", help="What it reaches, as `spend tokens list` shows it.")
@why_option
@json_option
@with_ledger
def revoke(client: LedgerClient, name: str, path: str, as_json: bool) -> None:
    """Let in nobody by the token NAME any more, nor by tokens that it made, from within a second.

    Virtual keys that it made stay good, for applications run on them; how many there are is said.
    """
    if name.startswith("spend_"):
        raise click.BadParameter("give the token's name and not the token: see `spend tokens list`.", param_hint="NAME")
    raw = client.post("/v1/tokens/revoke", {"name": name, "path": path})
    if as_json:
        return show_json(raw)
    gone = decoded(raw, TokenView)
    click.echo(f"Token {gone.name}, {_where(gone)}'s {gone.role}, lets in nobody any more.")
    if gone.also_ended:
        click.echo(f"Nor do those that it made: {', '.join(gone.also_ended)}.")
    if gone.keys_left:
        click.echo(
            f"{gone.keys_left} virtual keys that it made are still good: `spend keys list CUSTOMER` shows by whom each"
            " was made, `spend keys revoke` ends one.",
            err=True,
        )
    return None


def _where(token: TokenView) -> str:
    return token.path or "the whole ledger"


def _path_option(token: TokenView) -> str:
    return f" --path {token.path}" if token.path else ""


def _state(token: TokenView) -> str:
    if token.revoked_at_ms is not None:
        return f"revoked {show_instant(token.revoked_at_ms)}"
    return "good" if token.expires_at_ms is None else f"until {show_instant(token.expires_at_ms)}"
