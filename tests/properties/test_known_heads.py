"""What a head known by its bytes is taken for: what a parser makes of the same bytes, however they are cut."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sidecar.proxy import caller_connection
from sidecar.proxy.accept import AcceptOptions, Arrival, FrontDoor
from sidecar.proxy.caller_connection import CallerConnection
from sidecar.proxy.known_heads import body_behind
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.turns import Turns
from tests.support.refusals import plain_refusal

HEADS: Final = (
    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nSpend-Customer: acme\r\n\r\n",
    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nSpend-Customer: bolt\r\ncontent-length: %d\r\n\r\n",
    b"POST /v1/y HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
    b"POST /v1/y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 00%d\r\n\r\n",
    b"POST /v1/y HTTP/1.1\r\nHost: localhost\r\nContent-Length:%d\r\n\r\n",
    b"POST /v1/y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: %d\r\n\r\n",
    b"POST /v1/z HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n",
    b"POST /v1/z HTTP/1.1\r\nHost: localhost\r\nTraceparent: 00-1\r\nContent-Length: %d\r\n\r\n",
    b"\r\nPOST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nSpend-Customer: acme\r\n\r\n",
    b"POST /v1/z HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n",
)
FRAGMENTS: Final = (
    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nX-Fragment: ",
    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
    b"\r\n",
)
TURNS_EACH: Final = 8
"""Of the loop, between two reads: as many as the end of a refused body may take."""

Seen = tuple[str, dict[bytes, bytes], int | None, bytes, bool]


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """None are kept here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """It is never read too fast here."""

    def resume_reading(self) -> None:
        """Likewise."""


async def seen_in(reads: list[bytes], *, gathered: bool = False) -> tuple[list[Seen], bytes, bool]:
    """What the corridor gets to see of these reads, what is answered, and whether the connection ended."""
    seen: list[Seen] = []

    async def carry(arrival: Arrival) -> None:
        head = arrival.head
        seen.append((head.target, dict(head.fields), arrival.length, arrival.body, arrival.keep_alive))
        arrival.answer(200, (), b"")

    sweep, wire = Sweep(), Wire()
    door = FrontDoor(carry, shape=plain_refusal, sweep=sweep, options=AcceptOptions(linger_s=0))
    loop = asyncio.get_running_loop()
    connection = CallerConnection(door, loop, Turns(loop) if gathered else None)
    connection.connection_made(wire)
    for data in reads:
        if wire.closed:
            break
        connection.data_received(data)
        for _ in range(TURNS_EACH):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return seen, wire.written, wire.closed


def request(draw: Any) -> bytes:
    """A request of a head that comes often, or something that may leave a parser in the middle of one."""
    odd = draw(st.integers(0, 19))
    if odd == 0:
        fragment: bytes = draw(st.sampled_from(FRAGMENTS))
        return fragment
    head = HEADS[draw(st.integers(0, len(HEADS) - 1)) if odd < 4 else 0]
    body = draw(st.sampled_from((b"abc", b"{}", HEADS[0] % 3 + b"abc", b"\r\n\r\n", b"x" * 1000)))
    written: bytes = head % (len(body) + (draw(st.sampled_from((-1, 1))) if odd == 1 else 0)) + body
    return written


@st.composite
def cut_requests(draw: Any) -> list[bytes]:
    """Requests as they may be read: mostly one to a read, some together, some in pieces."""
    reads: list[bytes] = [b""]
    for number in range(draw(st.integers(4, 16))):
        data = request(draw)
        if number and draw(st.integers(0, 9)):
            reads.append(b"")
        at = draw(st.integers(0, len(data))) if draw(st.integers(0, 9)) == 0 else 0
        reads[-1] += data[:at]
        if at:
            reads.append(b"")
        reads[-1] += data[at:]
    return [read for read in reads if read]


@settings(max_examples=300)
@given(reads=cut_requests())
def test_known_by_its_bytes_it_is_what_a_parser_makes_of_it(reads: list[bytes]) -> None:
    """The same requests, bodies, answers and ends come of any reads, whether known heads are parsed or not."""
    taken = 0

    def counting(written: tuple[bytes, bytes], data: bytes) -> bytes | None:
        nonlocal taken
        body = body_behind(written, data)
        taken += body is not None
        return body

    with patch.object(caller_connection, "body_behind", counting):
        by_bytes = asyncio.run(seen_in(reads))
    with patch.object(caller_connection, "plain_head_bytes", lambda _: 0):
        parsed = asyncio.run(seen_in(reads))
    gathered = asyncio.run(seen_in(reads, gathered=True))
    event(f"known by their bytes: {taken}")
    assert by_bytes == parsed
    assert gathered == parsed


@pytest.mark.parametrize("fragment", [*FRAGMENTS, *(head % 3 + b"abc" for head in HEADS)])
@pytest.mark.parametrize("joined", [True, False], ids=["behind a request", "alone"])
def test_what_a_parser_is_in_the_middle_of_is_gone_on_with(fragment: bytes, joined: bool) -> None:
    """Behind a piece of a request the very bytes of a known head are that request's, and no new one."""
    known = HEADS[0] % 3 + b"abc"
    reads = [known, known, known, *([known + fragment] if joined else [fragment]), known, known]
    by_bytes = asyncio.run(seen_in(reads))
    with patch.object(caller_connection, "plain_head_bytes", lambda _: 0):
        assert by_bytes == asyncio.run(seen_in(reads))


def test_the_third_of_one_kind_is_not_parsed() -> None:
    """The first is read, the second is found to have come before, and from the third on its bytes are enough."""
    parsed: list[bytes] = []
    feed = caller_connection.CallerConnection._parse

    def counting(self: CallerConnection, parser: Any, data: bytes, raw: bytes) -> None:
        parsed.append(data)
        feed(self, parser, data, raw)

    bodies = [b"a" * size for size in (3, 4, 500, 60_000, 7)]
    with patch.object(caller_connection.CallerConnection, "_parse", counting):
        seen, _, closed = asyncio.run(seen_in([HEADS[0] % len(body) + body for body in bodies]))
    assert [body for *_, body, _ in seen] == bodies
    assert len({id(fields) for _, fields, *_ in seen}) == len(seen)
    assert len(parsed) == 2
    assert closed is False
