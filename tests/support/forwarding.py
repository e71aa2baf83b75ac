"""The two doors of the proxy in one process, between a scripted provider and raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from sidecar.core.pricing.usage import Usage
from sidecar.providers.dialect import Ending
from sidecar.proxy.accept import AcceptOptions, Arrival, FrontDoor
from sidecar.proxy.forward import forward
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.refusals import Header
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_pool import PoolOptions, Upstream, read_origin
from tests.support.refusals import plain_refusal
from tests.support.scripted_provider import ScriptedProvider

TICK_S = 0.02

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
"""The loop of the standard library, and the one that production runs on: they differ in how sockets end."""


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on each loop, with a fresh `script` (provider) and a `rig` before it if it asks for them."""
    own = inspect.signature(test).parameters
    given_by_pytest = [parameter for name, parameter in own.items() if name not in {"script", "rig"}]

    async def play(**given: Any) -> None:
        async with contextlib.AsyncExitStack() as stack:
            script = await stack.enter_async_context(ScriptedProvider())
            if "script" in own:
                given["script"] = script
            if "rig" in own:
                given["rig"] = await stack.enter_async_context(running_rig(script.url))
            await test(**given)

    @functools.wraps(test)
    def run(loop_name: str, **given: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(play(**given))

    loop_parameter = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*given_by_pytest, loop_parameter])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_name", LOOPS)(run)
    return marked


@dataclass
class Tape:
    """A meter that keeps what it saw; the closing mark is `[DONE]`. It hides `<hidden>` if told to."""

    status: int
    content_encoding: str
    hides: bool = False
    seen: bytes = b""
    flushed: int = 0

    def feed(self, piece: bytes) -> bytes:
        self.seen += piece
        return piece.replace(b"<hidden>", b"") if self.hides else piece

    def flush(self) -> bytes:
        self.flushed += 1
        return b""

    def finished(self) -> bool:
        return b"[DONE]" in self.seen

    def usage(self, ending: Ending) -> Usage:
        raise NotImplementedError


@dataclass
class Rig:
    """A running door; `outcomes` are what `on_end` was called with, in order."""

    door: FrontDoor
    upstream: Upstream
    sweep: Sweep
    port: int = 0
    target: str | None = None
    whole: bool = False
    hides: bool = False
    late: Sequence[Header] = ()
    fault: Exception | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    forward_options: ForwardOptions = field(default_factory=ForwardOptions)

    def on_end(self, outcome: Outcome) -> Sequence[Header]:
        self.outcomes.append(outcome)
        if self.fault is not None:
            raise self.fault
        return self.late

    async def carry(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        outcome = await forward(
            arrival,
            self.upstream,
            target=self.target or arrival.head.target,
            body=arrival.body,
            meter_for=lambda status, encoding, _: Tape(status, encoding, self.hides),
            on_end=self.on_end,
            sweep=self.sweep,
            options=self.forward_options,
            added=((b"Spend-Origin", b"provider"),),
            whole=self.whole,
            hides_usage=self.hides,
        )
        if not arrival.answered:
            arrival.refuse(outcome.refusal())

    async def outcome(self, number: int = 1, timeout_s: float = 5.0) -> Outcome:
        """Wait for the n-th ending."""
        await until(lambda: len(self.outcomes) >= number, timeout_s)
        return self.outcomes[number - 1]

    def tape(self, number: int = 1) -> Tape:
        """The meter of the n-th ending."""
        meter = self.outcomes[number - 1].meter
        assert isinstance(meter, Tape)
        return meter


@contextlib.asynccontextmanager
async def running_rig(
    url: str,
    *,
    accept: AcceptOptions | None = None,
    options: ForwardOptions | None = None,
    pool: PoolOptions | None = None,
    tick_s: float = TICK_S,
    **upstream: Any,
) -> AsyncIterator[Rig]:
    """A rig in front of the provider at `url`."""
    sweep = Sweep(tick_s=tick_s)
    sweep.start()
    provider = Upstream("scripted", read_origin(url), sweep=sweep, options=pool, **upstream)
    rig: Rig

    async def carry(arrival: Arrival) -> None:
        await rig.carry(arrival)

    door = FrontDoor(carry, shape=plain_refusal, sweep=sweep, options=accept or AcceptOptions())
    rig = Rig(door, provider, sweep, forward_options=options or ForwardOptions())
    rig.port = await door.listen("127.0.0.1", 0)
    try:
        yield rig
    finally:
        await door.drain(0.0)
        provider.close()
        sweep.stop()
        await asyncio.sleep(0)


@dataclass
class Answer:
    """What a raw client got: status, headers by lower-case name, decoded body, and how it ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    raw_head: bytes = b""
    trailers: tuple[bytes, ...] = ()


class Caller:
    """A client of raw sockets that believes nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, body: bytes = b"{}", *lines: str, target: str = "/v1/chat/completions") -> None:
        """Send a usual request."""
        head = [f"POST {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *lines]
        self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str], bytes]:
        """Read one head."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        lines = raw.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        return int(lines[0].split(" ")[1]), headers, raw

    async def answer(self, method: str = "POST") -> Answer:
        """Read one answer; `complete` is false if it was cut."""
        status, headers, raw = await self.head()
        body, complete, trailers = b"", True, []
        try:
            if method == "HEAD" or status in {204, 304}:
                pass
            elif headers.get("transfer-encoding") == "chunked":
                while size := int(await self._line(), 16):
                    body += await self._exactly(size)
                    await self._line()
                while line := await self._line():
                    trailers.append(line)
            elif "content-length" in headers:
                body = await self._exactly(int(headers["content-length"]))
            else:
                body, complete = await self.rest()
        except asyncio.IncompleteReadError as exc:
            body, complete = body + exc.partial, False
        except ConnectionError:
            complete = False
        return Answer(status, headers, body, complete, raw, tuple(trailers))

    async def rest(self) -> tuple[bytes, bool]:
        """All that comes, and whether it ended cleanly (not by a reset)."""
        got = b""
        try:
            while piece := await asyncio.wait_for(self.reader.read(65536), 5):
                got += piece
        except ConnectionError:
            return got, False
        return got, True

    async def _line(self) -> bytes:
        line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 5)
        return line[:-2]

    async def _exactly(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), 5)

    def reset(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def calling(port: int, **options: Any) -> AsyncIterator[Caller]:
    """A connected raw client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    caller = Caller(reader, writer)
    try:
        yield caller
    finally:
        await caller.close()


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)
