"""An answer passes through the two doors: unchanged, framed anew, measured, and ended only by its end.

The provider is scripted byte by byte and the callers are raw sockets, so that nothing in between
repairs what would be wrong.
"""

from __future__ import annotations

import asyncio

import pytest

from sidecar.providers.dialect import Ending
from tests.support.forwarding import Rig, calling, on_both_loops
from tests.support.scripted_provider import Script, ScriptedProvider, Wait

EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"]


@on_both_loops
async def test_a_request_goes_out_as_it_came(script: ScriptedProvider, rig: Rig) -> None:
    """Target and body are the caller's bytes; the head lost what concerns us or the connection."""
    body = b'{"model":  "m" }\n'
    async with calling(rig.port) as caller:
        caller.post(
            body,
            "X-Custom: Kept As Is",
            "Spend-Customer: acme",
            "baggage: a=1,spend.customer=acme, b=2",
            "Cookie: c",
            "Accept-Encoding: gzip",
            "Authorization: Bearer sk-own",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            target="/v1/chat/completions?a=%20b&c",
        )
        await caller.answer()
    (request,) = script.requests
    assert request.target == "/v1/chat/completions?a=%20b&c"
    assert request.body == body
    assert request.headers == {
        "host": f"localhost:{script.port}",
        "x-custom": "Kept As Is",
        "baggage": "a=1,b=2",
        "authorization": "Bearer sk-own",
        "accept-encoding": "identity",
        "content-length": str(len(body)),
    }


@on_both_loops
async def test_a_chunked_request_goes_out_with_its_length(script: ScriptedProvider, rig: Rig) -> None:
    """The caller's framing is not passed on, nor its trailers."""
    async with calling(rig.port) as caller:
        caller.send(
            b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n"
        )
        assert (await caller.answer()).status == 200
    assert script.requests[0].body == b"abcdefg"
    assert script.requests[0].headers["content-length"] == "7"
    assert "transfer-encoding" not in script.requests[0].headers
    assert "x-t" not in script.requests[0].headers


# -- what comes back


@on_both_loops
async def test_an_answer_with_a_length_keeps_it(script: ScriptedProvider, rig: Rig) -> None:
    """Status, headers and body as sent; what concerns the connection or imitates us is gone, ours is there."""
    headers = (("X-Request-Id", "r1"), ("Spend-Charge", "0"), ("Keep-Alive", "timeout=5"), ("X-Hop", "1"))
    script.then(Script(429, (*headers, ("Connection", "keep-alive, x-hop")), (b"slow down",)))
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
    assert (answer.status, answer.body, answer.complete) == (429, b"slow down", True)
    assert answer.raw_head.startswith(b"HTTP/1.1 429 Scripted\r\n")
    assert answer.headers == {"x-request-id": "r1", "content-length": "9", "spend-origin": "provider"}
    outcome = await rig.outcome()
    assert (outcome.ending, outcome.status, outcome.answer_bytes) == (Ending.COMPLETE, 429, 9)


@on_both_loops
async def test_a_stream_passes_piece_by_piece(script: ScriptedProvider, rig: Rig) -> None:
    """Each piece reaches the caller before the next is sent: nothing waits for more."""
    gate = asyncio.Event()
    script.then(Script.stream([EVENTS[0], Wait(0.15), *EVENTS[1:]], gate=gate))
    async with calling(rig.port) as caller:
        caller.post()
        gate.set()
        status, headers, _ = await caller.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        first = await caller.reader.readexactly(len(b"b\r\n" + EVENTS[0] + b"\r\n"))
        assert first == b"b\r\n" + EVENTS[0] + b"\r\n"
        assert not rig.outcomes
        rest, _ = await asyncio.gather(caller.reader.readuntil(b"0\r\n\r\n"), rig.outcome())
    assert b"two" in rest
    assert rig.tape().seen == b"".join(EVENTS)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@on_both_loops
async def test_every_framing_arrives_whole(script: ScriptedProvider, rig: Rig, framing: str) -> None:
    """However the provider frames its body, the caller can tell its end; a close-delimited one comes in chunks."""
    pieces = tuple(bytes([65 + n]) * 1000 for n in range(20))
    script.otherwise(Script(headers=(), pieces=(*pieces[:10], Wait(0.02), *pieces[10:]), framing=framing))  # type: ignore[arg-type]
    async with calling(rig.port) as caller:
        for _ in range(2):
            caller.post()
            answer = await caller.answer()
            assert answer.complete
            assert answer.body == b"".join(pieces)
            assert ("content-length" in answer.headers) == (framing == "length")
            assert "connection" not in answer.headers
    assert script.connections == (2 if framing == "close" else 1)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@on_both_loops
async def test_http_1_0_gets_no_chunks(script: ScriptedProvider, rig: Rig, framing: str) -> None:
    """A caller of HTTP/1.0 is told the end by a length or by the connection's clean end."""
    script.then(Script(headers=(), pieces=(b"abc", Wait(0.02), b"def"), framing=framing))  # type: ignore[arg-type]
    async with calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        answer = await caller.answer()
        assert (answer.body, answer.complete) == (b"abcdef", True)
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert await caller.rest() == (b"", True)


@on_both_loops
async def test_answers_without_a_body(script: ScriptedProvider, rig: Rig) -> None:
    """HEAD keeps the length it asked for; 204 and 304 have none; none of them leaves the caller waiting."""
    script.then(
        Script.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Wait(None), keeps_open=True),
        Script(204, (), (), "none"),
        Script.raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Wait(None), keeps_open=True),
    )
    async with calling(rig.port) as caller:
        caller.send(b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await caller.answer("HEAD")
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        for status in (204, 304):
            caller.post()
            answer = await caller.answer()
            assert answer.status == status
            assert "content-length" not in answer.headers
            assert "transfer-encoding" not in answer.headers
        caller.post()
        assert (await caller.answer()).body == b'{"ok": true}'
    assert [outcome.ending for outcome in rig.outcomes] == [Ending.COMPLETE] * 4


@on_both_loops
async def test_interim_answers_are_dropped(script: ScriptedProvider, rig: Rig) -> None:
    """1xx answers are not for the caller, and not endless (B-U16)."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    script.then(Script.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok, keeps_open=True))
    script.then(Script.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + ok))
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert "link" not in answer.headers
        caller.post()
        assert (await caller.answer()).status == 502


@on_both_loops
async def test_a_redirect_is_not_followed(script: ScriptedProvider, rig: Rig) -> None:
    """It is the caller's to judge (B-U17)."""
    script.then(Script(302, (("Location", f"{script.url}/elsewhere"),), (b"",)))
    async with calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).status == 302
    assert len(script.requests) == 1


@on_both_loops
async def test_pipelined_requests_are_answered_in_order(script: ScriptedProvider, rig: Rig) -> None:
    """Many requests in one write: each gets its own answer, in order."""
    script.answers = lambda received: Script(pieces=(received.body, b"."))
    async with calling(rig.port) as caller:
        for number in range(40):
            caller.post(b"%d" % number)
        answers = [(await caller.answer()).body for _ in range(40)]
    assert answers == [b"%d." % number for number in range(40)]


@pytest.mark.parametrize("number_at_once", [16, 17, 40])
@on_both_loops
async def test_a_body_behind_its_head_keeps_no_later_request_waiting(
    script: ScriptedProvider, rig: Rig, number_at_once: int
) -> None:
    """What is under way counts among the requests that are kept: a burst behind it is read to its last."""
    script.answers = lambda received: Script(pieces=(received.body, b"."))
    async with calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        await asyncio.sleep(0.05)  # it is under way, and its body is not here
        caller.send(b"first")
        assert (await caller.answer()).body == b"first."
        head = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
        caller.send(b"".join(head + b"%02d" % number for number in range(number_at_once)))
        answers = [(await caller.answer()).body for _ in range(number_at_once)]
    assert answers == [b"%02d." % number for number in range(number_at_once)]


@pytest.mark.parametrize("small", [1, 30])
@on_both_loops
async def test_chunks_behind_other_bodies_are_not_taken_for_framing(
    script: ScriptedProvider, rig: Rig, small: int
) -> None:
    """Bodies with a length and bodies in chunks, in one stream of bytes, cut anywhere: each counts as its own."""
    script.answers = lambda received: Script(pieces=(b"%d" % len(received.body),))
    large, chunked = b"x" * 60_000, b"2\r\n{}\r\n0\r\n\r\n"
    head = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"
    one = head + b"Content-Length: 60000\r\n\r\n" + large
    other = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked
    sent = one + other * small + one + other
    async with calling(rig.port) as caller:
        for start in range(0, len(sent), 50_000):
            caller.send(sent[start : start + 50_000])
            await asyncio.sleep(0.01)
        answers = [(await caller.answer()).body for _ in range(small + 3)]
    assert answers == [b"60000", *[b"2"] * small, b"60000", b"2"]


# -- the end and its record


@on_both_loops
async def test_a_whole_answer_carries_what_its_settlement_says(script: ScriptedProvider, rig: Rig) -> None:
    """A JSON answer in pieces is put together, so that the charge can stand in its head; a large one is not held."""
    rig.whole, rig.late = True, ((b"Spend-Charge", b"0.02"),)
    script.then(
        Script(pieces=(b"{", Wait(0.02), b"}"), framing="chunked"),
        Script(pieces=(b"{", Wait(0.02), b"}"), head_apart=True),
        Script(pieces=(b"x" * 100_000, Wait(0.02), b"y")),
    )
    async with calling(rig.port) as caller:
        for body in (b"{}", b"{}", b"x" * 100_000 + b"y"):
            caller.post()
            answer = await caller.answer()
            assert (answer.body, answer.complete) == (body, True)
            assert answer.headers["content-length"] == str(len(body))
            assert ("spend-charge" in answer.headers) == (len(body) == 2)


@pytest.mark.parametrize("kind", ["length", "chunked", "close", "stream"])
@on_both_loops
async def test_the_end_waits_for_the_record(script: ScriptedProvider, rig: Rig, kind: str) -> None:
    """L49: a measurement that cannot be written down means that the caller sees no end, however the end looks."""
    rig.fault = OSError("no space")
    if kind == "stream":
        script.then(Script.stream([EVENTS[0], Wait(0.02), *EVENTS[1:], Wait(0.2), b": trailing comment\n\n"]))
    else:
        script.then(Script(headers=(), pieces=(b"abc", Wait(0.02), b"def"), framing=kind))  # type: ignore[arg-type]
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert not answer.complete
        assert b"[DONE]" not in answer.body
        assert b"def" not in answer.body or kind == "close"
    assert len(rig.outcomes) == 1


@on_both_loops
async def test_after_the_closing_mark_the_call_is_complete(script: ScriptedProvider, rig: Rig) -> None:
    """What breaks after the protocol's own end no longer changes the measurement, but is passed on as a break."""
    wire = Script.stream(EVENTS).wire_pieces()[:-1]
    script.then(Script.raw(*wire, Wait(0.02)))
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert not answer.complete
        assert answer.body == b"".join(EVENTS)
    assert (await rig.outcome()).ending is Ending.COMPLETE
    assert len(rig.outcomes) == 1


@on_both_loops
async def test_a_meter_that_hides_gives_up_the_length(script: ScriptedProvider, rig: Rig) -> None:
    """Bytes taken out of the body cannot leave a wrong length behind."""
    rig.hides = True
    script.then(Script(pieces=(b"abc<hidden>", Wait(0.05), b"def")))
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert (answer.body, answer.complete) == (b"abcdef", True)
        assert "content-length" not in answer.headers
