"""The door that callers come through: from a socket to an `Arrival`.

It takes what `caller_connection` reads, checks the head, reads the body within its bounds of size
and time, and gives the corridor a request that is whole, or refuses it. Whatever fails, the
caller gets an answer or a reset, never silence, and nothing of the request is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import http_parser
from aiohttp.streams import StreamReader

from sidecar.errors import ConfigurationError
from sidecar.proxy.accept_options import AcceptOptions
from sidecar.proxy.arrival import Arrival
from sidecar.proxy.caller_connection import READ_AHEAD_BYTES, BodyBroken, CallerConnection
from sidecar.proxy.known_heads import KnownHeads
from sidecar.proxy.local_api_problems import LOCAL_BODY_BYTES_MAX, ROOT
from sidecar.proxy.local_socket import PeerGate, SocketOptions, bind_socket
from sidecar.proxy.log_lines import LineBudget
from sidecar.proxy.pressure import Pressure
from sidecar.proxy.refusals import Refusal, RefusalReason, RefusalShape, Refused
from sidecar.proxy.request_head import RequestHead
from sidecar.proxy.stepping import aside
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.turns import Turns

__all__ = ["AcceptOptions", "Arrival", "FrontDoor"]

logger = logging.getLogger(__name__)

BACKLOG: Final = 4096

_BROKEN_FRAMING: Final = Refusal(RefusalReason.MALFORMED, "the body's framing is wrong", closes=True)


class FrontDoor:
    """Listens, and gives every request that can be taken to `carry`.

    `carry(arrival)` answers through the arrival. It may raise `Refused`; any other exception is a
    fault of ours: the caller gets 500, or a reset if its answer had begun.

    Attributes:
        active: requests under way.
        held_bytes: request bodies held.
        refused: how many refusals of each reason.
        draining: no new requests are taken.
        connections: the open ones.
    """

    def __init__(
        self,
        carry: Callable[[Arrival], Awaitable[None]],
        *,
        shape: RefusalShape,
        sweep: Sweep,
        options: AcceptOptions,
        knows_key: Callable[[bytes], bool] | None = None,
        refused_by_head: Callable[[RequestHead], bool] | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        """Make a door that does not listen yet.

        `knows_key` says whether a virtual key was good not long ago; `refused_by_head`, whether `carry` would refuse a
        request whatever its body is, which is then not asked for (B-P37). `pressure`: whether there is memory for more.

        Raises:
            ConfigurationError: aiohttp's C parser is missing; the one in Python accepts hostile framing.
        """
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise ConfigurationError(["aiohttp: its C parser is not installed; use a wheel built with it"])
        self.options = options
        self.shape = shape
        self.sweep = sweep
        self.draining = False
        self.active = 0
        self.held_bytes = 0
        self.refused: dict[RefusalReason, int] = dict.fromkeys(RefusalReason, 0)
        self.connections: set[CallerConnection] = set()
        self._carry = carry
        self._heads = KnownHeads(options.hosts, knows_key)
        self._refused_by_head = refused_by_head
        self._pressure = pressure or Pressure()
        self._quiet = asyncio.Event()
        self._servers: list[asyncio.AbstractServer] = []
        self._lines = LineBudget()
        self._socket: Path | None = None

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept connections there; port 0 picks one. Returns the port.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        server = await loop.create_server(
            lambda: CallerConnection(self, loop, turns), host, port, ssl=tls, backlog=BACKLOG
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_on(self, options: SocketOptions) -> None:
        """Accept connections on a Unix socket too, of those users alone; does nothing where no path is set.

        Raises:
            ConfigurationError: it cannot be had there.
        """
        if options.path is None:
            return
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        allowed = options.allowed()

        def gate() -> PeerGate:
            return PeerGate(allowed, lambda: CallerConnection(self, loop, turns), self._refuse_peer)

        listening = bind_socket(options.path)
        self._socket = options.path
        self._servers.append(await loop.create_unix_server(gate, sock=listening, backlog=BACKLOG))

    def _refuse_peer(self, uid: int) -> None:
        if self._lines.allows(self.sweep.now):
            logger.warning("peer_refused", extra={"facts": {"uid": uid}})

    async def drain(self, grace_s: float, *, settle_s: float = 5.0) -> None:
        """Stop accepting, let live requests go on for `grace_s`, then cancel the rest.

        A cancelled request still runs its own settlement; at most `settle_s` is waited for that.
        """
        self.draining = True
        for server in self._servers:
            server.close()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        for connection in tuple(self.connections):
            connection.retire()
        await self._become_quiet(grace_s)
        for connection in tuple(self.connections):
            connection.cancel()
        await self._become_quiet(settle_s)

    def count_refusal(self, refusal: Refusal) -> None:
        """Count it, and log it unless there were too many of late."""
        self.refused[refusal.reason] += 1
        if self._lines.allows(self.sweep.now):
            logger.info("request_refused", extra={"facts": {"reason": refusal.reason.value}})

    async def handle(self, arrival: Arrival) -> None:
        """See a request to its answer (called by its connection)."""
        self.active += 1
        held = 0
        try:
            self._check(arrival)
            if arrival.payload.is_eof():
                if not arrival.body:
                    arrival.body = arrival.payload.read_nowait()
                self.held_bytes += len(arrival.body)
                if len(arrival.body) > self.options.max_body_bytes:
                    raise _too_large(self.options.max_body_bytes)
            elif b"expect" in arrival.head.fields and self._needs_no_body(arrival.head):
                arrival.keep_alive = False  # it may come all the same, and the rest of it is no request
                return await self._carry(arrival)
            else:
                await aside(self._receive_body(arrival))
            arrival.body_taken()
            held = len(arrival.body)
            await self._carry(arrival)
        except Refused as refused:
            self._give_up(arrival, refused.refusal)
        except BodyBroken:  # of a body that came whole, with more framing than body
            self._give_up(arrival, _BROKEN_FRAMING)
        except asyncio.CancelledError:
            self._give_up(arrival, Refusal(RefusalReason.OVERLOADED, "the sidecar is shutting down", closes=True))
            raise
        except Exception:
            if not arrival.gone:
                logger.exception("request_failed")
            self._give_up(arrival, Refusal(RefusalReason.INTERNAL, "the sidecar failed", closes=True))
        finally:
            self.active -= 1
            self.held_bytes -= max(held, len(arrival.body))  # the body is let go of before
            if self.draining and self.active == 0:
                self._quiet.set()

    def _give_up(self, arrival: Arrival, refusal: Refusal) -> None:
        if arrival.answered:
            arrival.abort()
        else:
            arrival.refuse(refusal)

    def _check(self, arrival: Arrival) -> None:
        """Check the head, unless it is known, or refuse it."""
        message = arrival.message
        if message is None:
            head, length = arrival.head, arrival.length
        else:
            head, length, varying = self._heads.read(message, arrival.raw)
            arrival.know_head(head, length, varying)
            if head.http_1_0:
                arrival.keep_alive = False
        if self.draining:
            raise Refused(RefusalReason.OVERLOADED, "the sidecar is shutting down", closes=True)
        if self.active > self.options.max_requests:
            raise Refused(RefusalReason.OVERLOADED, "too many requests at once")
        if not self._pressure.takes_new(self.active):
            raise Refused(RefusalReason.OVERLOADED, "memory is nearly used up", closes=True)
        if length is not None and length > LOCAL_BODY_BYTES_MAX and length > (most := self._most_bytes(head.target)):
            raise _too_large(most)

    def _needs_no_body(self, head: RequestHead) -> bool:
        return self._refused_by_head is not None and self._refused_by_head(head)

    async def _receive_body(self, arrival: Arrival) -> None:
        """Read a body that has not all come yet, within its bounds of size and time."""
        if b"expect" in arrival.head.fields:
            arrival.invite_body()
        pace = _BodyPace(arrival.payload, self.options, self.sweep.now)
        self.sweep.watch(pace)
        try:
            arrival.body = await self._collect(arrival)
        except BodyBroken as exc:
            raise Refused(_BROKEN_FRAMING.reason, _BROKEN_FRAMING.message, closes=True) from exc
        finally:
            self.sweep.forget(pace)

    async def _collect(self, arrival: Arrival) -> bytes:
        """The body's bytes; counted in `held_bytes` from here on."""
        payload, options = arrival.payload, self.options
        length = arrival.length
        if length is not None and length <= READ_AHEAD_BYTES:  # one wake-up, not one for each read
            await payload.wait_eof()
            body = payload.read_nowait()
            self.held_bytes += len(body)
            return body
        most = self._most_bytes(arrival.head.target)
        pieces: list[bytes] = []
        held = 0
        try:
            while piece := await payload.readany():
                pieces.append(piece)
                held += len(piece)
                self.held_bytes += len(piece)
                if held > most:
                    raise _too_large(most)
                if self.held_bytes > options.max_held_body_bytes:
                    raise Refused(RefusalReason.OVERLOADED, "too many request bodies at once", closes=True)
        except BaseException:
            self.held_bytes -= held
            raise
        return b"".join(pieces)

    def _most_bytes(self, target: str) -> int:
        """The most that a body may have there: a question to ourselves is never as long as a prompt."""
        most = self.options.max_body_bytes
        return min(most, LOCAL_BODY_BYTES_MAX) if target.startswith(ROOT) else most

    async def _become_quiet(self, timeout_s: float) -> None:
        if self.active:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), timeout_s)


def _too_large(most: int) -> Refused:
    return Refused(RefusalReason.BODY_TOO_LARGE, f"the body is larger than {most} bytes", closes=True)


class _BodyPace:
    """Ends a body that comes too slowly."""

    def __init__(self, payload: StreamReader, options: AcceptOptions, now: float) -> None:
        self._payload = payload
        self._options = options
        self._since = now

    def check(self, now: float) -> None:
        options = self._options
        age_s = now - self._since
        enough = options.body_min_bytes_per_s * age_s
        crawls = age_s > options.body_grace_s and self._payload.total_bytes < enough
        if crawls or age_s > options.body_timeout_s:
            self._payload.set_exception(
                Refused(RefusalReason.BODY_TOO_SLOW, "the request's body did not arrive in time", closes=True)
            )
