"""What every process does around its own parts: signals, ports, the health port, the demo provider, a word or two."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiohttp import web

from sidecar.app.data_folder import open_data_folder
from sidecar.app.health import Obstacles, Refresh, health_app, nothing_to_refresh
from sidecar.app.settings import Listen, Settings, UpstreamSettings, files_wanted, fitted_to_files, uses_demo
from sidecar.app.start_guards import guard_start
from sidecar.catalog.read import Catalog
from sidecar.demo.provider import start_demo
from sidecar.errors import ConfigurationError
from sidecar.telemetry import logs
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or Ctrl-C sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def settle_in(settings: Settings, data: Path) -> Settings:
    """What comes before anything of a process's own: its folder, its log, and what must hold of the machine.

    Returns:
        The settings, with no more connections than this process may have open.

    Raises:
        ConfigurationError: the folder is not ours alone, or the machine is not fit to serve.
    """
    open_data_folder(data)
    logs.configure(settings.sidecar.log)
    fitted = fitted_to_files(settings, guard_start(datetime.now(UTC), files_wanted=files_wanted(settings)))
    if fitted is not settings:
        facts = {"configured": settings.sidecar.door.max_connections, "fit": fitted.sidecar.door.max_connections}
        logger.warning("fewer_connections", extra={"facts": facts})
    # The rules of time zones are those that were installed with us: a bare machine has none, and two ledgers over
    # one book that had different ones would end a period at different instants.
    os.environ.setdefault("PYTHONTZPATH", "")
    return fitted


def show_clock_jump(metrics: Metrics, jump_ms: Callable[[], int]) -> None:
    """Show how far the machine's clock has jumped from the ledger's, at each scrape."""
    metrics.gauge(
        "spend_ledger_clock_jump_seconds",
        "How far the wall clock jumped from the time that the ledger uses; 0 while it is believed.",
        lambda: jump_ms() / 1000,
    )


def check_currency(settings: Settings, catalog: Catalog) -> None:
    """A currency without prices would make budgets that no call counts on.

    Raises:
        ConfigurationError: the catalog lacks the currency of `ledger.rules`.
    """
    currency, known = settings.ledger.rules.currency, catalog.rates.currencies
    if currency not in known:
        raise ConfigurationError(
            [f"ledger.rules.currency: {currency!r} is not in the catalog; it has {', '.join(sorted(known))}"]
        )


@asynccontextmanager
async def upstreams_or_demo(settings: Settings) -> AsyncIterator[tuple[dict[str, UpstreamSettings], bool]]:
    """The upstreams, and whether the demo provider stands in for them.

    It does where nobody has set a provider and no provider's key is in the environment.
    """
    ours = settings.sidecar
    if not uses_demo(settings, os.environ):
        yield ours.upstreams, False
        return
    address, close = await start_demo()
    try:
        yield {name: UpstreamSettings(address, needs_key=False) for name in ours.upstreams}, True
    finally:
        await close()


@asynccontextmanager
async def health_port(
    metrics: Metrics, obstacles: Obstacles, listen: Listen, *, refresh: Refresh = nothing_to_refresh
) -> AsyncIterator[str]:
    """Serve /livez, /readyz and /metrics; gives the address.

    Raises:
        ConfigurationError: the port is taken.
    """
    runner = web.AppRunner(health_app(metrics, obstacles, refresh), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, listen.host, listen.port).start()
        except OSError as problem:
            raise port_taken(listen, "--health-port", problem) from None
        yield address_of(listen.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def port_taken(listen: Listen, flag: str, problem: OSError) -> ConfigurationError:
    """The error of a port that cannot be listened on, with the flag that names another."""
    what = os.strerror(problem.errno) if problem.errno else str(problem)  # asyncio's own words say the address again
    return ConfigurationError([f"{address_of(listen.host, listen.port)}: {what}; take another port with {flag}"])


def address_of(host: str, port: int) -> str:
    """A listening address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def say(text: str) -> None:
    """A line to whoever started the process, should they still be there."""
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def settle_memory() -> None:
    """What is there now stays: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def product_version() -> str:
    """The version that is installed."""
    try:
        return version("spend-sidecar")
    except PackageNotFoundError:
        return "unknown"
