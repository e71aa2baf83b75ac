"""The providers we may call, and the connections kept open to each.

An upstream is an origin from the configuration; nothing in a request picks a host. Connections
are kept in a pool, the one used last taken first, so that those not needed grow old and are
closed.

A request is never sent twice on a guess. An idle connection that the provider has closed is
noticed before it is used; one that dies after a request was written may have carried it to a
provider that worked on it, and bills it, so only a request without effects (GET, HEAD) is then
repeated.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from sidecar.errors import ConfigurationError, UpstreamUnavailable
from sidecar.proxy.provider_keys import ProviderKey
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.turns import Turns
from sidecar.proxy.upstream_connection import UpstreamConnection

MAX_SHOWN: Final = 256
"""Characters of an address that a message repeats."""

_PORTS: Final = {"http": 80, "https": 443}
_USER_INFO: Final = re.compile(r"//.*@")


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How connections to one provider are made and kept."""

    connect_timeout_s: float = 10.0
    """For name, connection and TLS together."""

    idle_s: float = 30.0
    max_idle: int = 512


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a provider."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> bytes:
        """As it stands in a Host header: the port only if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}").encode("ascii")


def read_origin(url: str) -> Origin:
    """Read an origin such as `https://api.openai.com` or `http://127.0.0.1:9000`.

    Raises:
        ConfigurationError: another scheme, or anything beside scheme, host and port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError as exc:
        raise ConfigurationError([f"upstream {_shown(url)!r}: not a URL"]) from exc
    extra = parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in _PORTS or not host or extra:
        raise ConfigurationError(
            [f"upstream {_shown(url)!r}: expected http(s)://host or http(s)://host:port, nothing more"]
        )
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme])


def _shown(url: str) -> str:
    """An address as a message may repeat it: without what may be a password or a key."""
    return _USER_INFO.sub("//…@", url.partition("?")[0])[:MAX_SHOWN]


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """The context for all upstreams: verified, TLS 1.2 or later; `ca_file` in place of the system's roots."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Upstream:
    """One provider: where it is, which key it gets, and its idle connections.

    Attributes:
        name: as in the configuration.
        origin: where it is.
        authority: for the Host line.
        key: replaces the caller's, if given.
    """

    __slots__ = ("_idle", "_open", "_options", "_sweep", "_tls", "_turns", "authority", "key", "name", "origin")

    def __init__(
        self,
        name: str,
        origin: Origin,
        *,
        sweep: Sweep,
        tls: ssl.SSLContext | None = None,
        options: PoolOptions | None = None,
        key: ProviderKey | None = None,
    ) -> None:
        """Make an upstream without connections; `tls` is needed for an https origin.

        Raises:
            ConfigurationError: https without a context.
        """
        if origin.scheme == "https" and tls is None:
            raise ConfigurationError([f"upstream {name}: https needs a TLS context"])
        self.name = name
        self.origin = origin
        self.authority = origin.authority
        self.key = key
        self._tls = tls if origin.scheme == "https" else None
        self._options = options or PoolOptions()
        self._sweep = sweep
        self._turns: Turns | None = None  # of the loop that connects
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        sweep.watch(self)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is still good; None if there is none."""
        now = self._sweep.now
        while self._idle:
            connection = self._idle.pop()
            # Idle for less than a tick, the loop itself would have seen it end.
            if connection.alive and (connection.idle_since == now or not connection.went_quietly()):
                return connection
            connection.drop()
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection.

        Raises:
            UpstreamUnavailable: no address, no connection, no trust, or too late; the message says which
                and names nothing but the upstream.
        """
        origin = self.origin
        loop = asyncio.get_running_loop()
        turns = self._turns = self._turns or Turns(loop)
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self, turns),
                    origin.host,
                    origin.port,
                    ssl=self._tls,
                    server_hostname=origin.host if self._tls else None,
                )
        except (OSError, TimeoutError) as exc:
            raise UpstreamUnavailable(f"{self.name}: {type(exc).__name__}") from exc
        self._open.add(connection)
        return connection

    def take_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request, if there is room."""
        if len(self._idle) >= self._options.max_idle:
            connection.drop()
            return
        connection.idle_since = self._sweep.now
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """It has ended. If it was idle, `take` will find it dead."""
        self._open.discard(connection)

    def close(self) -> None:
        """Cut every connection and keep none any more."""
        self._sweep.forget(self)
        self._idle.clear()
        for connection in tuple(self._open):
            connection.drop()

    def check(self, now: float) -> None:
        """Close what has been idle for too long (`Sweep`)."""
        idle = self._idle
        while idle and (now - idle[0].idle_since > self._options.idle_s or not idle[0].alive):
            idle.popleft().drop()
