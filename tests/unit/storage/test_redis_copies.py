"""Copies of policies in real Redis servers: a single one and a cluster of three."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidecar.contract.warm_copies import MAX_COPY_AGE_MS, MAX_COPY_BYTES
from sidecar.errors import CopiesUnavailable
from sidecar.storage.redis_client import connect
from sidecar.storage.redis_copies import RedisCopies, copy_key
from sidecar.storage.redis_options import RedisOptions
from tests.support.redis import Cluster, Server, needs_redis

DEADLINE_S = 5.0


@pytest.fixture(params=["single", "cluster"])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[RedisOptions, list[Server]]]:
    needs_redis()
    if request.param == "single":
        server = Server()
        yield RedisOptions(server.url), [server]
        server.remove()
    else:
        cluster = Cluster()
        yield RedisOptions(cluster.url, cluster=True), cluster.nodes
        cluster.remove()


async def test_copies_are_kept_bounded_and_end_by_themselves(servers: tuple[RedisOptions, list[Server]]) -> None:
    """Each under its customer, on whichever node; one that is too long is not read; a stopped Redis is told apart."""
    options, nodes = servers
    client = connect(options)
    copies = RedisCopies(client, deadline_s=DEADLINE_S)
    for customer in ("acme", "beta", "gamma"):
        await copies.write(customer, "n", customer.encode() * 3)
    assert [await copies.read(one, "n") for one in ("acme", "beta", "delta")] == [b"acme" * 3, b"beta" * 3, None]
    assert await copies.read("acme", "other") is None
    assert 0 < await client.pttl(copy_key("acme", "n")) <= MAX_COPY_AGE_MS
    await client.set(copy_key("acme", "n"), b"x" * MAX_COPY_BYTES)
    assert await copies.read("acme", "n") == b"x" * MAX_COPY_BYTES
    await client.set(copy_key("acme", "n"), b"x" * (MAX_COPY_BYTES + 1))
    assert await copies.read("acme", "n") is None
    await client.delete(copy_key("acme", "n"))
    await client.lpush(copy_key("acme", "n"), b"a list")
    with pytest.raises(CopiesUnavailable):
        await copies.read("acme", "n")
    for node in nodes:
        node.kill()
    with pytest.raises(CopiesUnavailable):
        await copies.read("beta", "n")
    await copies.close()


async def test_a_redis_that_is_silent_is_waited_for_no_longer_than_the_deadline(
    servers: tuple[RedisOptions, list[Server]],
) -> None:
    """Neither reading nor writing tries twice."""
    options, nodes = servers
    copies = RedisCopies(connect(options), deadline_s=DEADLINE_S)
    await copies.write("acme", "n", b"1")
    for node in nodes:
        node.pause()
    hasty = RedisCopies(connect(options), deadline_s=0.05)
    with pytest.raises(CopiesUnavailable, match="0\\.05"):
        await hasty.read("acme", "n")
    for node in nodes:
        node.resume()
    await hasty.close()
    await copies.close()
