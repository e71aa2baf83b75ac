"""`spend ledger`: the book of record in a process of its own, for sidecars elsewhere and for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from sidecar.app.admin_file import AdminFile, write_admin_file
from sidecar.app.admin_token import lasting_token
from sidecar.app.backups import Backups
from sidecar.app.books import opened_book
from sidecar.app.checkpointing import Checkpointer, checkpoints_made
from sidecar.app.fleet_metrics import FleetMetrics
from sidecar.app.ledger_port import ledger_port
from sidecar.app.serving import (
    check_currency,
    health_port,
    product_version,
    say,
    settle_in,
    settle_memory,
    show_clock_jump,
    stop_on_signals,
)
from sidecar.app.settings import Settings
from sidecar.app.system import RandomIds
from sidecar.app.writing_off import written_off
from sidecar.catalog.read import Catalog, read_catalog
from sidecar.ledger.http_access import admin_access
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_contract import ContractAPI
from sidecar.ledger.service import LedgerService
from sidecar.storage.redis_bus import connect_bus
from sidecar.storage.redis_options import RedisOptions
from sidecar.telemetry.metrics import Metrics


def serve(settings: Settings, data: Path, catalog_path: Path) -> int:
    """Run until SIGTERM or Ctrl-C; gives the exit code.

    Raises:
        ConfigurationError: it cannot start; says what is wrong and, where it can, what to do.
    """
    settings = settle_in(settings, data)
    catalog = read_catalog(catalog_path)
    check_currency(settings, catalog)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, data, catalog))


async def _run(settings: Settings, data: Path, catalog: Catalog) -> int:
    stop = stop_on_signals()
    ids, metrics = RandomIds(), Metrics()
    ours = settings.ledger
    async with opened_book(ours.database, data) as opened:
        clock = opened.clock
        ledger = LedgerService(opened.book, clock, ids, catalog.rates, ours.rules)
        token = lasting_token(data, ours.admin_token_file)
        backups = None if opened.is_shared else Backups(data, ids)
        api = AdminAPI(ledger, [admin_access(token)], ids, version=product_version(), backups=backups)
        contract = ContractAPI(ledger, clock.monotonic)
        checkpoints = Checkpointer(opened.book, clock, ids, ours.checkpoints, data=data, tell=contract.tell_checkpoint)
        show_clock_jump(metrics, lambda: ledger.clock_jump_ms)
        fleet = FleetMetrics(ledger.list_sidecars, clock, metrics)
        metrics.gauge("spend_ledger_sidecars", "Sidecars that hear of changes now.", lambda: contract.streams)
        async with (
            checkpoints_made(checkpoints, ours.checkpoints.every_s),
            written_off(ledger.write_off_silent),
            _watching(ledger, opened.is_shared, ours.redis, metrics, clock.monotonic),
            ledger_port(api, ours.listen, contract=contract) as address,
            health_port(
                metrics,
                lambda: ["stopping"] if stop.is_set() else opened.obstacles(),
                ours.health,
                refresh=fleet.refresh,
            ) as health,
        ):
            write_admin_file(data, AdminFile(address, token, health=health))
            kept = "the book in PostgreSQL" if opened.is_shared else f"all state in {data}"
            say(f"The ledger is ready at {address}; health and metrics {health}, {kept}.")
            say(f"For a sidecar: spend ledger sidecar-token NAME --data {data} --out FILE")
            say(f"and beside its application: spend sidecar --ledger {address} --token-file FILE")
            settle_memory()
            await stop.wait()
            if backups is not None:
                await backups.stop()
    return 0


@asynccontextmanager
async def _watching(
    ledger: LedgerService, is_shared: bool, redis: RedisOptions, metrics: Metrics, monotonic: Callable[[], float]
) -> AsyncIterator[None]:
    """Hear of what other ledgers change, for as long as a block runs: by looking, and sooner where they say so."""
    if not is_shared:
        yield
        return
    watch = ledger.watch(monotonic)
    works: list[Coroutine[Any, Any, None]] = [watch.run()]
    bus = connect_bus(redis) if redis.url else None
    stop: Callable[[], None] | None = None
    if bus is not None:
        told = bus.tell
        stop = ledger.subscribe(lambda _: None if watch.telling else told())
        hearing = bus
        metrics.gauge(
            "spend_redis_heard", "1 while ledgers hear of each other by Redis; 0: they look.", lambda: hearing.hears
        )
        works.append(bus.run(watch.wake))
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if stop is not None:
            stop()
        if bus is not None:
            await bus.close()
