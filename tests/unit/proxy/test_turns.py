"""Reads that are worked on together, at the end of the turn of the event loop that brought them."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from sidecar.proxy.answer_framing import AnswerHead
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.turns import GATHERED_BYTES_MAX, Turns
from sidecar.proxy.upstream_connection import Break, UpstreamConnection
from sidecar.proxy.upstream_pool import Upstream, read_origin

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Reader:
    """Notes what it is given; b"bad" it cannot work on."""

    def __init__(self, seen: list[tuple[str, bytes]], name: str) -> None:
        self._seen = seen
        self._name = name
        self.given_up = False

    def take(self, data: bytes) -> None:
        if data == b"bad":
            raise RuntimeError("a fault of ours")
        self._seen.append((self._name, data))

    def give_up(self) -> None:
        self.given_up = True


class Wire(asyncio.Transport):
    """A transport that is cut or not."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: object) -> None:
        self.written.append(cast(bytes, data))

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0


class Sink:
    """Notes what it is told of an answer."""

    method = "POST"

    def __init__(self) -> None:
        self.told: list[object] = []

    def answer_began(self, head: AnswerHead) -> None:
        self.told.append(head.status)

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        self.told.append((piece, complete))

    def answer_broke(self, why: Break, detail: str) -> None:
        self.told.append(why)


async def test_reads_are_worked_on_in_their_order_when_the_turn_is_over() -> None:
    """Nothing at once; then all, each once, whoever's they are."""
    seen: list[tuple[str, bytes]] = []
    turns = Turns(asyncio.get_running_loop())
    one, other = Reader(seen, "one"), Reader(seen, "other")
    turns.add(one, b"1")
    turns.add(other, b"2")
    turns.add(one, b"3")
    assert seen == []
    await asyncio.sleep(0)
    assert seen == [("one", b"1"), ("other", b"2"), ("one", b"3")]
    await asyncio.sleep(0)
    turns.finish()
    assert len(seen) == 3


async def test_a_long_read_is_worked_on_at_once_behind_what_came_before() -> None:
    """F-50: more may be read of that socket in the same turn, unless its reader says stop."""
    seen: list[tuple[str, bytes]] = []
    turns = Turns(asyncio.get_running_loop())
    one, other = Reader(seen, "one"), Reader(seen, "other")
    turns.add(one, b"1")
    turns.add(other, b"x" * (GATHERED_BYTES_MAX + 1))
    assert [(name, len(data)) for name, data in seen] == [("one", 1), ("other", GATHERED_BYTES_MAX + 1)]
    turns.add(one, b"2")
    await asyncio.sleep(0)
    assert len(seen) == 3


async def test_a_reader_that_fails_is_given_up_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours in one connection cuts that one; the others' reads are worked on."""
    seen: list[tuple[str, bytes]] = []
    turns = Turns(asyncio.get_running_loop())
    one, other = Reader(seen, "one"), Reader(seen, "other")
    turns.add(one, b"bad")
    turns.add(other, b"2")
    turns.finish()
    assert (one.given_up, other.given_up, seen) == (True, False, [("other", b"2")])
    assert "read_failed" in caplog.text


def connection_in_a_pool() -> tuple[Upstream, UpstreamConnection, Wire, Turns]:
    """An upstream with one idle connection, whose reads are gathered."""
    turns = Turns(asyncio.get_running_loop())
    upstream = Upstream("x", read_origin("http://x"), sweep=Sweep())
    connection, wire = UpstreamConnection(upstream, turns), Wire()
    connection.connection_made(wire)
    upstream.take_back(connection)
    return upstream, connection, wire, turns


async def test_what_comes_behind_an_answer_becomes_nobodys_answer() -> None:
    """A second read of the same turn, behind a whole answer: the connection serves nobody any more."""
    upstream, connection, wire, turns = connection_in_a_pool()
    sink = Sink()
    assert upstream.take() is connection
    connection.send(sink, b"head", b"")
    connection.data_received(ANSWER)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake")
    turns.finish()
    assert sink.told == [200, (b"ok", True)]
    assert wire.aborted
    assert upstream.take() is None


async def test_what_an_idle_connection_says_is_seen_before_it_is_asked() -> None:
    """Nobody asked, so it does not wait for the turn's end, at which somebody may have asked."""
    upstream, connection, wire, _ = connection_in_a_pool()
    connection.data_received(ANSWER)
    assert wire.aborted
    assert upstream.take() is None


async def test_an_end_comes_behind_what_was_read() -> None:
    """A whole answer and the connection's end in one turn: the answer is whole."""
    upstream, connection, _, _ = connection_in_a_pool()
    sink = Sink()
    assert upstream.take() is connection
    connection.send(sink, b"head", b"")
    connection.data_received(ANSWER)
    connection.connection_lost(None)
    assert sink.told == [200, (b"ok", True)]
