"""A caller's connection: requests come in one after the other, answers go out as bytes.

aiohttp's C parser takes heads apart and decodes bodies; its request and response objects, and a
task for each request, would cost more than all the rest of the way through. So a connection is
an asyncio protocol of our own around that parser, served by one coroutine that is stepped from its
callbacks (`stepping`), and `Arrival` is what the corridor gets to see: a piece of an answer is one write
to the transport, with no task switch.

A half-closed connection (the caller shuts its writing side) counts as a caller who has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpParser, HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.proxy.accept_options import AcceptOptions
from sidecar.proxy.arrival import Arrival, RefusalDesk, Watcher, whole_answer
from sidecar.proxy.known_heads import body_behind, plain_head_bytes
from sidecar.proxy.refusals import Refusal, RefusalReason
from sidecar.proxy.request_head import RequestHead
from sidecar.proxy.stepping import Pause, Stepper, aside
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.turns import Turns
from sidecar.proxy.wire_bytes import (
    FIRST_LINE_BYTES,
    MAX_HEAD_BYTES,
    ChunkPadding,
    head_behind,
    padding_behind,
    target_in,
)

logger = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 8190
MAX_HEADERS: Final = 100
MAX_PIPELINED: Final = 16
"""Requests read ahead on one connection while another is being answered."""

READ_AHEAD_BYTES: Final = 256 * 1024
"""Of a body that is not being taken; twice this stops reading."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class BodyBroken(Exception):
    """The framing of a request's body is wrong."""


class Door(RefusalDesk, Protocol):
    """What a connection needs of the door that it came through."""

    options: AcceptOptions
    sweep: Sweep
    draining: bool
    connections: set[CallerConnection]

    def handle(self, arrival: Arrival) -> Awaitable[None]:
        """See a request to its answer; raises nothing but `CancelledError`."""
        ...


class CallerConnection(BaseProtocol):
    """One caller's connection. Its task serves request after request; the door made and keeps it."""

    __slots__ = (
        "_between",
        "_broken",
        "_chunks",
        "_current",
        "_head_bytes",
        "_head_since",
        "_holds",
        "_idle_since",
        "_last_payload",
        "_plain",
        "_queue",
        "_read_bytes",
        "_ready",
        "_stalled_since",
        "_start",
        "_stepper",
        "_turns",
        "_unsent",
        "_waiter",
        "_wire",
        "door",
        "known",
        "watcher",
    )

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, turns: Turns | None = None) -> None:
        """Make one; `turns` gathers its reads, else each is worked on at once."""
        parser = HttpRequestParser(
            self,
            loop,
            READ_AHEAD_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            payload_exception=BodyBroken,
            auto_decompress=False,
            max_msg_queue_size=MAX_PIPELINED,
        )
        super().__init__(loop, parser)
        self.door = door
        self._turns = turns
        self.watcher: Watcher | None = None
        self._queue: list[
            tuple[RawRequestMessage, StreamReader, bytes]
        ] = []  # a deque takes 760 bytes, and few ever queue
        self.known: RequestHead | None = None
        self._ready: Arrival | None = None  # whose head need not be parsed
        self._between = True  # the parser has had whole requests, to the last byte, and nothing more
        self._plain = 0  # how long the head is that came since; 0: it cannot be said
        self._read_bytes = 0  # since then
        self._broken: Refusal | None = None  # what follows the queued requests is no request
        self._current: Arrival | None = None
        self._last_payload: StreamReader = EMPTY_PAYLOAD
        self._waiter: Pause[None] | None = None
        self._stepper: Stepper | None = None
        self._wire: asyncio.Transport | None = None  # kept when `transport` is gone, to abort what does not close
        self._head_since = 0.0  # when the first byte of an unfinished head came; 0: none
        self._head_bytes = 0  # of it, so far
        self._start = b""  # of a head that came in pieces, or is none: tells whose protocol to refuse it in
        self._chunks: ChunkPadding | None = None  # of the last request's body
        self._idle_since = 0.0
        self._holds = False
        self._stalled_since = 0.0
        self._unsent = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are too many."""
        super().connection_made(transport)
        door = self.door
        self._wire = wire = cast(asyncio.Transport, transport)
        wire.set_write_buffer_limits(high=door.options.write_buffer_bytes)
        door.sweep.watch(self)
        if door.draining or len(door.connections) >= door.options.max_connections:
            self._turn_away(Refusal(RefusalReason.OVERLOADED, "too many connections", closes=True))
            return
        self._idle_since = door.sweep.now
        door.connections.add(self)
        self._stepper = Stepper(self._serve(), self._forget_work)
        self._stepper.resume()

    def data_received(self, data: bytes) -> None:
        """Keep it until all is read that this turn of the loop finds."""
        if self._turns is None:
            self.take(data)
        else:
            self._turns.add(self, data)

    def take(self, data: bytes) -> None:
        """Parse, unless the head is known, and wake the task if a request has begun."""
        if self._broken is not None or self._parser is None:
            return
        raw = b""
        if self._between:
            known = self.known
            if known is not None and known.written is not None and self._waiter is not None:
                body = body_behind(known.written, data)
                if body is not None:
                    self._ready = Arrival.known(known, body, self)
                    self._wake()
                    return
            self._between = False
            self._read_bytes = 0
            self._plain = plain_head_bytes(data)
            raw = data[: self._plain]
        self._parse(self._parser, data, raw)

    def _parse(self, parser: HttpParser[RawRequestMessage], data: bytes, raw: bytes) -> None:
        """Parse; `raw` is a plain head that the data begin with, if it is the first since the last whole request."""
        if not self._head_since and data and self._last_payload.is_eof():
            self._head_since = self.door.sweep.now
            self._start = b""
        last = self._last_payload
        had = last.total_bytes
        try:
            messages, _, _ = parser.feed_data(data)
        except HttpProcessingError as exc:
            self._keep_start(data)
            self._break_off(_unreadable(exc))
            return
        if not messages and self._head_since:
            self._keep_start(data)
        behind = 0
        if self._chunks is not None or not messages or any(message.chunked for message, _ in messages):
            received = len(data)
            if len(self._queue) + len(messages) >= MAX_PIPELINED - 1:  # one more may be under way
                received = 0  # the parser keeps back what it will tell of later
            elif messages or (self._chunks is not None and not self._head_since):
                behind = head_behind(data, messages, last)
            excess = self._excess(received - behind, messages, last.total_bytes - had)
            if excess is not None:
                self._break_off(excess)
                return
        if messages or behind:
            self._head_since = self.door.sweep.now if behind else 0.0
            self._head_bytes = behind
            self._start = data[-behind:][:FIRST_LINE_BYTES] if behind else b""
        if messages:
            self._last_payload = messages[-1][1]
        self._read_bytes += len(data)
        if self._plain and self._chunks is None and self._last_payload.is_eof():
            self._between = self._read_bytes == self._plain + self._last_payload.total_bytes
        if messages:
            self._queue += [(message, body, raw if len(messages) == 1 else b"") for message, body in messages]
            if len(self._queue) >= MAX_PIPELINED and self.transport is not None:
                self.transport.pause_reading()
            self._wake()

    def eof_received(self) -> None:
        """The caller has shut its side: the transport closes, which tells everybody."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever reads or writes."""
        if self._turns is not None:
            self._turns.finish()  # what was read before comes first
        super().connection_lost(exc)
        self.door.sweep.forget(self)
        self._wire = None
        self._parser = None
        lost = exc or ConnectionResetError("the caller has gone")
        self._last_payload.set_exception(lost)
        current = self._current
        if current is not None:
            current.gone = True
            current.keep_alive = False
            current.payload.set_exception(lost)
        if self.watcher is not None:
            self.watcher.caller_gone()
        self._wake()

    def pause_writing(self) -> None:
        """Too much waits to be sent."""
        super().pause_writing()
        if self.watcher is not None:
            self.watcher.caller_slow()

    def resume_writing(self) -> None:
        """The buffer is low again."""
        super().resume_writing()
        if self.watcher is not None:
            self.watcher.caller_ready()

    # -- flow of bodies (called by `StreamReader`)

    def pause_reading(self) -> None:
        """A body comes faster than it is taken."""
        self._holds = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on. aiohttp asks for it twice per request; if nothing was held, there is nothing to do."""
        if self._holds and self._parser is not None:
            self._holds = False
            super().resume_reading(resume_parser)

    # -- for the door, the timer and the arrival

    def check(self, now: float) -> None:
        """End a head that does not, a caller that does not read, and idleness (`Sweep`)."""
        wire = self._wire
        if wire is None:
            return
        options = self.door.options
        unsent = wire.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._stalled_since = 0.0
        elif not self._stalled_since:
            self._stalled_since = now
        elif now - self._stalled_since > options.client_stall_s:
            if self._current is not None:
                self._current.stalled = True
            wire.abort()
        self._unsent = unsent
        if self._current is not None or wire.is_closing():
            return
        if self._head_since and now - self._head_since > options.head_timeout_s:
            self._turn_away(Refusal(RefusalReason.HEAD_TOO_SLOW, "the request's head did not arrive", closes=True))
        elif not self._head_since and now - self._idle_since > options.keepalive_s:
            wire.close()

    def give_up(self) -> None:
        """A fault of ours: cut it."""
        if self._wire is not None:
            self._wire.abort()

    def cut(self) -> None:
        """Send what is written, then a reset: an end that cannot be taken for a clean one."""
        wire = self._wire
        if wire is None:
            return
        sock = wire.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        wire.close()

    def body_taken(self, payload: StreamReader) -> StreamReader:
        """A body is read to its end: gives a reader of nothing, as a reader is a kilobyte and an answer may be long."""
        if self._last_payload is payload:
            self._last_payload = EMPTY_PAYLOAD
        return EMPTY_PAYLOAD

    @property
    def desk(self) -> RefusalDesk:
        """Where refusals go."""
        return self.door

    def retire(self) -> None:
        """Close it now if it is idle, else after the answer under way."""
        if self._current is not None:
            self._current.keep_alive = False
        elif not self._queue and not self._head_since and self._wire is not None:
            self._wire.close()

    def cancel(self) -> None:
        """Cancel the request under way, and end."""
        if self._stepper is not None:
            self._stepper.cancel()

    def _forget_work(self) -> None:
        self._stepper = None

    # --

    async def _serve(self) -> None:
        """Serve requests until the connection ends."""
        queue, door = self._queue, self.door
        try:
            while self._parser is not None:
                arrival, self._ready = self._ready, None
                parsed = arrival is None
                if arrival is None and queue:
                    message, payload, raw = queue.pop(0)
                    arrival = Arrival(message, payload, self, raw)
                    del message, payload
                if arrival is None:
                    if self._broken is not None:
                        self._turn_away(self._broken)
                        break
                    self._idle_since = door.sweep.now
                    self._waiter = Pause()
                    await self._waiter
                    continue
                self._current = arrival
                await door.handle(arrival)
                if not arrival.payload.is_eof():
                    await aside(self._linger(arrival.payload))
                self._current = self.watcher = None
                if not arrival.keep_alive or not arrival.payload.is_eof():
                    break
                if parsed and self._parser is not None:  # it counts one that is whole, so not before that
                    self._parser.message_consumed()
                if len(queue) == MAX_PIPELINED - 1:
                    self._read_on()
        finally:
            self._current = self.watcher = None
            door.connections.discard(self)
            if self._wire is not None:
                self._wire.close()

    def _read_on(self) -> None:
        """There is room in the queue again: take what the parser kept back, then read."""
        self.take(b"")
        if len(self._queue) < MAX_PIPELINED and not self._holds and self.transport is not None:
            self.transport.resume_reading()

    async def _linger(self, payload: StreamReader) -> None:
        """Read the rest of a body that nobody wants."""
        with contextlib.suppress(TimeoutError, Exception):
            async with asyncio.timeout(self.door.options.linger_s):
                while await payload.readany():
                    pass

    def _excess(
        self, received: int, messages: Sequence[tuple[RawRequestMessage, StreamReader]], carried: int
    ) -> Refusal | None:
        """What is wrong if a read went over the bounds of a head or of a chunked body's framing.

        `carried`: how much of the read was still of the body of the request before these.
        """
        chunks = self._chunks
        if messages:
            message, payload = messages[-1]
            chunks = ChunkPadding(payload, max(0, padding_behind(received + self._head_bytes - carried, messages)))
            self._chunks = chunks if message.chunked else None
        elif self._head_since:
            self._head_bytes += received
            if self._head_bytes <= MAX_HEAD_BYTES:
                return None
            return Refusal(RefusalReason.HEAD_TOO_LARGE, "the request's head is too large", closes=True)
        elif chunks is not None:
            chunks.add(max(0, received - chunks.body_bytes()))
        if chunks is None or not chunks.is_too_much:
            return None
        self._last_payload.set_exception(BodyBroken())
        return Refusal(RefusalReason.MALFORMED, "the body's framing is larger than the body", closes=True)

    def _keep_start(self, data: bytes) -> None:
        if len(self._start) < FIRST_LINE_BYTES:
            self._start = (self._start + data[:FIRST_LINE_BYTES])[:FIRST_LINE_BYTES]

    def _break_off(self, refusal: Refusal) -> None:
        """Read nothing more: what follows the queued requests is no request."""
        self._broken = refusal
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set(None)

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer what is no request, and close."""
        if self._wire is None:
            return
        self.door.count_refusal(refusal)
        self._head_since = 0.0
        self._wire.write(
            whole_answer(*self.door.shape(target_in(self._start), refusal), keep_alive=False, is_head=False)
        )
        self._wire.close()


def _unreadable(exc: HttpProcessingError) -> Refusal:
    """What the parser would not take; its words quote the request, so they go nowhere."""
    if "Invalid HTTP version" in exc.message:
        return Refusal(RefusalReason.VERSION, "this port speaks HTTP/1.1 and HTTP/1.0", closes=True)
    if isinstance(exc, LineTooLong) or exc.message.startswith("Too many headers"):
        return Refusal(RefusalReason.HEAD_TOO_LARGE, "the request's head is too large", closes=True)
    return Refusal(RefusalReason.MALFORMED, "this is not a request in HTTP/1.1", closes=True)
