"""One request as it came in, and the way back to its caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from sidecar.proxy.refusals import Header, Refusal, RefusalShape
from sidecar.proxy.request_head import RequestHead

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage


class Watcher(Protocol):
    """What wants to know how the caller is doing while its answer is under way."""

    def caller_gone(self) -> None:
        """The connection is lost; nothing can be written any more."""
        ...

    def caller_slow(self) -> None:
        """More than the buffer's bound waits to be read: stop writing."""
        ...

    def caller_ready(self) -> None:
        """The buffer is low again."""
        ...


class RefusalDesk(Protocol):
    """Where refusals get their shape, and are counted."""

    shape: RefusalShape

    def count_refusal(self, refusal: Refusal) -> None:
        """Count it, and log it unless there were too many of late."""
        ...


class Line(Protocol):
    """The connection that an arrival came on, as far as it matters to it."""

    transport: asyncio.Transport | None
    watcher: Watcher | None
    known: RequestHead | None
    """The head that came last, once it is checked."""

    @property
    def desk(self) -> RefusalDesk:
        """Where refusals go."""
        ...

    @property
    def writing_paused(self) -> bool:
        """More than the buffer's bound waits to be read."""
        ...

    def body_taken(self, payload: StreamReader) -> StreamReader:
        """A body is read to its end; gives the reader to have in place of its own."""
        ...

    def cut(self) -> None:
        """Send what is written, then a reset."""
        ...


class Arrival:
    """One request as it came in, and the way back to its caller.

    Attributes:
        message: the head as parsed, unchecked; for `accept` only, which lets go of it. None: the head is known.
        raw: the head as it is written, if it is plain (`known_heads`); for `accept` only, likewise.
        payload: the body as it comes; for `accept` only, which lets go of it.
        head: the checked head; set before the corridor sees the arrival. Others may share it.
        length: the body's, as declared; None if it was not.
        varying: the head's lines that are this request's own, to be passed on.
        body: the whole body, at most `max_body_bytes`; empty once it is on its way.
        received_at: monotonic seconds when the head had been read.
        gone: the caller's connection is lost.
        stalled: it is lost because the caller did not read for `client_stall_s`.
        keep_alive: whether the connection may go on after this answer; may be set to False.
        answered: a first byte of an answer has been written.
    """

    __slots__ = (
        "_connection",
        "_is_head",
        "_target",
        "_transport",
        "answered",
        "body",
        "gone",
        "head",
        "keep_alive",
        "length",
        "message",
        "payload",
        "raw",
        "received_at",
        "stalled",
        "varying",
    )

    head: RequestHead

    def __init__(
        self, message: RawRequestMessage | None, payload: StreamReader, connection: Line, raw: bytes = b""
    ) -> None:
        self.message = message
        self.raw = raw
        self.payload = payload
        self._connection = connection
        self._transport = connection.transport
        self.body = b""
        self.received_at = time.monotonic()
        self.gone = self._transport is None
        self.stalled = False
        self.answered = False
        self.length: int | None = None
        self.varying: tuple[Header, ...] = ()
        if message is None:
            self.keep_alive = True
            self._is_head = False
            self._target = ""
        else:
            self.keep_alive = not message.should_close
            self._is_head = message.method == "HEAD"
            self._target = message.path or ""  # None: its parser never got to one

    @classmethod
    def known(cls, head: RequestHead, body: bytes, connection: Line) -> Arrival:
        """One whose head came before, byte for byte, with its whole body."""
        arrival = cls(None, EMPTY_PAYLOAD, connection)
        arrival.head, arrival.body, arrival.length = head, body, len(body)
        arrival._target = head.target
        return arrival

    def know_head(self, head: RequestHead, length: int | None, varying: tuple[Header, ...]) -> None:
        """Take its head, checked, and let go of what the parser made of it: what is held in a stream counts."""
        self.head, self.length, self.varying = head, length, varying
        self.message, self.raw = None, b""
        self._connection.known = head

    def write(self, data: bytes) -> None:
        """Write bytes of an answer as they are. Does nothing if the caller has gone."""
        if not self.gone and self._transport is not None:
            self.answered = True
            self._transport.write(data)

    def body_taken(self) -> None:
        """The body is read to its end, and its reader needed no longer."""
        self.payload = self._connection.body_taken(self.payload)

    def invite_body(self) -> None:
        """Tell a caller who waits for it that the body is wanted (100 Continue)."""
        if not self.gone and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def watch(self, watcher: Watcher | None) -> None:
        """Tell `watcher` from now on how the caller is doing; None ends it."""
        self._connection.watcher = watcher
        if watcher is not None and self._connection.writing_paused:
            watcher.caller_slow()

    def abort(self) -> None:
        """Cut the connection, so that nobody can take it for the end of an answer.

        What was written before is sent if the caller reads it; then comes a reset, not an end.
        """
        self.keep_alive = False
        if not self.gone:
            self._connection.cut()

    def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Write a whole answer of our own. Does nothing if the caller has gone.

        Args:
            status: of HTTP.
            headers: without Content-Length and Connection, which are added here.
            body: left out for HEAD, 204 and 304.
        """
        self.write(whole_answer(status, headers, body, keep_alive=self.keep_alive, is_head=self._is_head))

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, in the shape that the door was given. Does nothing if the caller has gone."""
        if self.gone:
            return
        if refusal.closes:
            self.keep_alive = False
        desk = self._connection.desk
        desk.count_refusal(refusal)
        self.answer(*desk.shape(self._target, refusal))


def whole_answer(status: int, headers: Sequence[Header], body: bytes, *, keep_alive: bool, is_head: bool) -> bytes:
    """An answer of our own, as bytes."""
    lines = [f"HTTP/1.1 {status} {_reason_phrase(status)}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in headers]
    has_body = status not in {204, 304}
    if has_body:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    if has_body and not is_head:
        lines.append(body)
    return b"".join(lines)


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
