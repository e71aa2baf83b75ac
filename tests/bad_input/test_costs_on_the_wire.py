"""What a sender can make the running product spend: 100 times its bytes in memory and 100 times its CPU, at most.

Each case goes over real sockets, to the proxy's port or from a provider. Memory is the process's highest
since just before, processor time is the kernel's count of the process against that of everything on the
other side (test, caller and provider). Neither depends on how long a case takes on a busy machine.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bad_input.conftest import Started
from tests.support.besieged import GOOD_BODY, GOOD_MESSAGE, MESSAGES, Besieged, request
from tests.support.corpus import expand
from tests.support.scripted_provider import Script

MOST_TIMES = 100
MEGABYTE = 1_000_000
GRANULE_S = 0.01
"""The kernel counts no finer, so whoever sends is taken to have spent that at least."""

PAGES_BYTES = 4 * 2**20
"""What an allocator takes at once; a case of a few kilobytes is granted so much."""

QUIET_S = 0.5
"""So long without a byte in either direction, and a case is over."""


@pytest.fixture(scope="module")
def siege(started: Started) -> Iterator[Besieged]:
    """The product; a warm one, whose caches and arenas are there."""
    with started(SPEND_DOOR__LINGER_S="0.2", SPEND_DOOR__HEAD_TIMEOUT_S="1", SPEND_DOOR__BODY_TIMEOUT_S="2") as siege:
        for _ in range(20):
            assert siege.post().status == 200
        yield siege


class Costs:
    """What the product has spent since this was made, and what we have."""

    def __init__(self, siege: Besieged) -> None:
        assert siege.product.process is not None
        self._of = Path(f"/proc/{siege.product.process.pid}")
        with contextlib.suppress(PermissionError):  # another's: then what was the highest before is not counted
            (self._of / "clear_refs").write_text("5")  # the highest so far is what it is now
        self._highest = self._status("VmHWM")
        self._spent_s = self._cpu_s()
        self._ours_s = time.process_time()

    def assert_bounded(self, sent: int) -> None:
        """Both bounds, for who sent so many bytes."""
        ours_s = max(time.process_time() - self._ours_s, GRANULE_S)
        spent_s = self._cpu_s() - self._spent_s
        grown = self._status("VmHWM") - self._highest
        assert grown <= max(MOST_TIMES * sent, PAGES_BYTES), f"{grown} bytes for {sent}"
        assert spent_s <= MOST_TIMES * ours_s, f"{spent_s} s for {ours_s} s"

    def _status(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._of / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def _cpu_s(self) -> float:
        fields = (self._of / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exchange(siege: Besieged, wire: bytes, segment_bytes: int) -> int:
    """Send so much at a time, reading what comes, until nothing moves; how many bytes went."""
    address = urlsplit(siege.product.proxy)
    at = 0
    with socket.create_connection((address.hostname, address.port)) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.setblocking(False)
        while True:
            wanted = [caller] if at < len(wire) else []
            readable, writable, _ = select.select([caller], wanted, [], QUIET_S if at < len(wire) else 1.5)
            try:
                if readable and not caller.recv(2**20):
                    return at
                if writable:
                    at += caller.send(wire[at : at + segment_bytes])
            except ConnectionError:
                return at
            if not readable and not writable:
                return at


START = expand("%LINE%%HOST%%WHO%")
CHUNKED = START + expand("%CHUNKED%\r\n")
GOOD = expand("%GOOD%\r\n%BODY%")
NOWHERE = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"

WIRES: dict[str, tuple[bytes, int]] = {
    "chunks of one byte": (CHUNKED + b"1\r\na\r\n" * (MEGABYTE // 6), 65_536),
    "chunks of five bytes": (CHUNKED + b"5\r\naaaaa\r\n" * (MEGABYTE // 10) + b"0\r\n\r\n", 65_536),
    "chunks with long extensions": (CHUNKED + (b"10;a=" + b"b" * 16 + b"\r\n" + b"a" * 16 + b"\r\n") * 20_000, 65_536),
    "one large chunk": (CHUNKED + b"%x\r\n" % MEGABYTE + b"a" * MEGABYTE + b"\r\n0\r\n\r\n", 65_536),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n" + b"X: a\r\n" * (MEGABYTE // 6), 65_536),
    "a body byte by byte": (START + b"Content-Length: 10000\r\n\r\n" + b" " * 10_000, 1),
    "chunks byte by byte": (CHUNKED + b"5\r\naaaaa\r\n" * 1000 + b"0\r\n\r\n", 1),
    "a head byte by byte": (START + b"X: " + b"a" * 6000 + b"\r\n" + expand("%LEN%\r\n%BODY%"), 1),
    "many heads of 95 lines": (
        (START + b"".join(b"X-%d: a\r\n" % n for n in range(95)) + expand("%LEN%\r\n%BODY%")) * 100, 65_536,
    ),
    "lines that are each new": (
        b"".join(START + b"".join(b"Y-%d-%d: a\r\n" % (k, n) for n in range(90)) + expand("%LEN%\r\n%BODY%")
                 for k in range(100)), 65_536,
    ),
    "long lines": (
        (START + b"".join(b"X-%d: " % n + b"a" * 7000 + b"\r\n" for n in range(8)) + expand("%LEN%\r\n%BODY%")) * 15,
        65_536,
    ),
    "a head without end": (START + b"X: a\r\n" * (MEGABYTE // 6), 65_536),
    "one line without end": (START + b"X: " + b"a" * MEGABYTE, 65_536),
    "empty lines": (b"\r\n" * (MEGABYTE // 2), 65_536),
    "many good requests at once": (GOOD * 400, 65_536),
    "many requests for nothing at once": (NOWHERE * 5000, 65_536),
    "many bodies that are none at once": ((START + b"Content-Length: 1\r\n\r\n{") * 2000, 65_536),
    "targets that are each new": (
        b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n for n in range(3000)), 65_536,
    ),
    "customers that are each new": (b"".join(request(who=f"c{n}") for n in range(200)), 65_536),
    "identities in long baggage": (
        (START + b"baggage: " + b",".join(b"k%d=v" % n for n in range(900)) + b"\r\n" + expand("%LEN%\r\n%BODY%")) * 20,
        65_536,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WIRES)
def test_a_caller_cannot_make_it_spend(siege: Besieged, kind: str) -> None:
    """Framing, heads, segments and pipelining of the costliest shapes."""
    wire, segment_bytes = WIRES[kind]
    costs = Costs(siege)
    sent = exchange(siege, wire, segment_bytes)
    costs.assert_bounded(max(sent, len(wire) // 100))
    assert siege.post().status == 200  # whether who sends on and on gets to see a refusal is up to the kernel


def test_connections_that_say_little(siege: Besieged) -> None:
    """A connection for each request, and many that are open and say nothing."""
    costs = Costs(siege)
    address = urlsplit(siege.product.proxy)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
    for _ in range(100):
        exchange(siege, NOWHERE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 65_536)
    for connection in idle:
        connection.close()
    costs.assert_bounded(100 * len(NOWHERE) + 200 * 2000)  # a connection costs its opener a kilobyte or two as well


STREAMING = GOOD_BODY[:-1] + b',"stream":true}'
MESSAGE_STREAMING = GOOD_MESSAGE[:-1] + b',"stream":true}'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n'

STREAMS: dict[str, bytes] = {
    "empty lines": b"data: {}\n\n" + b"\n" * MEGABYTE,
    "returns": b"data: {}\r\r" + b"\r" * MEGABYTE,
    "comments": b":\n\n" * (MEGABYTE // 3),
    "data of nothing": b"data:\n\n" * (MEGABYTE // 7),
    "data lines of one event": b"data: x\n" * (MEGABYTE // 8),
    "words that are wanted": b'data: "error""usage":{"message_"\n\n' * (MEGABYTE // 34),
    "usage again and again": USAGE * (MEGABYTE // len(USAGE)),
    "usage without end": b'data: {"usage":{' * (MEGABYTE // 16),
    "one event without end": b"data: " + b"x" * MEGABYTE,
    "short texts": b'data: {"content":"a"}\n\n' * (MEGABYTE // 23),
    "backslashes": b'data: {"content":"' + b"\\a" * (MEGABYTE // 2),
    "a JSON list": b"[" + b"[]," * (MEGABYTE // 3),
    "a JSON object": b'{"usage":' + b"[" * MEGABYTE,
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(MEGABYTE // 10)) + b"}",
    "deltas of a message": b'event: message_delta\ndata: {"type":"message_delta","usage":{}}\n\n' * (MEGABYTE // 66),
    "a bomb": gzip.compress(b"data: {}\n\n" * MEGABYTE),
}


def in_chunks(stream: bytes, size: int) -> Script:
    """An answer whose chunks have so many bytes."""
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Script.raw(head + framed + b"0\r\n\r\n")


@pytest.mark.parametrize("body", [STREAMING, MESSAGE_STREAMING], ids=["openai", "anthropic"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_provider_cannot_make_it_spend(siege: Besieged, kind: str, body: bytes) -> None:
    """A stream of the costliest shapes, to a caller who did not ask for its usage."""
    stream = STREAMS[kind]
    siege.provider.then(in_chunks(stream, 65_536))
    costs = Costs(siege)
    answer = siege.post(body, target=MESSAGES if body == MESSAGE_STREAMING else "/v1/chat/completions")
    costs.assert_bounded(len(stream))
    assert (answer.status, answer.complete) == (200, True)


FRAMED: dict[str, Callable[[], Script]] = {
    "chunks of one byte": lambda: in_chunks(b"data: x\n\n" * 5000, 1),
    "chunks of nine bytes": lambda: in_chunks(b"data: x\n\n" * 20_000, 9),
    "extensions": lambda: Script.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;a=" + b"b" * MEGABYTE + b"\r\na\r\n0\r\n\r\n"
    ),
    "trailers": lambda: Script.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"X: a\r\n" * 100_000 + b"\r\n"
    ),
    "a head without end": lambda: Script.raw(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (MEGABYTE // 6)),
    "one line without end": lambda: Script.raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MEGABYTE),
    "a reason without end": lambda: Script.raw(b"HTTP/1.1 200 " + b"a" * MEGABYTE),
    "interim answers": lambda: Script.raw(b"HTTP/1.1 103 Early Hints\r\nX: a\r\n\r\n" * 20_000),
    "answers behind the answer": lambda: Script.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 10_000),
}


@pytest.mark.parametrize("kind", FRAMED)
def test_nor_by_how_it_frames_an_answer(siege: Besieged, kind: str) -> None:
    """Small chunks, what stands between and behind them, and heads that do not end."""
    script = FRAMED[kind]()
    siege.provider.then(script)
    costs = Costs(siege)
    answer = siege.post(STREAMING)
    costs.assert_bounded(sum(len(piece) for piece in script.wire or () if isinstance(piece, bytes)))
    assert answer.status in {200, 502}
