"""`spend up`: sidecar and ledger in one process, on an embedded book.

The same parts as in a fleet, wired without a network between them: the sidecar's port to the
ledger is the ledger's service itself. What is started last is stopped first: callers are let
go, then their settlements are booked and the leases given back, then the book is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import uvloop

from sidecar.app.admin_file import AdminFile, write_admin_file
from sidecar.app.admin_token import lasting_token
from sidecar.app.backups import Backups
from sidecar.app.checkpointing import Checkpointer, checkpoints_made
from sidecar.app.data_folder import BOOK
from sidecar.app.explaining import explain_recent
from sidecar.app.ledger_port import ledger_port
from sidecar.app.running import RunningSidecar
from sidecar.app.serving import (
    check_currency,
    health_port,
    product_version,
    say,
    settle_in,
    settle_memory,
    show_clock_jump,
    stop_on_signals,
    upstreams_or_demo,
)
from sidecar.app.settings import Settings
from sidecar.app.system import RandomIds, SystemClock
from sidecar.app.writing_off import written_off
from sidecar.catalog.read import Catalog, read_catalog
from sidecar.demo.first_steps import first_steps
from sidecar.errors import ConfigurationError
from sidecar.ledger.http_access import admin_access
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.service import LedgerService
from sidecar.storage.sqlite import open_book
from sidecar.telemetry.metrics import Metrics

LEDGERS_TURN_S: Final = 0.0005
"""The ledger's thread gives the interpreter up to the proxy's after so long: Python's 5 ms would be seen in answers."""


def serve(settings: Settings, data: Path, catalog_path: Path) -> int:
    """Run until SIGTERM or Ctrl-C; gives the exit code.

    Raises:
        ConfigurationError: it cannot start; says what is wrong and, where it can, what to do.
    """
    if settings.ledger.database.url:
        raise ConfigurationError(
            ["ledger.database.url: `spend up` keeps a book of its own; a ledger on a database is `spend ledger`"]
        )
    settings = settle_in(settings, data)
    catalog = read_catalog(catalog_path)
    check_currency(settings, catalog)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, data, catalog))


async def _run(settings: Settings, data: Path, catalog: Catalog) -> int:
    stop = stop_on_signals()
    ids, clock, metrics = RandomIds(), SystemClock(), Metrics()
    book = open_book(data / BOOK)
    try:
        ledger = LedgerService(book, clock, ids, catalog.rates, settings.ledger.rules)
        checkpoints = Checkpointer(book, clock, ids, settings.ledger.checkpoints, data=data)
        async with (
            checkpoints_made(checkpoints, settings.ledger.checkpoints.every_s),
            written_off(ledger.write_off_silent),
            upstreams_or_demo(settings) as (upstreams, demo),
        ):
            show_clock_jump(metrics, lambda: ledger.clock_jump_ms)
            sidecar = RunningSidecar(
                settings,
                upstreams,
                data,
                catalog,
                ledger,
                clock=clock,
                ids=ids,
                metrics=metrics,
                explain=ledger.explain,
            )
            await sidecar.start()
            token = lasting_token(data)
            backups = Backups(data, ids)
            api = AdminAPI(
                ledger,
                [admin_access(token)],
                ids,
                version=product_version(),
                before_read=sidecar.settle_up,
                backups=backups,
                recent=lambda request_id: explain_recent(request_id, sidecar.recent, catalog.rates.currencies),
            )
            async with (
                ledger_port(api, settings.ledger.listen) as ledger_address,
                health_port(metrics, sidecar.obstacles, settings.sidecar.health) as health_address,
            ):
                facts = AdminFile(ledger_address, token, proxy=sidecar.address, health=health_address)
                write_admin_file(data, facts)
                _greet(facts, data, demo=demo)
                settle_memory()
                sys.setswitchinterval(LEDGERS_TURN_S)
                await stop.wait()
                await backups.stop()
                await sidecar.stop()
    finally:
        book.close()
    return 0


def _greet(facts: AdminFile, data: Path, *, demo: bool) -> None:
    """Say what runs and where; with the demo provider, what to paste."""
    say(f"Spend Sidecar is ready: point OPENAI_BASE_URL at {facts.proxy}/v1, ANTHROPIC_BASE_URL at {facts.proxy}.")
    say(f"Ledger {facts.address}, health and metrics {facts.health}, all state in {data}.")
    if not demo:
        return
    home = os.environ.get("HOME")
    usual = home is not None and data == Path(home) / ".spend"
    say("No provider key is set: a demo provider answers in place of the real ones.")
    say("In another terminal, paste:\n")
    for line in first_steps(facts.proxy, spend=_spend_command(), data=None if usual else data):
        say(f"    {line}")
    say("")


def _spend_command() -> str:
    """How `spend` is called from the shell: by name if it is found there, else by its path in the environment."""
    beside = Path(os.path.abspath(sys.executable)).parent / "spend"
    on_path = any(
        (Path(folder) / "spend").exists() for folder in os.environ.get("PATH", "").split(os.pathsep) if folder
    )
    return str(beside) if beside.exists() and not on_path else "spend"
