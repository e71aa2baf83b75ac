"""One connection to a provider: asyncio's protocol around httptools' parser.

It sends a request in one write and hands the answer on from the parser's callbacks: one call per
read, however many pieces were in it. A connection is used again only after an answer that ended
exactly where it should; after any surprise it is dropped, so that no caller can get what was
meant for another.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final, Protocol, cast

import httptools

from sidecar.errors import WireFormatError
from sidecar.proxy.answer_framing import PEER, AnswerHead, read_answer_head
from sidecar.proxy.polling import Poller
from sidecar.proxy.refusals import Header
from sidecar.proxy.turns import Turns

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128
SMALL_BODY_BYTES: Final = 16 * 1024
"""Up to this size copying a body behind its head is cheaper than writing two buffers."""

MAX_INTERIM_ANSWERS: Final = 16
"""How many 1xx answers may come before the final one."""


class Break(StrEnum):
    """Why an answer will not end properly."""

    CUT = "provider_cut"  # the connection ended too early
    SURPRISE = "provider_surprise"  # bytes that are not HTTP/1.1, or not this answer's


class AnswerSink(Protocol):
    """Who gets the answer. Its methods must not raise."""

    @property
    def method(self) -> str:
        """The request's method."""
        ...

    def answer_began(self, head: AnswerHead) -> None:
        """The head is here; `answer_moved` follows at once."""
        ...

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        """The next decoded body bytes (may be none); `complete` with the last ones."""
        ...

    def answer_broke(self, why: Break, detail: str) -> None:
        """It ends here, unfinished; nothing follows."""
        ...


class Home(Protocol):
    """Where a connection belongs."""

    def take_back(self, connection: UpstreamConnection) -> None:
        """The connection is free for another request."""
        ...

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is no more."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """A connection, idle or carrying one request.

    Attributes:
        idle_since: coarse monotonic instant of its last use; kept by its pool.
        used: whether it has carried a request before.
    """

    __slots__ = (
        "_complete",
        "_detail",
        "_head",
        "_head_read_bytes",
        "_headers",
        "_home",
        "_interim",
        "_interims",
        "_keep_alive",
        "_parser",
        "_pieces",
        "_poller",
        "_reason",
        "_sink",
        "_spoiled",
        "_transport",
        "_turns",
        "_unread",
        "idle_since",
        "used",
    )

    def __init__(self, home: Home, turns: Turns | None = None) -> None:
        """Make one; `turns` gathers its reads, else each is worked on at once."""
        self._home = home
        self._turns = turns
        self._unread = 0  # reads that wait for the turn's end
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sink: AnswerSink | None = None
        self._poller: Poller | None = None
        self.idle_since = 0.0
        self.used = False
        self._spoiled = False
        self._detail = ""
        self._reset()

    def _reset(self) -> None:
        self._head: AnswerHead | None = None
        self._head_read_bytes = 0
        self._headers: list[Header] = []
        self._reason = b""
        self._pieces: list[bytes] = []
        self._complete = False
        self._interim = False
        self._interims = 0
        self._keep_alive = False

    # -- for the pool and the forwarder

    @property
    def alive(self) -> bool:
        """Whether it can still be written to, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def went_quietly(self) -> bool:
        """Whether the idle connection has something to read: the provider has closed it, or talks out of turn.

        Asks the kernel, for what the event loop has not seen yet.
        """
        if self._transport is None:
            return True
        if self._poller is None:
            self._poller = Poller(self._transport.get_extra_info("socket").fileno())
        return self._poller.is_readable()

    def send(self, sink: AnswerSink, head: bytes, body: bytes) -> None:
        """Send a request, whole; the answer goes to `sink`."""
        if self._transport is None or self._sink is not None:
            raise RuntimeError("a connection carries one request at a time")
        self._sink = sink
        if self.used:
            self._reset()
        self.used = True
        if len(body) < SMALL_BODY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def drop(self) -> None:
        """Cut it now; its sink hears nothing more."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep an answer's bytes until all is read that this turn of the loop finds."""
        # What nobody asked for must be seen before anybody asks; and the pieces of a stream come one to a turn.
        if self._turns is None or self._sink is None or (self._head is not None and not self._unread):
            self._read(data)
        else:
            self._unread += 1
            self._turns.add(self, data)

    def take(self, data: bytes) -> None:
        """The turn ends: work on a read."""
        self._unread -= 1
        self._read(data)

    def give_up(self) -> None:
        """A fault of ours: cut it, and let its sink know."""
        if self._transport is not None:
            self._transport.abort()

    def _read(self, data: bytes) -> None:
        """Parse, then hand on what this read brought."""
        sink = self._sink
        if sink is None:
            self.drop()  # nobody asked: whatever this is, it must not become somebody's answer
            return
        had_head = self._head is not None
        if not had_head:
            self._head_read_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._spoil(str(exc))
        begun = self._head is not None and not had_head
        if self._head is None:
            if self._head_read_bytes > MAX_HEAD_BYTES:
                self._spoil("the head is too large")
        elif begun:
            sink.answer_began(self._head)
        if self._sink is sink and (self._pieces or self._complete or (begun and not self._spoiled)):
            pieces = self._pieces
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._complete:
                self._release()
            sink.answer_moved(piece, complete=self._complete)
        if self._spoiled and not self._complete and self._sink is sink:
            self.drop()
            sink.answer_broke(Break.SURPRISE, self._detail)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer under way: properly only if its end is the connection's end."""
        if self._unread and self._turns is not None:
            self._turns.finish()  # what was read before comes first
        self._transport = None
        self._home.forget(self)
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._head is not None and self._head.until_close and exc is None:
            sink.answer_moved(b"", complete=True)
        else:
            sink.answer_broke(Break.CUT, "" if exc is None else type(exc).__name__)

    # -- httptools' callbacks; what they raise comes out of feed_data as HttpParserError

    def on_status(self, reason: bytes) -> None:
        """The status line's phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, or a trailer, which is dropped."""
        if self._head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete: an interim one, the final one, or one too many."""
        if self._complete:
            self._spoil("a second answer")
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interims += 1
            if status == 101 or self._interims > MAX_INTERIM_ANSWERS:
                self._spoil("interim answers")
                raise WireFormatError(PEER, self._detail)
            self._interim = True
            self._headers = []
            self._reason = b""
            return
        sink = self._sink
        method = sink.method if sink is not None else "GET"
        if len(self._headers) > MAX_HEADERS or self._head_is_too_large():
            self._spoil("the head is too large")
            raise WireFormatError(PEER, self._detail)
        try:
            self._head = read_answer_head(
                status, self._reason, self._parser.get_http_version(), self._headers, method=method
            )
        except WireFormatError as exc:
            self._spoil(exc.what)
            raise
        self._keep_alive = self._parser.should_keep_alive()
        if method == "HEAD":  # the parser would wait for a body
            self._complete = True
            self._keep_alive = False

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, decoded."""
        if self._complete:
            self._spoil("bytes after the end")
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of an answer; after an interim one the final one follows."""
        if self._interim:
            self._interim = False
        else:
            self._complete = True

    # --

    def _head_is_too_large(self) -> bool:
        """Counts only if the reads so far could hold too large a head; they also hold what follows it."""
        if self._head_read_bytes <= MAX_HEAD_BYTES:
            return False
        return sum(len(name) + len(value) for name, value in self._headers) > MAX_HEAD_BYTES

    def _spoil(self, detail: str) -> None:
        self._spoiled = True
        self._detail = self._detail or detail

    def _release(self) -> None:
        """Give the connection back, or drop it if anything about it is not as it should be."""
        self._sink = None
        transport = self._transport
        if transport is None:
            return
        # A read that waits is more than the answer.
        clean = self._keep_alive and not self._spoiled and not self._unread and not transport.is_closing()
        if clean and transport.get_write_buffer_size() == 0:
            self._home.take_back(self)
        else:
            transport.abort()
