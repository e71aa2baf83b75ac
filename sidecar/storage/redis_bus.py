"""Ledgers wake each other by Redis: one that changed something says so, and the others look into the book at once.

A message says nothing but that: what changed is read from the book, so whoever may write to Redis can make ledgers
look, no more often than they allow, and can neither tell them anything nor keep anything from them. Without Redis
they look by themselves, as ever.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from sidecar.storage.redis_client import Client, connect, within
from sidecar.storage.redis_options import RedisOptions, read_address

CHANNEL: Final = "spend:changes"
PUBLISH_EVERY_S: Final = 0.02
"""What is changed within so long is told at once."""

TRIES: Final = 2
"""To tell: a connection that Redis closed while nothing was said shows that only when it is used."""

PING_AFTER_S: Final = 10.0
"""Of silence; who does not answer that by the next time is asked anew, at another node of a cluster."""

PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 10.0

logger = logging.getLogger("sidecar.bus")


class RedisBus:
    """Tells and hears that something changed.

    Attributes:
        hears: whether what others tell is heard now.
    """

    def __init__(self, clients: Sequence[Client], *, deadline_s: float) -> None:
        self.hears = False
        self._clients = clients
        self._deadline_s = deadline_s
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Something changed here."""
        self._told.set()

    async def run(self, heard: Callable[[], None]) -> None:
        """Tell and hear until cancelled; `heard` must not block."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            group.create_task(self._listen(heard))

    async def close(self) -> None:
        """Let the connections go."""
        for client in self._clients:
            await client.aclose()

    async def _publish(self) -> None:
        clients = itertools.cycle(self._clients)
        client = next(clients)
        while True:
            await self._told.wait()
            self._told.clear()
            for _ in range(TRIES):
                try:
                    await within(self._deadline_s, client.publish(CHANNEL, b"1"))
                    break
                except Exception as problem:  # the library's have no common root; who was not told looks by itself
                    logger.debug("change_not_told", extra={"facts": {"problem": str(problem)[:200]}})
                    client = next(clients)
            await asyncio.sleep(PUBLISH_EVERY_S)

    async def _listen(self, heard: Callable[[], None]) -> None:
        pause_s = PAUSE_S
        for client in itertools.cycle(self._clients):
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    self.hears, pause_s = True, PAUSE_S
                    heard()  # whatever was told meanwhile
                    await _hear(channel, heard)
            except Exception as problem:  # whatever it is, it is tried again: without it ledgers look by themselves
                if self.hears:
                    logger.warning("changes_not_heard", extra={"facts": {"problem": str(problem)[:200]}})
            self.hears = False
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)


async def _hear(channel: Any, heard: Callable[[], None]) -> None:
    """Hear until the other side is silent for too long."""
    asked = False
    while True:
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=PING_AFTER_S)
        if message is None:
            if asked:
                raise TimeoutError("it does not answer any more")
            asked = True
            await channel.ping()
            continue
        asked = False
        if message["type"] == "message":
            heard()


def connect_bus(options: RedisOptions) -> RedisBus:
    """A bus by any of the nodes that an address names: what one node of a cluster is told, all are.

    Raises:
        ConfigurationError: the password's file cannot be read.
    """
    address, password = read_address(options.url)
    scheme = "rediss" if address.tls else "redis"
    who = f"{address.user}:{password}@" if address.user or password else ""
    database = f"/{address.database}" if address.database else ""
    alone = [
        replace(options, url=f"{scheme}://{who}{_bracketed(host)}:{port}{database}", cluster=False)
        for host, port in address.seeds
    ]
    return RedisBus([connect(one) for one in alone], deadline_s=options.deadline_s)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
