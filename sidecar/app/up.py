"""`spend up`: sidecar and ledger in one process, on an embedded book.

The same parts as in a fleet, wired without a network between them: the sidecar's port to the
ledger is the ledger's service itself. What is started last is stopped first: callers are let
go, then their settlements are booked and the leases given back, then the book is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from sidecar.app.admin_file import AdminFile, write_admin_file
from sidecar.app.data_folder import BOOK, OUTBOX, lasting_token, open_data_folder, sidecar_name
from sidecar.app.explaining import explain_recent
from sidecar.app.health import health_app
from sidecar.app.proxying import Proxying, make_desk, own_gauges
from sidecar.app.settings import Listen, Settings, UpstreamSettings, uses_demo
from sidecar.app.system import RandomIds, SystemClock
from sidecar.catalog.read import Catalog, read_catalog
from sidecar.contract.messages import RegisterRequest
from sidecar.demo.first_steps import first_steps
from sidecar.demo.provider import start_demo
from sidecar.errors import ConfigurationError, LedgerUnavailable
from sidecar.leases.keeper import Keeper
from sidecar.leases.table import LeaseTable
from sidecar.ledger.http_access import admin_access
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_server import serve_admin_api
from sidecar.ledger.service import LedgerService
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.shipper import Shipper
from sidecar.proxy.accept import FrontDoor
from sidecar.proxy.corridor import carry
from sidecar.proxy.deny import door_shape
from sidecar.proxy.request_head import LOOPBACK_HOSTS
from sidecar.proxy.sweep import Sweep
from sidecar.storage.sqlite import open_book
from sidecar.telemetry import logs
from sidecar.telemetry.metrics import Metrics

FLUSH_TIMEOUT_S: Final = 5.0
"""How long a read of the ledger waits for what was settled before it."""

STOP_FLUSH_TIMEOUT_S: Final = 10.0

REPLAY_TIMEOUT_S: Final = 60.0
"""How long a book that lacks calls may take none of them before the start is given up."""

CLOSE_LEASES_EVERY_S: Final = 1.0

logger = logging.getLogger(__name__)


def serve(settings: Settings, data: Path, catalog_path: Path) -> int:
    """Run until SIGTERM or Ctrl-C; gives the exit code.

    Raises:
        ConfigurationError: it cannot start; says what is wrong and, where it can, what to do.
    """
    open_data_folder(data)
    logs.configure(settings.sidecar.log)
    catalog = read_catalog(catalog_path)
    _check_currency(settings, catalog)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, data, catalog))


def _check_currency(settings: Settings, catalog: Catalog) -> None:
    """A currency without prices would make budgets that no call counts on."""
    currency, known = settings.ledger.rules.currency, catalog.rates.currencies
    if currency not in known:
        raise ConfigurationError(
            [f"ledger.rules.currency: {currency!r} is not in the catalog; it has {', '.join(sorted(known))}"]
        )


async def _run(settings: Settings, data: Path, catalog: Catalog) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ids, clock, metrics = RandomIds(), SystemClock(), Metrics()
    book = open_book(data / BOOK)
    try:
        ledger = LedgerService(book, clock, ids, catalog.rates, settings.ledger.rules)
        async with _demo(settings) as (upstreams, demo):
            sidecar = _Sidecar(settings, upstreams, data, catalog, ledger, clock=clock, ids=ids, metrics=metrics)
            await sidecar.start()
            token = lasting_token(data)
            api = AdminAPI(
                ledger,
                [admin_access(token)],
                ids,
                version=_version(),
                before_read=sidecar.settle_up,
                recent=lambda request_id: explain_recent(request_id, sidecar.recent, catalog.rates.currencies),
            )
            async with _ledger_api(api, settings.ledger.listen) as ledger_address, _health(sidecar) as health_address:
                facts = AdminFile(ledger_address, token, proxy=sidecar.address, health=health_address)
                write_admin_file(data, facts)
                _greet(facts, data, demo=demo)
                _settle_memory()
                await stop.wait()
                await sidecar.stop()
    finally:
        book.close()
    return 0


class _Sidecar:
    """The proxy with its leases and its outbox, over a ledger in this process."""

    def __init__(
        self,
        settings: Settings,
        upstreams: dict[str, UpstreamSettings],
        data: Path,
        catalog: Catalog,
        ledger: LedgerService,
        *,
        clock: SystemClock,
        ids: RandomIds,
        metrics: Metrics,
    ) -> None:
        """Open the outbox, and settle what a former start left open.

        Raises:
            ConfigurationError: another process uses the folder, or an upstream cannot be made.
        """
        ours = settings.sidecar
        self._settings = settings
        self._ledger = ledger
        self._name = sidecar_name(data, ids)
        self._incarnation = ids.new("inc")
        self._recovery = open_spool(
            data / OUTBOX, clock, ours.outbox, sidecar=self._name, incarnation=self._incarnation
        )
        self._spool = self._recovery.spool
        self._shipper = Shipper(ledger, self._spool, clock, ours.shipping)
        table = LeaseTable()
        self._keeper = Keeper(
            ledger,
            table,
            clock,
            notes=self._spool,
            courier=self._shipper,
            sidecar=self._name,
            incarnation=self._incarnation,
            options=ours.leases,
        )
        self._keeper.on_miss = metrics.lease_misses.add
        self._shipper.attach(self._keeper)
        self._sweep = Sweep()
        parts = Proxying(table, self._keeper, self._spool, clock, ids, catalog.rates, metrics, self._sweep)
        self._desk = make_desk(ours, upstreams, parts)
        self.metrics = metrics
        self.recent = self._desk.recent
        own_gauges(metrics, table, self._shipper, clock)
        metrics.gauge(
            "spend_ledger_clock_jump_seconds",
            "How far the wall clock jumped from the time that the ledger uses; 0 while it is believed.",
            lambda: ledger.clock_jump_ms / 1000,
        )
        self._door = FrontDoor(
            lambda arrival: carry(arrival, self._desk),
            shape=door_shape(ids),
            sweep=self._sweep,
            options=dataclasses.replace(
                ours.door, hosts=LOOPBACK_HOSTS | {h.lower().encode() for h in ours.allowed_hosts}
            ),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = False
        self.address = ""

    async def start(self) -> None:
        """Book what was left, close the leases of former starts, then listen.

        Raises:
            ConfigurationError: the port is taken.
        """
        self._shipper.registered(await self._ledger.register(RegisterRequest(self._name, self._incarnation)))
        self._sweep.start()
        self._tasks = [asyncio.create_task(work()) for work in (self._spool.run, self._shipper.run, self._keeper.run)]
        await self._replay()
        if not await self._close_leases():
            self._tasks.append(asyncio.create_task(self._close_leases_later()))
        listen = self._settings.sidecar.listen
        try:
            port = await self._door.listen(listen.host, listen.port)
        except OSError as problem:
            raise _port_taken(listen, "--port", problem) from None
        self.address = _address(listen.host, port)
        self._ready = True

    async def settle_up(self) -> None:
        """Bring what was settled until now into the book, for whoever reads it next.

        Raises:
            LedgerUnavailable: it took too long.
        """
        if not await self._shipper.flush(FLUSH_TIMEOUT_S):
            raise LedgerUnavailable("settled calls are still on their way to the book; ask again", retry_after_s=2.0)

    def obstacles(self) -> list[str]:
        """What stands in the way of serving (readiness)."""
        found = [] if self._ready else ["not started, or stopping"]
        if self._spool.fault:
            found.append(f"the outbox cannot record: {self._spool.fault}")
        if self._ready and any(task.done() and not _ended_well(task) for task in self._tasks):
            found.append("a part has stopped; see the log")
        return found

    async def stop(self) -> None:
        """Let live calls end, book everything, give every lease back."""
        self._ready = False
        await self._door.drain(self._settings.sidecar.shutdown_grace_s)
        if await self._keeper.close() and await self._shipper.flush(STOP_FLUSH_TIMEOUT_S):
            await self._shipper.end()
        else:
            logger.warning("stopped_with_unbooked_calls", extra={"facts": {"waiting": self._shipper.depth}})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for provider in self._desk.providers.values():
            provider.upstream.close()
        self._sweep.stop()
        self._spool.close()

    async def _replay(self) -> None:
        """Where another or an earlier book was put in place: nothing is lent before it has what it lacks (L50a).

        Raises:
            ConfigurationError: it takes nothing; the next start tries again.
        """
        while self._shipper.is_replaying:
            before = self._shipper.depth
            if not await self._shipper.flush(REPLAY_TIMEOUT_S) and self._shipper.depth >= before:
                raise ConfigurationError(
                    [f"{BOOK}: was replaced or put back, and does not take the calls that it lacks: see the log"]
                )

    async def _close_leases(self) -> bool:
        """Book what earlier starts left, and close their leases; False if it has to be tried again."""
        if not await self._shipper.flush(FLUSH_TIMEOUT_S):
            return False
        refused = self._shipper.has_refused
        return await self._recovery.close_leases(self._ledger, all_booked=lambda one: not refused(one))

    async def _close_leases_later(self) -> None:
        while not await self._close_leases():  # noqa: ASYNC110 - the ledger has no event for it
            await asyncio.sleep(CLOSE_LEASES_EVERY_S)


def _ended_well(task: asyncio.Task[None]) -> bool:
    """Whether a part that runs beside the requests came to an end of its own, such as closing old leases."""
    return not task.cancelled() and task.exception() is None


@asynccontextmanager
async def _demo(settings: Settings) -> AsyncIterator[tuple[dict[str, UpstreamSettings], bool]]:
    """The upstreams, and whether the demo provider stands in for them.

    It does where nobody has set a provider and no provider's key is in the environment.
    """
    ours = settings.sidecar
    if not uses_demo(settings, os.environ):
        yield ours.upstreams, False
        return
    address, close = await start_demo()
    try:
        yield {name: UpstreamSettings(address) for name in ours.upstreams}, True
    finally:
        await close()


@asynccontextmanager
async def _ledger_api(api: AdminAPI, listen: Listen) -> AsyncIterator[str]:
    try:
        address, close = await serve_admin_api(api, listen.host, listen.port)
    except OSError as problem:
        raise _port_taken(listen, "--ledger-port", problem) from None
    try:
        yield address
    finally:
        await close()


@asynccontextmanager
async def _health(sidecar: _Sidecar) -> AsyncIterator[str]:
    listen = sidecar._settings.sidecar.health
    runner = web.AppRunner(health_app(sidecar.metrics, sidecar.obstacles), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, listen.host, listen.port).start()
        except OSError as problem:
            raise _port_taken(listen, "--health-port", problem) from None
        yield _address(listen.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _port_taken(listen: Listen, flag: str, problem: OSError) -> ConfigurationError:
    what = problem.strerror or str(problem)
    return ConfigurationError([f"{_address(listen.host, listen.port)}: {what}; take another port with {flag}"])


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(facts: AdminFile, data: Path, *, demo: bool) -> None:
    """Say what runs and where; with the demo provider, what to paste."""
    say: Callable[[str], None] = _say
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
    beside = Path(os.path.abspath(os.sys.executable)).parent / "spend"  # type: ignore[attr-defined]
    on_path = any(
        (Path(folder) / "spend").exists() for folder in os.environ.get("PATH", "").split(os.pathsep) if folder
    )
    return str(beside) if beside.exists() and not on_path else "spend"


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def _settle_memory() -> None:
    """What is there now stays: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _version() -> str:
    try:
        return version("spend-sidecar")
    except PackageNotFoundError:
        return "unknown"
