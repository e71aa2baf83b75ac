"""A head that came before reads as it did; what differs from call to call is set apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.proxy.known_heads import (
    HEAD_BYTES_MAX,
    HEADS_MAX,
    HeadRead,
    KnownHeads,
    body_behind,
    plain_head_bytes,
    written_in,
)
from sidecar.proxy.refusals import Refused
from sidecar.proxy.request_filter import outgoing_head
from sidecar.proxy.request_head import LOOPBACK_HOSTS

HOST = (b"Host", b"localhost")
ACME = (b"Spend-Customer", b"acme")


def message(*headers: tuple[bytes, bytes], method: str = "POST", path: str = "/v1/x") -> Any:
    return SimpleNamespace(method=method, path=path, version=(1, 1), raw_headers=(HOST, *headers), should_close=False)


def sent(read: HeadRead) -> bytes:
    return outgoing_head(read.head, target="/v1/x", host=b"h", body_bytes=read.length or 0, varying=read.varying)


def test_the_same_lines_are_read_once_whatever_the_length_and_the_trace() -> None:
    """One checked head serves both; each call's own lines go out with it."""
    known = KnownHeads(LOOPBACK_HOSTS)
    first = known.read(message(ACME, (b"Content-Length", b"5"), (b"traceparent", b"00-1")))
    second = known.read(message(ACME, (b"Content-Length", b"77"), (b"traceparent", b"00-2")))
    assert second.head is first.head
    assert (first.length, second.length) == (5, 77)
    assert b"content-length" not in first.head.fields
    assert b"traceparent: 00-1\r\n" in sent(first)
    assert b"traceparent: 00-2\r\n" in sent(second)
    assert sent(second).endswith(b"Content-Length: 77\r\n\r\n")
    assert b"00-1" not in sent(second)
    assert b"acme" not in sent(second)


@pytest.mark.parametrize(
    "other", [message((b"Spend-Customer", b"acm")), message((b"spend-customer", b"acme")), message(ACME, path="/v1/y")]
)
def test_another_line_another_head(other: Any) -> None:
    """A byte that differs is another head, read and checked anew."""
    known = KnownHeads(LOOPBACK_HOSTS)
    first = known.read(message(ACME))
    assert known.read(other).head is not first.head
    assert known.read(message(ACME)).head is first.head


def test_a_head_with_a_virtual_key_is_remembered_once_the_key_is_known() -> None:
    """What is guessed drives out nothing; a key's being good is never remembered here."""
    good: set[bytes] = set()
    known = KnownHeads(LOOPBACK_HOSTS, good.__contains__)
    acme = known.read(message(ACME)).head
    keyed = message((b"x-api-key", b"sk-spend-abc"))
    assert known.read(keyed).head is not known.read(keyed).head
    for number in range(2 * HEADS_MAX):
        assert known.read(message((b"x-api-key", b"sk-spend-%d" % number))).head.key == b"sk-spend-%d" % number
    assert known.read(message(ACME)).head is acme
    good.add(b"sk-spend-abc")
    first = known.read(keyed).head
    assert first.key == b"sk-spend-abc"
    assert known.read(keyed).head is first
    bare = KnownHeads(LOOPBACK_HOSTS)
    assert bare.read(keyed).head is not bare.read(keyed).head


def test_a_refused_head_is_not_remembered() -> None:
    """It is refused each time, also for what is set apart."""
    known = KnownHeads(LOOPBACK_HOSTS)
    known.read(message(ACME))
    for bad in (message(ACME, ACME), message(ACME, (b"traceparent", b"\xff")), message((b"Host", b"evil.example"))):
        for _ in range(2):
            with pytest.raises(Refused):
                known.read(bad)


def test_what_a_connection_names_stays_behind_although_it_varies() -> None:
    """A head whose Connection names lines is read whole each time; one that says keep-alive is not."""
    plain = KnownHeads(LOOPBACK_HOSTS)
    alive = message((b"Connection", b"keep-alive"), (b"traceparent", b"1"))
    assert plain.read(alive).head is plain.read(alive).head
    known = KnownHeads(LOOPBACK_HOSTS)
    for trace in (b"1", b"2"):
        read = known.read(message((b"Connection", b"traceparent"), (b"traceparent", trace)))
        assert b"traceparent" not in sent(read).lower()


def test_a_length_in_any_spelling_is_told_each_time() -> None:
    """B-P37, B-P59: a body that is too large is refused by its length, also the second time."""
    known = KnownHeads(LOOPBACK_HOSTS)
    for _ in range(2):
        assert known.read(message(ACME, (b"CONTENT-LENGTH", b"999999999"))).length == 999_999_999


def test_what_is_remembered_is_bounded() -> None:
    """A caller who varies its lines does not fill the memory, nor does a long head."""
    known = KnownHeads(LOOPBACK_HOSTS)
    for number in range(HEADS_MAX + 5):
        known.read(message((b"X-N", b"%d" % number)))
    assert len(known._known) <= HEADS_MAX
    long = message((b"X-N", b"x" * HEAD_BYTES_MAX))
    assert known.read(long).head is not known.read(long).head


WRITTEN = (b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", b"\r\n\r\n")


@pytest.mark.parametrize(
    ("digits", "body", "whole"),
    [
        (b"3", b"abc", True),
        (b"12", b"twelve bytes", True),
        (b"3", b"abcd", False),
        (b"3", b"ab", False),
        (b"03", b"abc", False),
        (b"0", b"", False),
        (b"", b"", False),
        (b"+3", b"abc", False),
        (b"3 ", b"abc", False),
        ("\u0663".encode(), b"abc", False),
        (b"100000000", b"x" * 100_000_000, False),
    ],
)
def test_a_known_head_with_a_whole_body_is_taken_apart_by_its_bytes(digits: bytes, body: bytes, whole: bool) -> None:
    """Anything but plain digits and exactly so many bytes is left to the parser."""
    before, behind = WRITTEN
    assert body_behind(WRITTEN, before + digits + behind + body) == (body if whole else None)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/x HTTP/1.1\nHost: localhost\nContent-Length: 3\n\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: localhost\rContent-Length: 3\r\n\r\n",
        b"\r\nPOST /v1/x HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: loc",
    ],
)
def test_a_head_that_might_end_elsewhere_is_not_plain(head: bytes) -> None:
    """Where two parsers could disagree about its end, a head is not known by its bytes."""
    assert plain_head_bytes(head + b"abc") == 0


def test_a_head_is_written_around_the_one_length() -> None:
    """Two lengths, or one written otherwise, are left to the parser."""
    assert written_in(WRITTEN[0] + b"5" + WRITTEN[1]) == WRITTEN
    assert written_in(b"POST / HTTP/1.1\r\nContent-Length:5\r\n\r\n") is None
    assert written_in(b"POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n") is None
