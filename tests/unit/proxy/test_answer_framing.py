"""An answer's head is read strictly and its body framed so that nobody can take its end for another."""

from __future__ import annotations

import pytest

from sidecar.errors import WireFormatError
from sidecar.proxy.answer_framing import AnswerHead, Framing, choose_framing, framing_lines, read_answer_head
from sidecar.proxy.refusals import Header


def head_of(*headers: Header, status: int = 200, version: str = "1.1", method: str = "POST") -> AnswerHead:
    """A head as the parser would give it."""
    return read_answer_head(status, b"Fine", version, headers, method=method)


def test_lines_pass_as_they_are() -> None:
    """Names, values (also beyond ASCII), order and repetition are the provider's."""
    headers = ((b"X-A", b"1"), (b"Set-Cookie", b"a"), (b"x-a", b"caf\xe9"), (b"Content-Type", b"text/event-stream"))
    head = head_of(*headers)
    assert head.lines == b"HTTP/1.1 200 Fine\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers)
    assert head.content_type == "text/event-stream"


@pytest.mark.parametrize(
    "name", [b"Connection", b"keep-alive", b"Trailer", b"Upgrade", b"Alt-Svc", b"Spend-Charge", b"SPEND-x", b"Proxy-X"]
)
def test_what_is_not_passed_on(name: bytes) -> None:
    """Neither what concerns the connection, nor what leads past us, nor what imitates us."""
    assert head_of((name, b"x")).lines == b"HTTP/1.1 200 Fine\r\n"


def test_a_browser_is_not_invited() -> None:
    """B-P70: the provider's CORS headers would let web pages read answers."""
    assert b"ccess" not in head_of((b"Access-Control-Allow-Origin", b"*")).lines


def test_names_in_connection_are_not_passed_on() -> None:
    """What the provider declares to be for that connection only."""
    head = head_of((b"X-Hop", b"1"), (b"X-Kept", b"2"), (b"Connection", b"close, x-hop"))
    assert head.lines == b"HTTP/1.1 200 Fine\r\nX-Kept: 2\r\n"


@pytest.mark.parametrize(
    ("headers", "changes"),
    [
        (((b"Content-Length", b"3"), (b"content-length", b"3")), {}),
        (((b"Content-Length", b"+3"),), {}),
        (((b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")), {}),
        (((b"Transfer-Encoding", b"gzip, chunked"),), {}),
        (((b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")), {}),
        (((b"Transfer-Encoding", b"identity"),), {}),
        (((b"Transfer-Encoding", b"chunked"),), {"version": "1.0"}),
        ((), {"version": "2.0"}),
        ((), {"status": 99}),
        ((), {"status": 101}),
        ((), {"status": 600}),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(headers: tuple[Header, ...], changes: dict[str, str | int]) -> None:
    """B-U14: framing that parties disagree on is how answers are smuggled."""
    with pytest.raises(WireFormatError):
        head_of(*headers, **changes)  # type: ignore[arg-type]


def test_a_header_that_is_given_twice_and_frames_nothing() -> None:
    """B-U14: the answer is billed already, and passes as it came. Codings are a list; one media type is read."""
    twice = ((b"Content-Type", b"application/json"), (b"content-type", b"text/html"))
    coded = ((b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"br"))
    head = head_of(*twice, *coded, LENGTH)
    assert (head.content_type, head.content_encoding, head.length) == ("application/json", "gzip, br", 5)
    assert head.lines == b"HTTP/1.1 200 Fine\r\n" + b"".join(b"%b: %b\r\n" % one for one in (*twice, *coded))
    hops = ((b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"X-Also", b"2"), (b"Connection", b"x-also"))
    assert head_of(*hops).lines == b"HTTP/1.1 200 Fine\r\n"


LENGTH = (b"Content-Length", b"5")
CHUNKED = (b"Transfer-Encoding", b"chunked")


@pytest.mark.parametrize(
    ("headers", "status", "method", "http_1_0", "keeps_length", "framing"),
    [
        ((LENGTH,), 200, "POST", False, True, Framing.LENGTH),
        ((LENGTH,), 200, "POST", False, False, Framing.CHUNKED),
        ((LENGTH,), 200, "POST", True, False, Framing.CLOSE),
        ((CHUNKED,), 200, "POST", False, True, Framing.CHUNKED),
        ((CHUNKED,), 200, "POST", True, True, Framing.CLOSE),
        ((), 200, "POST", False, True, Framing.CHUNKED),
        ((LENGTH,), 200, "HEAD", False, True, Framing.NONE),
        ((LENGTH,), 304, "GET", False, True, Framing.NONE),
        ((), 204, "POST", True, True, Framing.NONE),
    ],
)
def test_how_a_body_is_framed(
    headers: tuple[Header, ...], status: int, method: str, http_1_0: bool, keeps_length: bool, framing: Framing
) -> None:
    """A known length is kept if the body stays whole; else chunks, or the connection's end where there are none."""
    head = head_of(*headers, status=status, method=method)
    assert choose_framing(head, http_1_0=http_1_0, keeps_length=keeps_length) is framing


@pytest.mark.parametrize(
    ("status", "method", "framing", "keep_alive", "lines"),
    [
        (200, "POST", Framing.LENGTH, True, b"Content-Length: 5\r\n\r\n"),
        (200, "POST", Framing.LENGTH, False, b"Connection: close\r\nContent-Length: 5\r\n\r\n"),
        (200, "POST", Framing.CHUNKED, True, b"Transfer-Encoding: chunked\r\n\r\n"),
        (200, "POST", Framing.CLOSE, True, b"Connection: close\r\n\r\n"),
        (200, "HEAD", Framing.NONE, True, b"Content-Length: 5\r\n\r\n"),
        (304, "GET", Framing.NONE, True, b"\r\n"),
        (204, "POST", Framing.NONE, True, b"\r\n"),
    ],
)
def test_the_lines_that_frame(status: int, method: str, framing: Framing, keep_alive: bool, lines: bytes) -> None:
    """Never both a length and chunks; a length without a body only where it was asked for, by HEAD."""
    head = head_of(LENGTH, status=status, method=method)
    length = None if framing is Framing.CLOSE else head.length
    assert framing_lines(head, framing, length, keep_alive=keep_alive) == lines


def test_an_answer_without_framing_lasts_until_the_connection_ends() -> None:
    """Only if it has a body at all."""
    assert head_of().until_close
    assert not head_of(LENGTH).until_close
    assert not head_of(CHUNKED).until_close
    assert not head_of(status=204).until_close
    assert not head_of(method="HEAD").until_close
