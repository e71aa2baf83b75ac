"""What callers send that is hostile, slow or too much: a clear status, no traceback, no echo, no request sent on.

Ids of the bad-input catalogue stand beside the rows (B-P…).
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from sidecar.proxy.accept import AcceptOptions
from tests.support.forwarding import Rig, calling, on_both_loops, running_rig, until
from tests.support.scripted_provider import Script, ScriptedProvider

H = b"Host: localhost\r\n"
BODY = b"Content-Length: 2\r\n\r\n{}"

HOSTILE = {
    "B-P01 no host": (b"POST /v1/x HTTP/1.1\r\n" + BODY, 400),
    "B-P02 two hosts": (b"POST /v1/x HTTP/1.1\r\n" + H + H + BODY, 400),
    "B-P04 rebound name": (b"POST /v1/x HTTP/1.1\r\nHost: evil.example\r\n" + BODY, 421),
    "B-P05 host with fragment": (b"POST /v1/x HTTP/1.1\r\nHost: localhost/#@evil\r\n" + BODY, 400),
    "B-P07 host with user": (b"POST /v1/x HTTP/1.1\r\nHost: u:p@localhost\r\n" + BODY, 400),
    "B-P07 host with space": (b"POST /v1/x HTTP/1.1\r\nHost: a b\r\n" + BODY, 400),
    "B-P08 absolute form": (b"POST http://evil/x HTTP/1.1\r\n" + H + BODY, 400),
    "B-P10 asterisk": (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", 400),
    "B-P11 HTTP/2.0": (b"POST /v1/x HTTP/2.0\r\n" + H + BODY, 505),
    "B-P11 HTTP/0.9": (b"POST /v1/x HTTP/0.9\r\n" + H + BODY, 505),
    "B-P11 HTTP/1.9": (b"POST /v1/x HTTP/1.9\r\n" + H + BODY, 505),
    "B-P13 HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "B-P13 TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "B-P14 length and chunks": (
        b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "B-P16 signed length": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length: +2\r\n\r\n{}", 400),
    "B-P16 long length": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 23 + b"\r\n\r\n", 400),
    "B-P17 space before colon": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length : 2\r\n\r\n{}", 400),
    "B-P19 gzip, chunked": (
        b"POST /v1/x HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    "B-P20 chunks in 1.0": (b"POST /v1/x HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "B-P28 folded": (b"POST /v1/x HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n" + BODY, 400),
    "B-P28 NUL": (b"POST /v1/x HTTP/1.1\r\n" + H + b"X: a\x00b\r\n" + BODY, 400),
    "B-P29 beyond ASCII": (b"POST /v1/x HTTP/1.1\r\n" + H + b"X: \xff\xfe\r\n" + BODY, 400),
    "B-P31 underscore twin": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Spend_Customer: acme\r\n" + BODY, 400),
    "B-P32 two keys": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Authorization: a\r\nAuthorization: b\r\n" + BODY, 400),
    "B-P32 two customers": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Spend-Customer: a\r\nspend-customer: b\r\n" + BODY, 400),
    "B-P34 dots": (b"POST /v1/../admin HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 escaped dots": (b"POST /v1/%2e%2e/admin HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 two slashes": (b"POST //evil/x HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 escaped slash": (b"POST /v1%2fchat/completions HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 escaped letter": (b"POST /v1/%63hat/completions HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 NUL": (b"POST /a%00b HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 backslash": (b"POST /\\evil HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 half escape": (b"POST /%zz HTTP/1.1\r\n" + H + BODY, 400),
    "B-P34 fragment": (b"POST /a?#frag HTTP/1.1\r\n" + H + BODY, 400),
    "B-P35 raw byte in path": (b"POST /\xff HTTP/1.1\r\n" + H + BODY, 400),
    "B-P38 other expectation": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Expect: junk\r\n" + BODY, 417),
    "B-P62 coded body": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Encoding: gzip\r\n" + BODY, 415),
    "B-P68 GET with body": (b"GET /v1/models HTTP/1.1\r\n" + H + BODY, 400),
    "B-P70 preflight": (
        b"OPTIONS /v1/x HTTP/1.1\r\n" + H + b"Access-Control-Request-Method: POST\r\n\r\n",
        403,
    ),
    "B-P70 web page": (b"POST /v1/x HTTP/1.1\r\n" + H + b"Origin: https://evil\r\n" + BODY, 403),
    "CONNECT": (b"CONNECT evil:443 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "websocket": (b"GET /v1/realtime HTTP/1.1\r\n" + H + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    "head too large": (b"POST /v1/x HTTP/1.1\r\n" + H + b"X: " + b"a" * 9000 + b"\r\n" + BODY, 431),
    "too many headers": (b"POST /v1/x HTTP/1.1\r\n" + H + b"X: a\r\n" * 200 + BODY, 431),
}


@pytest.mark.parametrize("name", HOSTILE)
@on_both_loops
async def test_hostile_framing_is_refused(
    script: ScriptedProvider, rig: Rig, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One answer with the right status, one log line, no echo; the provider hears nothing of it."""
    wire, status = HOSTILE[name]
    with caplog.at_level(logging.INFO):
        async with calling(rig.port) as caller:
            caller.send(wire)
            answer = await caller.answer()
    assert answer.status == status
    assert b"evil" not in answer.body
    assert b"admin" not in answer.body
    assert script.requests == []
    assert sum(rig.door.refused.values()) == 1
    ours = [record for record in caplog.records if record.name.startswith(("sidecar", "aiohttp"))]
    assert [record.getMessage().split(" ")[0] for record in ours] == ["request_refused"]
    assert all(record.exc_info is None for record in ours)


@on_both_loops
async def test_a_flood_of_refusals_is_not_a_flood_of_lines(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Lines about refusals are bounded per second; the count goes on."""
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            async with calling(rig.port) as caller:
                caller.send(b"nonsense\r\n\r\n")
                await caller.answer()
    assert sum(rig.door.refused.values()) == 30
    assert len(caplog.records) <= 15


@on_both_loops
async def test_a_declared_body_over_the_bound_is_not_invited(script: ScriptedProvider) -> None:
    """B-P37, F-51: 413 by the length alone, and no 100 Continue before it."""
    options = AcceptOptions(max_body_bytes=1000, linger_s=0.05)
    async with running_rig(script.url, accept=options) as rig, calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n")
        assert (await caller.answer()).status == 413
        await caller.rest()
    assert script.requests == []


@on_both_loops
async def test_the_bound_of_a_body_is_exact(script: ScriptedProvider) -> None:
    """B-P59: at the bound it passes, one byte more is 413, whatever the framing; endless chunks end at the bound."""
    async with running_rig(script.url, accept=AcceptOptions(max_body_bytes=100_000)) as rig:
        for size, status in ((100_000, 200), (100_001, 413)):
            async with calling(rig.port) as caller:
                caller.post(b"x" * size)
                assert (await caller.answer()).status == status
            async with calling(rig.port) as caller:
                head = b"POST /v1/x HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
                caller.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
                assert (await caller.answer()).status == status
        async with calling(rig.port) as caller:
            caller.send(head)
            for _ in range(200):
                caller.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            assert (await caller.answer()).status == 413
        await until(lambda: rig.door.active == 0)
        assert rig.door.held_bytes == 0
    assert [len(request.body) for request in script.requests] == [100_000, 100_000]


@on_both_loops
async def test_an_expected_body_is_invited_and_taken(script: ScriptedProvider, rig: Rig) -> None:
    """100 Continue comes before the body, and does not go out to the provider."""
    async with calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        status, _, _ = await caller.head()
        assert status == 100
        caller.send(b"{}")
        assert (await caller.answer()).status == 200
    assert "expect" not in script.requests[0].headers


@pytest.mark.parametrize("pace", ["deadline", "crawl"])
@on_both_loops
async def test_a_slow_body_is_given_up(script: ScriptedProvider, pace: str) -> None:
    """B-P26, F-49: silence ends at the deadline, a trickle by its rate; both are 408 and closed."""
    options = {
        "deadline": AcceptOptions(body_timeout_s=0.15, body_grace_s=60.0),
        "crawl": AcceptOptions(body_timeout_s=60.0, body_grace_s=0.1, body_min_bytes_per_s=1000, linger_s=0.1),
    }
    async with running_rig(script.url, accept=options[pace]) as rig, calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length: 100\r\n\r\nab")
        answer = await caller.answer()
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
    assert script.requests == []


@on_both_loops
async def test_a_slow_head_is_given_up(script: ScriptedProvider) -> None:
    """F-48: a head that does not end is 408, however many bytes of it trickle in."""
    async with running_rig(script.url, accept=AcceptOptions(head_timeout_s=0.15)) as rig, calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).status == 200
        caller.send(b"POST /v1/x HTTP/1.1\r\n")
        for _ in range(5):
            await asyncio.sleep(0.02)
            caller.send(b"X-Drip: 1\r\n")
        assert (await caller.answer()).status == 408
        assert await caller.rest() == (b"", True)


@on_both_loops
async def test_an_idle_connection_is_closed(script: ScriptedProvider) -> None:
    """A connection without requests does not stand for ever."""
    async with running_rig(script.url, accept=AcceptOptions(keepalive_s=0.1)) as rig, calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).status == 200
        assert await caller.rest() == (b"", True)


@on_both_loops
async def test_too_much_at_once_is_turned_away(script: ScriptedProvider) -> None:
    """F-52: over the caps of requests, connections and held bodies it is 503, and the others go on."""
    gate = asyncio.Event()
    script.otherwise(Script.json({}, gate=gate))
    options = AcceptOptions(max_requests=2, max_connections=4, max_held_body_bytes=300_000)
    async with (
        running_rig(script.url, accept=options) as rig,
        calling(rig.port) as one,
        calling(rig.port) as two,
        calling(rig.port) as three,
        calling(rig.port) as four,
    ):
        one.post()
        two.post()
        await until(lambda: rig.door.active == 2)
        three.post()
        assert (await three.answer()).status == 503
        async with calling(rig.port) as fifth:
            assert (await fifth.answer()).status == 503
        gate.set()
        assert (await one.answer()).status == 200
        assert (await two.answer()).status == 200
        four.post(b"x" * 3_000_000)
        assert (await four.answer()).status == 503


@on_both_loops
async def test_a_caller_who_leaves_in_mid_body_costs_nothing(
    script: ScriptedProvider, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent on, nothing is settled, nothing is logged as a fault, nothing is held."""
    async with calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.1\r\n" + H + b"Content-Length: 100000\r\n\r\nab")
        await until(lambda: rig.door.active == 1)
        caller.reset()
    await until(lambda: rig.door.active == 0)
    assert (script.requests, rig.outcomes, rig.door.held_bytes) == ([], [], 0)
    assert not rig.door.connections
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
