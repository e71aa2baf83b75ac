"""What goes out to the provider, and what stays behind."""

from __future__ import annotations

import pytest

from sidecar.proxy.request_filter import outgoing_head
from sidecar.proxy.request_head import LOOPBACK_HOSTS, RequestHead, read_head


def head_of(*headers: tuple[bytes, bytes], method: str = "POST") -> RequestHead:
    """A checked head with these headers and a host."""
    return read_head(method, "/v1/x", (1, 1), ((b"Host", b"localhost"), *headers), hosts=LOOPBACK_HOSTS)


def lines_out(*headers: tuple[bytes, bytes], injected: bytes | None = None, target: str = "/v1/x") -> list[bytes]:
    """The outgoing lines, without what every head has."""
    out = outgoing_head(head_of(*headers), target=target, host=b"api.example", body_bytes=2, injected=injected)
    assert out.endswith(b"\r\nAccept-Encoding: identity\r\nContent-Length: 2\r\n\r\n")
    lines = out.split(b"\r\n")[:-4]
    assert lines[1] == b"Host: api.example"
    return [lines[0], *lines[2:]]


REQUEST_LINE = b"POST /v1/x HTTP/1.1"


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Cookie",
        b"Forwarded",
        b"X-Forwarded-For",
        b"x-FORWARDED-host",
        b"X-Real-IP",
        b"X-HTTP-Method-Override",
        b"X-Original-URL",
        b"x-rewrite-url",
        b"X-Goog-FieldMask",
        b"Accept-Encoding",
        b"Spend-Customer",
        b"spend-anything-new",
        b"SPEND-PATH",
    ],
)
def test_what_stays_behind(name: bytes) -> None:
    """Hop-by-hop headers, other proxies' words, cookies, who is spending, other paths, masks do not leave (B-A28)."""
    assert lines_out((name, b"x")) == [REQUEST_LINE]


def test_the_rest_passes_byte_for_byte() -> None:
    """Names keep their spelling, values their spaces, repeated ones their order."""
    headers = ((b"X-b", b"1"), (b"anthropic-Version", b"2023-06-01"), (b"X-b", b"a  b"), (b"Spendthrift", b"y"))
    assert lines_out(*headers) == [REQUEST_LINE, *(b"%b: %b" % header for header in headers)]


def test_names_in_connection_stay_behind() -> None:
    """What the caller declares to be for this connection only is."""
    assert lines_out((b"Connection", b"keep-alive, X-Hop ,x-other"), (b"x-hop", b"1"), (b"X-Other", b"2")) == [
        REQUEST_LINE
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"spend.customer=acme", None),
        (b"a=1,spend.customer=acme,b=2;p=q", b"a=1,b=2;p=q"),
        (b" Spend.Path = x , a=1", b"a=1"),
        (b"spendy=1", b"spendy=1"),
        (b"a=spend.customer", b"a=spend.customer"),
        (b",", None),
    ],
)
def test_baggage_loses_only_our_members(sent: bytes, kept: bytes | None) -> None:
    """Tracing's own members go on; the header goes when nothing is left of it."""
    assert lines_out((b"baggage", sent))[1:] == ([b"baggage: " + kept] if kept else [])


def test_the_callers_key_passes() -> None:
    """Without injection the provider gets the caller's own key."""
    assert lines_out((b"Authorization", b"Bearer sk-own"))[1:] == [b"Authorization: Bearer sk-own"]


@pytest.mark.parametrize("name", [b"Authorization", b"x-api-key", b"X-Goog-Api-Key", b"Api-Key"])
def test_an_injected_key_replaces_every_key_of_the_caller(name: bytes) -> None:
    """B-P47: whatever header the caller's key stands in, it does not go out."""
    injected = b"Authorization: Bearer sk-real\r\n"
    assert lines_out((name, b"sk-own"), injected=injected)[1:] == [injected[:-2]]


def test_a_virtual_key_never_goes_out() -> None:
    """It is worth something here only; a provider has no business with it."""
    assert lines_out((b"Authorization", b"Bearer sk-spend-abc"))[1:] == []
    assert lines_out(target="/v1/x?key=sk-spend-abc&alt=sse") == [b"POST /v1/x?alt=sse HTTP/1.1"]
    assert lines_out(target="/v1/x?sk-spend-abc&alt=sse") == [b"POST /v1/x?alt=sse HTTP/1.1"]
    assert lines_out(target="/v1/x?sk%2Dspend-abc=1") == [REQUEST_LINE]


@pytest.mark.parametrize(
    "line",
    [(b"X-Trace", b"sk-spend-abc"), (b"User-Agent", b"me sk-spend-abc/1"), (b"Idempotency-Key", b"sk-spend-abc"),
     (b"baggage", b"a=1,k=sk-spend-abc"), (b"sk-spend-abc", b"1"), (b"X-SK-SPEND-abc", b"1"), (b"Spend-Key", b"abc"),
     (b"x-api-key", b"sk-spend-abc")],
)  # fmt: skip
@pytest.mark.parametrize("injected", [None, b"Authorization: Bearer sk-real\r\n"])
def test_what_looks_like_a_virtual_key_leaves_in_no_line(line: tuple[bytes, bytes], injected: bytes | None) -> None:
    """Whatever header it was put into by mistake, and whatever a header is called; the rest goes out."""
    kept = [b"X-Kept: 1", *([injected[:-2]] if injected else [])]
    assert lines_out(line, (b"X-Kept", b"1"), injected=injected) == [REQUEST_LINE, *kept]


def test_nor_in_a_line_that_is_set_apart() -> None:
    """A request's own id or trace (`known_heads`)."""
    varying = [(b"X-Request-Id", b"sk-spend-abc"), (b"traceparent", b"00-1")]
    out = outgoing_head(head_of(), target="/v1/x", host=b"h", body_bytes=2, varying=varying)
    assert b"traceparent: 00-1\r\n" in out
    assert b"sk-spend" not in out


def test_a_key_in_the_query_goes_only_without_injection() -> None:
    """Gemini takes keys there."""
    assert lines_out(target="/v1/x?key=own")[0] == b"POST /v1/x?key=own HTTP/1.1"
    injected = b"x-goog-api-key: real\r\n"
    assert lines_out(target="/v1/x?alt=sse&key=own&monkey=1", injected=injected)[0] == (
        b"POST /v1/x?alt=sse&monkey=1 HTTP/1.1"
    )
    assert lines_out(target="/v1/x?key=own", injected=injected)[0] == REQUEST_LINE


def test_a_get_has_no_length() -> None:
    """A length of zero on a GET makes some servers wait or refuse."""
    out = outgoing_head(head_of(method="GET"), target="/v1/models", host=b"h", body_bytes=0)
    assert b"ontent-" not in out
    assert out.endswith(b"Accept-Encoding: identity\r\n\r\n")
