"""`spend sidecar`: the proxy beside an application, over a ledger in another process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from sidecar.cli.choices import Number
from sidecar.cli.connection import Connection
from sidecar.cli.failures import Failed

_FILE: Final = click.Path(path_type=Path)


@click.command("sidecar")
@click.option("--ledger", metavar="URL", help="The ledger's address.  [$SPEND_LEDGER_URL]")
@click.option("--token-file", metavar="FILE", type=_FILE, envvar="SPEND_LEDGER_TOKEN_FILE", help="Its token for us.")
@click.option("--data", metavar="DIR", type=_FILE, help="The outbox is here.  [$SPEND_DATA, ~/.spend]")
@click.option("--port", type=Number(0, 65535), help="Of the proxy; 0 for a free one.  [8402]")
@click.option("--health-port", type=Number(0, 65535), help="Of health and metrics.  [9402]")
@click.option("--config", metavar="FILE", type=_FILE, envvar="SPEND_CONFIG", help="How it runs.  [config/spend.yaml]")
@click.option("--catalog", metavar="FILE", type=_FILE, envvar="SPEND_CATALOG", help="Prices.  [config/catalog.yaml]")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    ledger: str | None,
    token_file: Path | None,
    data: Path | None,
    port: int | None,
    health_port: int | None,
    config: Path | None,
    catalog: Path | None,
) -> None:
    """Run the proxy beside an application, over the ledger of a `spend ledger` elsewhere.

    It listens at once and joins the ledger when that answers. SIGTERM, or Ctrl-C, lets running calls
    end, gives back what was lent, and stops it with exit code 0.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.settings import default_catalog, load_settings  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    outer = ctx.find_object(Connection)
    address = ledger or (outer.ledger if outer is not None else None) or os.environ.get("SPEND_LEDGER_URL")
    if not address:
        raise click.UsageError("Which ledger? Give --ledger URL, such as http://127.0.0.1:8403.")
    if token_file is None:
        raise click.UsageError(
            "Give --token-file FILE; `spend ledger sidecar-token NAME --out FILE` makes one, where the ledger runs."
        )
    ports = {"port": port, "health_port": health_port}
    overrides = {name: value for name, value in ports.items() if value is not None}
    try:
        before = outer.data if outer is not None else None
        folder = data or (Path(before) if before else default_data_folder(os.environ))
        settings = load_settings(config, os.environ, overrides)

        from sidecar.app.sidecar import serve  # noqa: PLC0415 (and not before the settings are known to be right)

        prices = catalog if catalog is not None else Path(default_catalog())
        code = serve(settings, folder, prices, address, token_file)
    except ConfigurationError as error:
        raise Failed("\n".join(error.problems), "`spend sidecar --help` lists what it takes.") from None
    ctx.exit(code)
