"""`spend doctor`: what is wrong with this set-up, and what to do about it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sidecar.cli.choices import Number
from sidecar.cli.connection import Connection, connection_options, find_place, said_here
from sidecar.cli.failures import Failed, NotReachable
from sidecar.cli.tables import beside, counted, printable, terminal_room

if TYPE_CHECKING:
    from sidecar.cli.checks.finding import Finding, Setup

_FILE: Final = click.Path(path_type=Path)
_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.option("--config", metavar="FILE", type=_FILE, envvar="SPEND_CONFIG", help="As for `up`.  [config/spend.yaml]")
@click.option("--catalog", metavar="FILE", type=_FILE, envvar="SPEND_CATALOG", help="Prices.  [config/catalog.yaml]")
@click.option(
    "--older-than",
    type=Number(1, 3650),
    default=60,
    show_default=True,
    metavar="DAYS",
    help="Prices checked longer ago are a warning.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, one object a line, in place of a table.")
@connection_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    config: Path | None,
    catalog: Path | None,
    older_than: int,
    as_json: bool,
    data: str | None,
    ledger: str | None,
    token: str | None,
) -> None:
    """Look at everything that can be wrong, one line each, and say what to type next.

    It looks at what runs, at this machine and this shell, at the providers, the prices and every
    customer's limits; it changes nothing. Exit code 1 where there is a problem; warnings are 0.
    """
    counts = {"ok": 0, "warning": 0, "problem": 0}
    for finding in _findings(said_here(data, ledger, token), config, catalog, older_than):
        counts[finding.state.value] += 1
        _show(finding, as_json=as_json)
    if not as_json:
        click.echo(f"\n{counted(counts['problem'], 'problem')}, {counted(counts['warning'], 'warning')}.")
    ctx.exit(1 if counts["problem"] else 0)


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        facts = {"check": finding.check, "state": finding.state.value, "what": finding.what}
        click.echo(json.dumps({**facts, "next": finding.then or None}))
        return
    state = finding.state.value
    label = state.ljust(7)
    first, *more = beside(f"{label}  {finding.check.ljust(18)}  {printable(finding.what)}", terminal_room(), 29)
    for line in (click.style(label, fg=_COLOURS[state]) + first.removeprefix(label), *more):
        click.echo(line)
    if finding.then:
        click.echo(f"{' ' * 29}→ {printable(finding.then)}")


def _findings(said: Connection, config: Path | None, catalog: Path | None, older_than: int) -> Iterator[Finding]:
    from sidecar.cli.checks.machine import machine  # noqa: PLC0415 (not for --help)
    from sidecar.cli.checks.providers import providers  # noqa: PLC0415
    from sidecar.cli.checks.redis import redis  # noqa: PLC0415
    from sidecar.cli.checks.running import running  # noqa: PLC0415

    setup, found = _setup(said, config, catalog, older_than)
    yield from found
    yield from running(setup)
    yield from machine(setup)
    yield from providers(setup)
    yield from redis(setup)
    yield from _business(setup)


def _setup(said: Connection, config: Path | None, catalog: Path | None, older_than: int) -> tuple[Setup, list[Finding]]:
    """What is to be looked at, and what was found wrong with finding it."""
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.data_folder import is_sidecars  # noqa: PLC0415
    from sidecar.app.settings import Settings, default_catalog, default_config, load_settings  # noqa: PLC0415
    from sidecar.catalog.read import read_catalog  # noqa: PLC0415
    from sidecar.cli.checks.finding import Setup, ok, problem, start_on  # noqa: PLC0415
    from sidecar.cli.checks.providers import settings_problem  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    found: list[Finding] = []
    settings, rates, place, data = Settings(), None, None, None
    try:
        settings = load_settings(config, os.environ, {})
        found.append(ok("settings", f"{config or default_config()} and this shell's SPEND_ variables are well"))
    except ConfigurationError as error:
        found += [settings_problem(text, os.environ, config) for text in error.problems]
    prices = catalog if catalog is not None else Path(default_catalog())
    try:
        rates = read_catalog(prices).rates
    except ConfigurationError as error:
        count = counted(len(error.problems), "mistake")
        found.append(
            problem(
                "catalog", f"{count}, the first: {error.problems[0]}", f"spend catalog check {shlex.quote(str(prices))}"
            )
        )
    try:
        place = find_place(said, os.environ)
        data = place.data
    except (NotReachable, Failed) as error:
        words = error.what
        if isinstance(error, NotReachable):
            data = Path(said.data) if said.data else default_data_folder(os.environ)
        elsewhere = data is not None and is_sidecars(data)
        then = "export SPEND_LEDGER_URL=… SPEND_TOKEN=…   (the ledger's)" if elsewhere else start_on(data)
        found.append(problem("ledger", words, then))
        data = data if data is not None and data.exists() else None
    return Setup(settings, prices, rates, data, place, dict(os.environ), older_than), found


def _business(setup: Setup) -> Iterator[Finding]:
    from sidecar.cli.checks import business  # noqa: PLC0415 (not for --help)
    from sidecar.cli.checks.finding import problem  # noqa: PLC0415
    from sidecar.cli.ledger_client import LedgerClient  # noqa: PLC0415

    yield from business.cards(setup, business.today())
    if setup.place is None:
        return
    try:
        client = LedgerClient(setup.place.address, setup.place.token)
    except click.UsageError as error:
        yield problem("ledger", error.message, "unset SPEND_LEDGER_URL SPEND_TOKEN   (or set both to a ledger's)")
        return
    checks: Iterable[tuple[str, Iterator[Finding]]] = (
        ("customers", business.customers(setup, client)),
        ("models", business.models(setup, client)),
        ("leases", business.leases(setup, client)),
    )
    try:
        for name, findings in checks:
            try:
                yield from findings
            except NotReachable as error:
                yield problem(name, error.what, "spend doctor   (once the ledger answers)")
                return
            except Failed as error:
                yield problem(name, error.what, "spend doctor   (with the ledger's own token)")
                return
    finally:
        client.close()
