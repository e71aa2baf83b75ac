"""A provider that does exactly what a test tells it to, byte by byte.

It reads requests by hand from raw sockets and keeps what it got; answers are scripts: pieces with
delays between them, any framing, cut anywhere, or plain wire bytes. In a test:

    async with ScriptedProvider() as provider:
        provider.then(Script.json({"usage": {}}))            # for the next request
        provider.otherwise(Script.stream([b"data: 1\n\n"]))  # for all that follow

As a process of its own, it answers every request with a stream if the body asks for one:

    python -m tests.support.scripted_provider --port 9000 --pieces 20 --interval-s 0.05
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Framing = Literal["length", "chunked", "close", "none"]


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause between two pieces; without `seconds` it lasts until the connection ends."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """One answer.

    `pieces` are written one by one, each framed and flushed by itself. `cut_after` counts wire bytes
    (head included), after which the connection is reset. `wire` replaces everything: these bytes,
    then the connection ends unless `keeps_open`. `gate` holds the answer back until it is set.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    pieces: tuple[bytes | Wait, ...] = ()
    framing: Framing = "length"
    cut_after: int | None = None
    wire: tuple[bytes | Wait, ...] | None = None
    keeps_open: bool = False
    before_reading: Wait | None = None  # a slow reader: wait between a request's head and its body
    unread: bool = False  # answer without reading the request's body
    gate: asyncio.Event | None = None
    head_apart: bool = False  # flush the head before the first piece

    @classmethod
    def json(cls, value: Any, **changes: Any) -> Script:
        """A JSON answer with its length."""
        return cls(pieces=(json.dumps(value).encode(),), **changes)

    @classmethod
    def stream(cls, pieces: Iterable[bytes | Wait], **changes: Any) -> Script:
        """A chunked event stream."""
        changes = {"framing": "chunked", "headers": (("Content-Type", "text/event-stream"),)} | changes
        return cls(pieces=tuple(pieces), **changes)

    @classmethod
    def raw(cls, *wire: bytes | Wait, **changes: Any) -> Script:
        """Wire bytes as they are."""
        return cls(wire=wire, **changes)

    def wire_pieces(self) -> list[bytes | Wait]:
        """What goes over the wire, piece by piece."""
        if self.wire is not None:
            return list(self.wire)
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in self.headers)]
        if self.framing == "length":
            lines.append(f"Content-Length: {sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))}")
        elif self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.framing == "close":
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        framed: list[bytes | Wait] = [
            b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) and self.framing == "chunked" else piece
            for piece in self.pieces
        ]
        if self.framing == "chunked":
            framed.append(b"0\r\n\r\n")
        if framed and isinstance(framed[0], bytes) and not self.head_apart:
            return [head + framed[0], *framed[1:]]
        return [head, *framed]


@dataclass(slots=True)
class Received:
    """One request as it came: its raw head (with the empty line), its body, and on which connection."""

    head: bytes
    body: bytes
    connection: int

    @property
    def target(self) -> str:
        """The raw target."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; the last of several."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@dataclass(slots=True)
class ScriptedProvider:
    """The server. `requests` are those received, `connections` counts those accepted,
    `lost` holds numbers of connections that the other side has ended or reset."""

    tls: ssl.SSLContext | None = None
    answers: Callable[[Received], Script] | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    lost: list[int] = field(default_factory=list)
    port: int = 0
    _next: deque[Script] = field(default_factory=deque)
    _default: Script = field(default_factory=lambda: Script.json({"ok": True}))
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def then(self, *scripts: Script) -> None:
        """Answer the next requests so, one each."""
        self._next.extend(scripts)

    def otherwise(self, script: Script) -> None:
        """Answer all other requests so."""
        self._default = script

    async def __aenter__(self) -> ScriptedProvider:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self.tls, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer_one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost.append(number)
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        received = Received(head, b"", number)
        script = self._next.popleft() if self._next else None
        if script is not None and script.before_reading is not None:
            await _wait(script.before_reading, reader)
        if script is not None and script.unread:
            self.requests.append(received)
            await self._play(script, reader, writer)
            return False
        received.body = await reader.readexactly(int(received.headers.get("content-length", "0")))
        self.requests.append(received)
        if script is None:
            script = self.answers(received) if self.answers is not None else self._default
        if script.gate is not None:
            await script.gate.wait()
        return await self._play(script, reader, writer)

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        left = script.cut_after
        for piece in script.wire_pieces():
            if isinstance(piece, Wait):
                await _wait(piece, reader)
                continue
            data = piece if left is None else piece[:left]
            writer.write(data)
            await writer.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    writer.transport.abort()
                    return False
        if script.wire is not None:
            return script.keeps_open
        return script.framing != "close"


async def _wait(wait: Wait, reader: asyncio.StreamReader) -> None:
    """Pause; an endless pause ends with the connection."""
    if wait.seconds is not None:
        await asyncio.sleep(wait.seconds)
    elif not await reader.read(1):
        raise ConnectionResetError


def openai_stream(pieces: int, interval_s: float = 0.0, *, usage: bool = True) -> Script:
    """A chat completion as an event stream of `pieces` words, with a usage chunk and the closing mark."""

    def event(value: dict[str, Any]) -> bytes:
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
        return b"data: " + json.dumps(base | value).encode() + b"\n\n"

    script: list[bytes | Wait] = []
    for number in range(pieces):
        delta = {"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}
        script += [event({"choices": [delta]}), *([Wait(interval_s)] if interval_s else [])]
    script.append(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    if usage:
        counts = {"prompt_tokens": 11, "completion_tokens": pieces, "total_tokens": 11 + pieces}
        script.append(event({"choices": [], "usage": counts}))
    script.append(b"data: [DONE]\n\n")
    return Script.stream(script)


def openai_answer(text: str = "Hello", *, prompt_tokens: int = 11, completion_tokens: int = 3) -> Script:
    """A chat completion in one piece."""
    return Script.json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }
    )


async def _run(port: int, pieces: int, interval_s: float) -> None:
    def answer(received: Received) -> Script:
        streams = b'"stream":true' in received.body or b'"stream": true' in received.body
        return openai_stream(pieces, interval_s) if streams else openai_answer()

    provider = ScriptedProvider(answers=answer)
    await provider.start(port)
    print(f"listening on {provider.url}", flush=True)
    await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pieces", type=int, default=10)
    parser.add_argument("--interval-s", type=float, default=0.0)
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, options.pieces, options.interval_s))


if __name__ == "__main__":
    main()
