"""`spend ledger`: the ledger itself."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.book_files import backup, restore
from sidecar.cli.choices import Number
from sidecar.cli.connection import Connection, why_option, with_ledger
from sidecar.cli.failures import LOOK_AT_ALL, RUNS_ALREADY, Failed
from sidecar.cli.ledger_client import LedgerClient
from sidecar.cli.losses import accept_loss, learning
from sidecar.cli.tables import show_instant
from sidecar.ledger.views import ClockView, SidecarTokenView

_FILE: Final = click.Path(path_type=Path)
_HELP: Final = ("-h", "--help")


class _Ledger(click.Group):
    """Its commands; without the name of one, `serve`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in _HELP):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group("ledger", cls=_Ledger)
def command() -> None:
    """Run a ledger of its own, for several sidecars; its clock, its sidecars' tokens, and
    backups of its book.

    `spend ledger` alone is `spend ledger serve`.
    """


command.add_command(backup)
command.add_command(restore)
command.add_command(learning)
command.add_command(accept_loss)


@command.command("serve")
@click.option("--data", metavar="DIR", type=_FILE, help="The book is here.  [$SPEND_DATA, ~/.spend]")
@click.option("--ledger-port", type=Number(0, 65535), help="Of the API and the sidecars.  [8403]")
@click.option("--health-port", type=Number(0, 65535), help="Of health and metrics.  [9403]")
@click.option("--config", metavar="FILE", type=_FILE, envvar="SPEND_CONFIG", help="How it runs.  [config/spend.yaml]")
@click.option("--catalog", metavar="FILE", type=_FILE, envvar="SPEND_CATALOG", help="Prices.  [config/catalog.yaml]")
@click.pass_context
def serve_command(
    ctx: click.Context,
    *,
    data: Path | None,
    ledger_port: int | None,
    health_port: int | None,
    config: Path | None,
    catalog: Path | None,
) -> None:
    """Run the ledger, on an embedded book; sidecars join it with `spend sidecar`.

    SIGTERM, or Ctrl-C, lets running requests end and then stops it, with exit code 0. The sidecars go
    on with what was lent to them.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.settings import default_catalog, load_settings  # noqa: PLC0415
    from sidecar.errors import ConfigurationError, InUse  # noqa: PLC0415

    outer = ctx.find_object(Connection)
    ports = {"ledger_port": ledger_port, "ledger_health_port": health_port}
    overrides = {name: value for name, value in ports.items() if value is not None}
    try:
        before = outer.data if outer is not None else None  # spend --data DIR ledger
        folder = data or (Path(before) if before else default_data_folder(os.environ))
        settings = load_settings(config, os.environ, overrides, alone=True)

        from sidecar.app.ledger import serve  # noqa: PLC0415 (and not before the settings are known to be right)

        code = serve(settings, folder, catalog if catalog is not None else Path(default_catalog()))
    except ConfigurationError as error:
        raise Failed("\n".join(error.problems), RUNS_ALREADY if isinstance(error, InUse) else LOOK_AT_ALL) from None
    ctx.exit(code)


@command.command("sidecar-token")
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Let in nobody by this name any more.")
@click.option("--out", metavar="FILE", type=_FILE, help="Write it there, for its owner only; what stood there is gone.")
@why_option
@json_option
@with_ledger
def sidecar_token(client: LedgerClient, name: str, revoke: bool, out: Path | None, as_json: bool) -> None:
    """Make a token by which sidecars are let in under NAME, and print it; one made before is void.

    The ledger is told its hash alone: nobody can show it again. Keep it in a file for
    `spend sidecar --token-file FILE`; --out writes that file.
    """
    if revoke:
        if out is not None:
            raise click.UsageError("--revoke makes no token: there is nothing to write; leave --out away.")
        raw = client.post("/v1/sidecar-tokens/revoke", {"name": name})
        decoded(raw, SidecarTokenView)
        if as_json:
            show_json(raw)
        else:
            click.echo(f"{name} is let in no more", err=True)
        return
    from sidecar.core.governance.checked_tokens import SECRET_BYTES, digest_of  # noqa: PLC0415 (not for --help)
    from sidecar.ledger.http_access import sidecar_token as write  # noqa: PLC0415

    token = write(secrets.token_bytes(SECRET_BYTES))
    digest = digest_of(token).hex()
    with _private_file(out, f"{token}\n") if out is not None else nullcontext():
        decoded(client.post("/v1/sidecar-tokens", {"name": name, "token_sha256": digest}), SidecarTokenView)
    if out is not None:
        if as_json:
            click.echo(json.dumps({"name": name, "out": str(out)}))
        else:
            click.echo(f"{name}'s token is in {out}", err=True)
        return
    click.echo(f'{{"name": "{name}", "token": "{token}"}}' if as_json else token)


@contextmanager
def _private_file(path: Path, text: str) -> Iterator[None]:
    """Put a file in place, readable by its owner only, once the block has done its part.

    It is written before: a file that cannot be must not cost the token that is in use.

    Raises:
        Failed: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
        except OSError as problem:
            raise Failed(f"{path}: {problem.strerror}", "Give another file with --out.") from None
        yield
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@command.command("clock")
@click.option("--accept", is_flag=True, help="The machine's clock is right: go by it from now on.")
@why_option
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
