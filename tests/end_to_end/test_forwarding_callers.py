"""Callers who leave or do not read, and a sidecar that stops: bounded, and measured all the same."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

import pytest

from sidecar.providers.dialect import Ending
from sidecar.proxy.accept import AcceptOptions
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.outcomes import Cause
from tests.support.forwarding import Rig, calling, on_both_loops, running_rig, until
from tests.support.scripted_provider import Script, ScriptedProvider, Wait

EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"]


@on_both_loops
async def test_a_caller_who_leaves_is_measured_to_the_end(script: ScriptedProvider, rig: Rig) -> None:
    """F-23: the rest is read and thrown away, the meter sees it all, and the connection can be used again."""
    script.then(Script.stream([EVENTS[0], Wait(0.1), *EVENTS[1:]]))
    async with calling(rig.port) as caller:
        caller.post()
        await caller.head()
        caller.reset()
    outcome = await rig.outcome()
    assert (outcome.ending, rig.tape().seen) == (Ending.COMPLETE, b"".join(EVENTS))
    await until(lambda: rig.door.active == 0)
    async with calling(rig.port) as caller:
        caller.post()
        assert (await caller.answer()).status == 200
    assert script.connections == 1


@on_both_loops
async def test_a_caller_who_leaves_before_the_head_is_measured_too(script: ScriptedProvider, rig: Rig) -> None:
    """F-24: noticed at once, and the answer still read."""
    gate = asyncio.Event()
    script.then(Script.stream(EVENTS, gate=gate))
    async with calling(rig.port) as caller:
        caller.post()
        await until(lambda: script.requests)
        caller.reset()
        await until(lambda: rig.arrivals[0].gone)
        gate.set()
    assert (await rig.outcome()).ending is Ending.COMPLETE


@pytest.mark.parametrize("bound", ["time", "bytes"])
@on_both_loops
async def test_draining_is_bounded(script: ScriptedProvider, bound: str) -> None:
    """Read for nobody, a stream is given up after a time or a size."""
    by_time = bound == "time"
    options = ForwardOptions(drain_s=0.1 if by_time else 60.0, drain_max_bytes=2**30 if by_time else 50_000)
    script.then(Script.stream([b"x" * 1000, Wait(0.01 if by_time else 0.0)] * 3000))
    async with running_rig(script.url, options=options) as rig:
        async with calling(rig.port) as caller:
            caller.post()
            await caller.head()
            caller.reset()
        outcome = await rig.outcome()
        assert (outcome.ending, outcome.cause) == (Ending.ABANDONED, Cause.CALLER_GONE)
        assert by_time or outcome.answer_bytes < 1_000_000
        await until(lambda: script.lost)


@pytest.mark.parametrize("how", ["estimate", "abort"])
@on_both_loops
async def test_where_draining_is_not_wanted_the_provider_is_hung_up_on(
    script: ScriptedProvider, how: Literal["estimate", "abort"]
) -> None:
    """F-23: at once, whatever is still to come; what was seen so far is what the call is settled by."""
    script.then(Script.stream([b"x" * 1000, Wait(0.05)] * 3000))
    async with running_rig(script.url, options=ForwardOptions(on_caller_gone=how)) as rig:
        async with calling(rig.port) as caller:
            caller.post()
            await caller.head()
            caller.reset()
        outcome = await rig.outcome()
        assert (outcome.ending, outcome.cause) == (Ending.ABANDONED, Cause.CALLER_GONE)
        assert outcome.answer_bytes < 3_000_000
        await until(lambda: script.lost)
        assert len(rig.outcomes) == 1


@on_both_loops
async def test_a_slow_reader_slows_the_provider(script: ScriptedProvider) -> None:
    """F-50: what is not read is not fetched, and nothing is lost when the caller reads on."""
    pieces = [b"%07d|" % n * 8192 for n in range(500)]  # 32 MB: more than all buffers of the kernel
    script.then(Script.stream(pieces))
    async with running_rig(script.url) as rig, calling(rig.port, limit=2**16) as caller:
        caller.post()
        status, headers, _ = await caller.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        seen = -1
        while len(rig.outcomes) == 0 and seen != (seen := _bytes_so_far(rig)):
            await asyncio.sleep(0.2)
        assert not rig.outcomes
        transport = rig.arrivals[0]._transport
        assert transport is not None
        assert transport.get_write_buffer_size() <= 64 * 1024 + 2 * 256 * 1024
        got = 0
        while size := int((await caller.reader.readuntil(b"\r\n"))[:-2], 16):
            got += len(await caller.reader.readexactly(size + 2)) - 2
        assert got == sum(map(len, pieces))
        assert (await rig.outcome()).ending is Ending.COMPLETE


def _bytes_so_far(rig: Rig) -> int:
    watcher = rig.arrivals[0]._connection.watcher
    return getattr(watcher, "_answer_bytes", 0)


@on_both_loops
async def test_a_caller_who_never_reads_is_cut(script: ScriptedProvider) -> None:
    """F-50: after `client_stall_s` the caller counts as gone."""
    script.then(Script.stream([b"x" * 65536] * 1200))
    accept, options = AcceptOptions(client_stall_s=0.3), ForwardOptions(drain_max_bytes=1)
    async with (
        running_rig(script.url, accept=accept, options=options) as rig,
        calling(rig.port, limit=1024) as caller,
    ):
        caller.post()
        await caller.head()
        outcome = await rig.outcome(timeout_s=10)
        assert (outcome.ending, outcome.cause) == (Ending.ABANDONED, Cause.CALLER_STALLED)


# -- stopping


@on_both_loops
async def test_draining_lets_streams_end(script: ScriptedProvider, rig: Rig) -> None:
    """F-33: a live stream goes on to its end, new connections find nobody, idle ones are closed."""
    gate = asyncio.Event()
    script.then(Script.json({}), Script.stream(EVENTS, gate=gate))
    async with calling(rig.port) as idle, calling(rig.port) as caller:
        idle.post()
        await idle.answer()
        caller.post()
        await until(lambda: len(script.requests) == 2)
        stopping = asyncio.create_task(rig.door.drain(5.0))
        assert await idle.rest() == (b"", True)
        with pytest.raises(ConnectionError):
            async with calling(rig.port):
                pass
        gate.set()
        answer = await caller.answer()
        assert answer.complete
        await stopping
        assert await caller.rest() == (b"", True)
    assert (await rig.outcome(2)).ending is Ending.COMPLETE


@on_both_loops
async def test_while_draining_each_answer_is_its_connections_last(script: ScriptedProvider, rig: Rig) -> None:
    """A connection whose answer ends is closed at once, though others still stream."""
    gates = [asyncio.Event(), asyncio.Event()]
    script.then(*(Script.stream(EVENTS, gate=gate) for gate in gates))
    async with calling(rig.port) as first, calling(rig.port) as second:
        first.post()
        await until(lambda: len(script.requests) == 1)
        second.post()
        await until(lambda: len(script.requests) == 2)
        stopping = asyncio.create_task(rig.door.drain(5.0))
        await until(lambda: rig.door.draining)
        gates[0].set()
        answer = await first.answer()
        assert (answer.complete, answer.headers["connection"]) == (True, "close")
        assert await first.rest() == (b"", True)
        assert not stopping.done()
        gates[1].set()
        assert (await second.answer()).complete
        await stopping


@on_both_loops
async def test_what_outlasts_the_grace_is_cut_and_settled(script: ScriptedProvider, rig: Rig) -> None:
    """F-33: after the grace each live stream is settled once, and its caller sees a break."""
    script.otherwise(Script.stream([EVENTS[0], Wait(None)]))
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(rig.port)) for _ in range(5)]
        for caller in callers:
            caller.post()
            await caller.head()
        await rig.door.drain(0.05)
        for caller in callers:
            _, clean = await caller.rest()
            assert not clean
    assert [outcome.cause for outcome in rig.outcomes] == [Cause.STOPPED] * 5
    assert rig.door.active == 0
    assert not rig.door.connections
