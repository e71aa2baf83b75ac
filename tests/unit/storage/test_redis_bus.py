from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from sidecar.storage import redis_bus
from sidecar.storage.redis_bus import CHANNEL, RedisBus, connect_bus
from sidecar.storage.redis_options import RedisOptions
from tests.support.redis import Cluster, Server, needs_redis


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def server() -> Iterator[Server]:
    needs_redis()
    one = Server()
    yield one
    one.remove()


async def test_f_12_ledgers_wake_each_other_and_again_after_redis_was_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one tells the other hears; a Redis that dies is found again, and who connects looks once.

    A message is a hint: whatever it says, all that comes of it is a look.
    """
    monkeypatch.setattr(redis_bus, "PAUSE_S", 0.05)
    monkeypatch.setattr(redis_bus, "MAX_PAUSE_S", 0.1)
    one, two = (connect_bus(RedisOptions(server.url, deadline_s=5)) for _ in range(2))
    heard: list[int] = []
    tasks = [asyncio.create_task(one.run(lambda: None)), asyncio.create_task(two.run(lambda: heard.append(1)))]
    await until(lambda: one.hears and two.hears)
    before = len(heard)
    one.tell()
    await until(lambda: len(heard) > before)
    server.ask("PUBLISH", CHANNEL, "anything at all")
    await until(lambda: len(heard) > before + 1)
    server.kill()
    await until(lambda: not two.hears)
    one.tell()
    await asyncio.sleep(0.1)
    server.start()
    await until(lambda: one.hears and two.hears)
    before = len(heard)
    one.tell()
    await until(lambda: len(heard) > before)
    await stop(*tasks)
    await one.close()
    await two.close()


async def test_any_node_of_a_cluster_will_do() -> None:
    """What is told to one node is heard at another."""
    needs_redis()
    cluster = Cluster()
    first, _, last = (f"redis://127.0.0.1:{node.port}" for node in cluster.nodes)
    buses: list[RedisBus] = [
        connect_bus(RedisOptions(url, cluster=True, deadline_s=5)) for url in (f"{first},{last[8:]}", last)
    ]
    heard: list[int] = []
    tasks = [asyncio.create_task(bus.run(lambda: heard.append(1))) for bus in buses]
    await until(lambda: all(bus.hears for bus in buses))
    before = len(heard)
    buses[0].tell()
    await until(lambda: len(heard) >= before + 2)
    await stop(*tasks)
    for bus in buses:
        await bus.close()
    cluster.remove()
