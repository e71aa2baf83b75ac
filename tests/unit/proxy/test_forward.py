"""Back-pressure and faults at the moments that sockets make hard to hit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from sidecar.providers.dialect import Ending
from sidecar.proxy.arrival import Arrival, Watcher
from sidecar.proxy.forward import forward
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.outcomes import Cause, Outcome
from sidecar.proxy.refusals import Header
from sidecar.proxy.request_head import LOOPBACK_HOSTS, read_head
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_connection import UpstreamConnection
from sidecar.proxy.upstream_pool import Upstream, read_origin
from tests.support.forwarding import Tape, until


class Wire(asyncio.Transport):
    """A provider's side of a connection, with nothing behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.varying = ()
        self.reading = True
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


class Caller:
    """Stands for an arrival; `full` says that its buffer is over its bound from the first write on."""

    def __init__(self, *, full: bool = False, starts_full: bool = False) -> None:
        self.head = read_head("POST", "/v1/x", (1, 1), ((b"Host", b"localhost"),), hosts=LOOPBACK_HOSTS)
        self.gone = False
        self.stalled = False
        self.keep_alive = True
        self.answered = False
        self.aborted = False
        self.written = b""
        self.varying = ()
        self._full = full
        self._starts_full = starts_full
        self.watcher: Watcher | None = None

    def watch(self, watcher: Watcher | None) -> None:
        self.watcher = watcher
        if watcher is not None and self._starts_full:
            watcher.caller_slow()

    def write(self, data: bytes) -> None:
        self.answered = True
        self.written += data
        if self._full and self.watcher is not None:
            self.watcher.caller_slow()

    def abort(self) -> None:
        self.aborted = True


class Call:
    """One `forward` on a pooled connection."""

    def __init__(self, caller: Caller, *, options: ForwardOptions | None = None, meter_fails: bool = False) -> None:
        self.caller = caller
        self.sweep = Sweep()
        self.upstream = Upstream("x", read_origin("http://x"), sweep=self.sweep)
        self.connection = UpstreamConnection(self.upstream)
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        self.upstream.take_back(self.connection)
        self.outcomes: list[Outcome] = []
        self._options = options or ForwardOptions()
        self._meter_fails = meter_fails
        self.task = asyncio.get_running_loop().create_task(self._forward())

    def _meter(self, status: int, content_encoding: str, _lines: bytes) -> Tape:
        if self._meter_fails:
            raise RuntimeError("no meter")
        return Tape(status, content_encoding)

    def _on_end(self, outcome: Outcome) -> Sequence[Header]:
        self.outcomes.append(outcome)
        return ()

    async def _forward(self) -> Outcome:
        return await forward(
            cast(Arrival, self.caller),
            self.upstream,
            target="/v1/x",
            body=b"{}",
            meter_for=self._meter,
            on_end=self._on_end,
            sweep=self.sweep,
            options=self._options,
        )


async def test_a_full_buffer_at_the_very_end_does_not_stop_the_next_call() -> None:
    """The connection that the answer came on is already another's when the last write fills the caller's buffer."""
    call = Call(Caller(full=True))
    await until(lambda: call.wire.written)
    call.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (await call.task).ending is Ending.COMPLETE
    assert call.upstream.take() is call.connection
    assert call.wire.reading


async def test_a_caller_who_has_not_read_its_last_answer_gets_no_more_for_now() -> None:
    """Its buffer was full before this answer began: the provider is not read until there is room."""
    call = Call(Caller(starts_full=True))
    await until(lambda: call.wire.written)
    paused = not call.wire.reading
    cast(Any, call.caller.watcher).caller_ready()
    assert paused
    assert call.wire.reading
    call.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await call.task


async def test_our_own_pause_is_not_the_providers_silence() -> None:
    """While the caller does not read, the provider's clocks stand still."""
    call = Call(Caller(full=True), options=ForwardOptions(head_timeout_s=1.0, idle_timeout_s=1.0))
    await until(lambda: call.wire.written)
    call.connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    assert not call.wire.reading
    exchange = cast(Any, call.caller.watcher)
    exchange.check(call.sweep.now + 100)
    assert not call.outcomes
    exchange.caller_ready()
    exchange.check(call.sweep.now + 100)
    assert (await call.task).cause is Cause.IDLE_TIMEOUT
    assert call.caller.aborted


async def test_a_meter_that_cannot_be_made_is_our_fault_and_settled() -> None:
    """No answer passes unmeasured; the caller sees an error, and the hold is not lost."""
    call = Call(Caller(), meter_fails=True)
    await until(lambda: call.wire.written)
    call.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with pytest.raises(RuntimeError):
        await call.task
    assert call.caller.written == b""
    assert [outcome.ending for outcome in call.outcomes] == [Ending.ABANDONED]
    assert call.wire.aborted


async def test_cancelling_settles_at_once() -> None:
    """The process stops: what was sent is settled before the cancellation goes on."""
    call = Call(Caller())
    await until(lambda: call.wire.written)
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert [outcome.cause for outcome in call.outcomes] == [Cause.STOPPED]
    assert call.wire.aborted


async def test_a_fault_before_anything_is_sent_is_settled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong on the way to a connection, no hold is left behind."""

    def fail() -> None:
        raise RuntimeError("unforeseen")

    call = Call(Caller())
    monkeypatch.setattr(Upstream, "take", lambda upstream: fail())
    with pytest.raises(RuntimeError):
        await call.task
    assert [outcome.ending for outcome in call.outcomes] == [Ending.UNSENT]
    assert not call.caller.answered
