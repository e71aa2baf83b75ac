"""A client of Redis, single or Cluster, that never tries anything twice by itself.

The library's defaults wait seconds for a node that hangs and repeat what failed: whoever asks here has a deadline
of its own (`within`) and something to do without an answer, so one try is all that is wanted. What is not
answered by then is left to the library's own time-out, which closes the connection: a connection whose command
is cancelled half-way could give its answer to the next.

Source: redis-py 8.1 `asyncio/connection.py`, `asyncio/cluster.py` (`Retry`, `cluster_error_retry_attempts`), checked
2026-11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.errors import ConfigurationError
from sidecar.storage.redis_options import RedisOptions, read_address

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

T = TypeVar("T")

GIVE_UP_S: Final = 1.0
"""A command that is not answered for so long takes its connection with it."""

MAX_CONNECTIONS: Final = 64
"""To one node."""

LATE_PASSES: Final = 5
"""Turns of the loop that an answer which is here already needs to be read."""

MAX_PASSWORD_BYTES: Final = 4096

Client = Any  # Redis | RedisCluster: their methods are typed as both kinds of answer at once


def connect(options: RedisOptions) -> Client:
    """A client; nothing is connected before it is used.

    Raises:
        ConfigurationError: the password's file cannot be read.
    """
    # Late: a process that has no Redis does not pay for the library.
    from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection  # noqa: PLC0415
    from redis.asyncio.cluster import ClusterNode, RedisCluster  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    address, password = read_address(options.url)
    if options.password_file is not None:
        password = _read_password(options)
    common: dict[str, Any] = {
        "username": address.user or None,
        "password": password or None,
        "socket_timeout": GIVE_UP_S,
        "socket_connect_timeout": GIVE_UP_S,
        "retry": Retry(NoBackoff(), 0),
    }
    tls: dict[str, Any] = (
        {"ssl_ca_certs": None if options.ca_file is None else str(options.ca_file)} if address.tls else {}
    )
    if options.cluster:
        seeds = [ClusterNode(host, port) for host, port in address.seeds]
        cluster: RedisCluster = RedisCluster(
            startup_nodes=seeds,
            max_connections=MAX_CONNECTIONS,
            reinitialize_steps=0,  # a slot that moved is noted; the usual way cuts off all who wait
            ssl=address.tls,
            **common,
            **tls,
        )
        return cluster
    host, port = address.seeds[0]
    kind: dict[str, Any] = {"connection_class": SSLConnection} if address.tls else {}
    pool = BlockingConnectionPool(
        host=host,
        port=port,
        db=address.database,
        max_connections=MAX_CONNECTIONS,
        timeout=GIVE_UP_S,
        **kind,
        **common,
        **tls,
    )
    single: Redis = Redis.from_pool(pool)
    return single


def _read_password(options: RedisOptions) -> str:
    path = options.password_file
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return file.read(MAX_PASSWORD_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "expected text"
        raise ConfigurationError([f"{path}: {what}; it should have Redis' password alone in it"]) from None


async def within(deadline_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` for so long; then leave it to end by itself.

    Where this process itself was late, an answer that has come meanwhile is still read: a loop that was busy
    must not look like a Redis that hangs.

    Raises:
        TimeoutError: it is not done.
    """
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.wait((task,), timeout=deadline_s)
    for _ in range(LATE_PASSES):
        if task.done():
            return task.result()
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.add_done_callback(_forget)
    raise TimeoutError(f"no answer within {deadline_s:g} s")


def _forget(task: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more: what it fails with is nobody's."""
    if not task.cancelled():
        task.exception()
