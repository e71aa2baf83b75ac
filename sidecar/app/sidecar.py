"""`spend sidecar`: the proxy beside the application, over a ledger in another process.

It keeps nothing but its outbox and its name. It listens at once, whether or not the ledger can be
reached: what it holds leases for goes on, and what it knows nothing of is refused until it does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop

from sidecar.app.one_probe import OneProbe
from sidecar.app.running import RunningSidecar
from sidecar.app.serving import health_port, say, settle_in, settle_memory, stop_on_signals, upstreams_or_demo
from sidecar.app.settings import LOOPBACK, Settings
from sidecar.app.system import RandomIds, SystemClock
from sidecar.app.witness import Witness
from sidecar.catalog.read import Catalog, read_catalog
from sidecar.errors import ConfigurationError, LedgerUnavailable
from sidecar.ledger.http_client import HttpLedger
from sidecar.telemetry.metrics import Metrics

ADDRESSES_FILE: Final = "sidecar.json"
"""In the data folder, for scripts that start it on free ports: where it listens."""

MAX_TOKEN_BYTES: Final = 4096

logger = logging.getLogger(__name__)


def serve(settings: Settings, data: Path, catalog_path: Path, ledger_url: str, token_file: Path) -> int:
    """Run until SIGTERM or Ctrl-C; gives the exit code.

    Raises:
        ConfigurationError: it cannot start; says what is wrong and, where it can, what to do.
    """
    check_address(ledger_url)
    read_token(token_file)
    settings = settle_in(settings, data)
    if is_in_the_clear(ledger_url):
        logger.warning("ledger_without_tls", extra={"facts": {"ledger": urlsplit(ledger_url).hostname}})
    catalog = read_catalog(catalog_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ledger = HttpLedger(ledger_url, lambda: _token_now(token_file), keep_checkpoint=Witness(data).keep)
        return runner.run(_run(settings, data, catalog, ledger))


def check_address(url: str) -> None:
    """Whether a ledger could be there.

    Raises:
        ConfigurationError: it is no origin.
    """
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError(["--ledger: expected an origin, such as http://ledger:8403"])


def read_token(path: Path) -> str:
    """The token in a file, alone in it but for white space.

    Raises:
        ConfigurationError: there is none; what stands there instead is not said.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_BYTES)
        token = raw.decode("ascii").strip()
    except OSError as problem:
        raise ConfigurationError(
            [f"{path}: {problem.strerror}; make one with `spend ledger sidecar-token NAME`"]
        ) from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise ConfigurationError([f"{path}: expected a token alone; make one with `spend ledger sidecar-token NAME`"])
    return token


def _token_now(path: Path) -> str:
    try:
        return read_token(path)
    except ConfigurationError as problem:
        raise LedgerUnavailable(str(problem)) from None


async def _run(settings: Settings, data: Path, catalog: Catalog, ledger: HttpLedger) -> int:
    stop = stop_on_signals()
    ids, clock, metrics = RandomIds(), SystemClock(), Metrics()
    following = asyncio.create_task(ledger.run())
    try:
        async with upstreams_or_demo(settings) as (upstreams, demo):
            asked = OneProbe(ledger, clock, settings.sidecar.probing)
            sidecar = RunningSidecar(settings, upstreams, data, catalog, asked, clock=clock, ids=ids, metrics=metrics)
            metrics.gauge(
                "spend_changes_followed",
                "1 while the ledger's changes are pushed; 0: they are noticed when the ledger is next asked.",
                lambda: ledger.hears_changes,
            )
            await sidecar.start_apart()
            async with health_port(metrics, sidecar.obstacles, settings.sidecar.health) as health:
                _write_addresses(data, sidecar.address, health)
                say(f"Spend Sidecar is ready: point OPENAI_BASE_URL at {sidecar.address}/v1,")
                say(f"ANTHROPIC_BASE_URL at {sidecar.address}. Health and metrics {health}, outbox in {data}.")
                if demo:
                    say("No provider is set: a demo provider answers in place of the real ones, whatever key a call")
                    say("brings. For the real ones: SPEND_DEMO=off, or a provider's key where this is started.")
                settle_memory()
                await stop.wait()
                await sidecar.stop()
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await ledger.close()
    return 0


def _write_addresses(data: Path, proxy: str, health: str) -> None:
    temporary = data / f".{ADDRESSES_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps({"proxy": proxy, "health": health}, indent=2) + "\n", encoding="ascii")
    temporary.replace(data / ADDRESSES_FILE)


def is_in_the_clear(url: str) -> bool:
    """Whether the token would cross a network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK
