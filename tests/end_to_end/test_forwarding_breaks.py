"""A provider that fails: the caller sees a break as a break, nothing is sent twice on a guess, all is settled once."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.providers.dialect import Ending
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.outcomes import Cause
from sidecar.proxy.upstream_pool import PoolOptions
from tests.support.forwarding import Rig, calling, on_both_loops, running_rig, until
from tests.support.scripted_provider import Script, ScriptedProvider, Wait

SURPRISES = {
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "garbage status": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"\x15\x03\x01\x00\x02\x02\x16",
    "endless head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "300 headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    "nothing": b"",
}


@pytest.mark.parametrize("name", SURPRISES)
@on_both_loops
async def test_nonsense_from_the_provider_is_a_502(script: ScriptedProvider, rig: Rig, name: str) -> None:
    """B-U14, B-U19: before the first byte it is 502 once, settled once, and the connection is not used again."""
    script.then(Script.raw(SURPRISES[name]))
    async with calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert answer.status == 502
        assert b"upstream_broken" in answer.body
        caller.post()
        assert (await caller.answer()).status == 200
    assert script.connections == 2
    assert len(script.requests) == 2
    assert [outcome.ending for outcome in rig.outcomes] == [Ending.CUT, Ending.COMPLETE]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@on_both_loops
async def test_cut_anywhere_is_never_a_clean_end(script: ScriptedProvider, rig: Rig, framing: str) -> None:
    """F-22: cut at every byte, the caller gets the bytes so far and a break, or a 502; each is settled exactly once."""
    answer_script = Script(headers=(("X", "y"),), pieces=(b"hello ", b"world"), framing=framing)  # type: ignore[arg-type]
    wire = b"".join(piece for piece in answer_script.wire_pieces() if isinstance(piece, bytes))
    for cut in range(1, len(wire)):
        script.then(Script(headers=(("X", "y"),), pieces=(b"hello ", b"world"), framing=framing, cut_after=cut))  # type: ignore[arg-type]
        async with calling(rig.port) as caller:
            caller.post()
            answer = await caller.answer()
        assert (answer.status == 502) or not answer.complete, cut
        assert answer.status == 502 or b"hello world".startswith(answer.body), cut
    assert [outcome.cause for outcome in rig.outcomes] == [Cause.PROVIDER_CUT] * (len(wire) - 1)


@on_both_loops
async def test_a_broken_stream_ends_in_a_reset_for_http_1_0(script: ScriptedProvider, rig: Rig) -> None:
    """Where only the connection's end marks the body's, a break must not look like one."""
    script.then(Script.raw(*Script.stream([b"abc", Wait(0.05)]).wire_pieces()[:-1], b"zz\r\n"))
    async with calling(rig.port) as caller:
        caller.send(b"POST /v1/x HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        answer = await caller.answer()
    assert (answer.body, answer.complete) == (b"abc", False)


@on_both_loops
async def test_bytes_after_an_answer_reach_nobody(script: ScriptedProvider, rig: Rig) -> None:
    """B-U20: a second answer, at once or while idle, is never given to the next caller."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    script.then(Script.raw(ok + poison, keeps_open=True), Script.raw(ok, Wait(0.05), poison, keeps_open=True))
    async with calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).body == b"ok"
        caller.post()
        assert (await caller.answer()).body == b"ok"
        await until(lambda: len(script.lost) == 2)
        caller.post()
        assert (await caller.answer()).body == b'{"ok": true}'
    assert script.connections == 3


@on_both_loops
async def test_an_early_answer_does_not_leave_a_half_sent_request(script: ScriptedProvider, rig: Rig) -> None:
    """An answer that comes before the provider has read the request is passed on, and the connection is dropped."""
    script.then(Script.raw(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", Wait(1.0), unread=True))
    async with calling(rig.port) as caller:
        caller.post(b"x" * 30_000_000)
        answer = await caller.answer()
        assert (answer.status, answer.body) == (413, b"big")
        caller.post()
        assert (await caller.answer()).status == 200
    assert len(rig.outcomes) == 2


@on_both_loops
async def test_a_connection_closed_while_idle_costs_nobody_a_request(script: ScriptedProvider, rig: Rig) -> None:
    """What the provider closed is noticed before it is used, also between two looks of the loop."""
    script.then(Script.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", keeps_open=False))
    async with calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).body == b"ok"
        await asyncio.sleep(0.1)
        caller.post()
        assert (await caller.answer()).status == 200
    assert script.connections == 2
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("method", "used", "sent", "status"),
    [("POST", True, 1, 502), ("GET", True, 2, 200), ("GET", False, 1, 502)],
    ids=["POST", "GET", "GET on a new connection"],
)
@on_both_loops
async def test_only_what_has_no_effect_is_sent_twice(
    script: ScriptedProvider, rig: Rig, method: str, used: bool, sent: int, status: int
) -> None:
    """A used connection that dies under a request may have carried it: a POST is never repeated, a GET once."""
    async with calling(rig.port) as caller:
        if used:
            script.then(Script.json({}))
            caller.post()
            await caller.answer()
        script.then(Script.raw(b""))
        caller.send(f"{method} /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await caller.answer()).status == status
    assert len(script.requests) == used + sent
    assert len(rig.outcomes) == used + 1


@on_both_loops
async def test_unreachable_means_nothing_was_sent() -> None:
    """F-21: refused connections and unknown names are 502, settled as unsent."""
    async with ScriptedProvider() as gone:
        url = gone.url
    async with running_rig(url) as rig, calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert answer.status == 502
        assert b"upstream_unreachable" in answer.body
        outcome = await rig.outcome()
        assert (outcome.ending, outcome.sent, outcome.meter) == (Ending.UNSENT, False, None)


@pytest.mark.parametrize(
    ("pieces", "cause"), [((), Cause.HEAD_TIMEOUT), ((b"x", Wait(None)), Cause.IDLE_TIMEOUT)], ids=["head", "idle"]
)
@on_both_loops
async def test_a_silent_provider_is_given_up(
    script: ScriptedProvider, pieces: tuple[bytes | Wait, ...], cause: Cause
) -> None:
    """F-25: without a head it is 504; in mid-answer a break. The connection is dropped."""
    options = ForwardOptions(head_timeout_s=0.1, idle_timeout_s=0.1)
    gate = None if pieces else asyncio.Event()
    script.then(Script(headers=(), pieces=pieces, framing="chunked", gate=gate))
    async with running_rig(script.url, options=options) as rig, calling(rig.port) as caller:
        caller.post()
        answer = await caller.answer()
        assert answer.status == (200 if pieces else 504)
        assert answer.complete != bool(pieces)
        outcome = await rig.outcome()
        assert (outcome.ending, outcome.cause) == (Ending.TIMED_OUT, cause)
        if gate is not None:
            gate.set()


@on_both_loops
async def test_the_total_time_is_bounded(script: ScriptedProvider) -> None:
    """A provider that drips for ever is given up too."""
    script.then(Script.stream([b"x", Wait(0.02)] * 100))
    options = ForwardOptions(total_timeout_s=0.2)
    async with running_rig(script.url, options=options) as rig, calling(rig.port) as caller:
        caller.post()
        assert not (await caller.answer()).complete
        assert (await rig.outcome()).cause is Cause.TOTAL_TIMEOUT


@on_both_loops
async def test_idle_connections_grow_old(script: ScriptedProvider) -> None:
    """An unused connection is closed after `idle_s`."""
    async with running_rig(script.url, pool=PoolOptions(idle_s=0.05)) as rig, calling(rig.port) as caller:
        caller.post()
        await caller.answer()
        await until(lambda: script.lost == [1])
