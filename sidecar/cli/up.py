"""`spend up`: the sidecar and its ledger in one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from sidecar.cli.choices import Number
from sidecar.cli.connection import Connection
from sidecar.cli.failures import LOOK_AT_ALL, RUNS_ALREADY, Failed

_FILE: Final = click.Path(path_type=Path)


@click.command("up")
@click.option("--data", metavar="DIR", type=_FILE, help="All state is here.  [$SPEND_DATA, ~/.spend]")
@click.option("--port", type=Number(0, 65535), help="Of the proxy; 0 for a free one.  [8402]")
@click.option("--health-port", type=Number(0, 65535), help="Of health and metrics.  [9402]")
@click.option("--ledger-port", type=Number(0, 65535), help="Of the ledger's API.  [8403]")
@click.option("--config", metavar="FILE", type=_FILE, envvar="SPEND_CONFIG", help="How it runs.  [config/spend.yaml]")
@click.option("--catalog", metavar="FILE", type=_FILE, envvar="SPEND_CATALOG", help="Prices.  [config/catalog.yaml]")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    data: Path | None,
    port: int | None,
    health_port: int | None,
    ledger_port: int | None,
    config: Path | None,
    catalog: Path | None,
) -> None:
    """Run the sidecar and its ledger in one process, on an embedded book.

    SIGTERM, or Ctrl-C, lets running calls end and then stops it, with exit code 0.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.settings import default_catalog, load_settings  # noqa: PLC0415
    from sidecar.errors import ConfigurationError, InUse  # noqa: PLC0415

    outer = ctx.find_object(Connection)
    ports = {"port": port, "health_port": health_port, "ledger_port": ledger_port}
    overrides = {name: value for name, value in ports.items() if value is not None}
    try:
        before = outer.data if outer is not None else None  # spend --data DIR up
        folder = data or (Path(before) if before else default_data_folder(os.environ))
        settings = load_settings(config, os.environ, overrides)

        from sidecar.app.up import serve  # noqa: PLC0415 (and not before the settings are known to be right)

        code = serve(settings, folder, catalog if catalog is not None else Path(default_catalog()))
    except ConfigurationError as error:
        raise Failed("\n".join(error.problems), RUNS_ALREADY if isinstance(error, InUse) else LOOK_AT_ALL) from None
    ctx.exit(code)
