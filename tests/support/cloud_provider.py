"""Google and Amazon Bedrock on a loopback port: they answer as their protocols have it, and remember what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sidecar.providers.binary_stream import write_message
from tests.recordings.exchange import message, message_stream
from tests.support.threads import in_thread

WORDS = ("Once ", "there ", "were ", "sheep.")


@dataclass
class Request:
    """One request as the provider saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class CloudProvider:
    """What came, and where it listens. Every answer is of 11 tokens in and 7 out.

    After `holds_after` events of a stream of these `words` it is `holding` until `resume` is set, after `breaks_after`
    its connection ends; None: not.
    """

    address: str = ""
    requests: list[Request] = field(default_factory=list)
    words: tuple[str, ...] = WORDS
    holds_after: int | None = None
    breaks_after: int | None = None
    holding: bool = False
    resume: threading.Event = field(default_factory=threading.Event)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(Request(request.raw_path, dict(request.headers), body))
        path = request.raw_path
        if "awPredict" in path:
            return await self._claude(request, streamed="streamRaw" in path)
        if "streamGenerateContent" in path:
            return await self._stream(request, "text/event-stream", [
                b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in _gemini_chunks(self.words)
            ])  # fmt: skip
        if "generateContent" in path:
            return web.json_response(_gemini_chunks(WORDS)[-1] | {"candidates": [_candidate("".join(WORDS), "STOP")]})
        if "converse-stream" in path:
            return await self._stream(request, "application/vnd.amazon.eventstream", _converse_events(self.words))
        if "converse" in path:
            message = {"role": "assistant", "content": [{"text": "".join(WORDS)}]}
            answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": _CONVERSE_USAGE}
            return web.json_response(answer | {"metrics": {"latencyMs": 1}})
        return web.json_response({"message": "no such operation"}, status=404)

    async def _claude(self, request: web.Request, *, streamed: bool) -> web.StreamResponse:
        """Anthropic's messages on Vertex."""
        if not streamed:
            return web.json_response(message({"input_tokens": 11, "output_tokens": 7}))
        body = message_stream({"input_tokens": 11, "output_tokens": 1}, {"output_tokens": 7})
        return await self._stream(request, "text/event-stream", [body])

    async def _stream(self, request: web.Request, content_type: str, events: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": content_type})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # hung up on
            for number, event in enumerate(events):
                if number == self.holds_after:
                    self.holding = True
                    while not self.resume.is_set():
                        await asyncio.sleep(0.01)
                if number == self.breaks_after and request.transport is not None:
                    request.transport.close()
                    return response
                await response.write(event)
                await asyncio.sleep(0.001)
            await response.write_eof()
        return response


_CONVERSE_USAGE = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}


def _candidate(text: str, reason: str | None) -> dict[str, Any]:
    told = {} if reason is None else {"finishReason": reason}
    return {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, **told}


def _gemini_chunks(words: tuple[str, ...]) -> list[dict[str, Any]]:
    chunks = []
    for number, word in enumerate(words):
        made = 7 if number == len(words) - 1 else min(6, number + 1)
        usage = {"promptTokenCount": 11, "candidatesTokenCount": made, "totalTokenCount": 11 + made}
        candidate = _candidate(word, "STOP" if made == 7 else None)
        told = {"usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r1"}
        chunks.append({"candidates": [candidate], **told})
    return chunks


def _converse_events(words: tuple[str, ...]) -> list[bytes]:
    deltas = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in words]
    events: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        *deltas,
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _CONVERSE_USAGE, "metrics": {"latencyMs": 1}}),
    ]
    return [
        write_message(
            {b":event-type": kind.encode(), b":content-type": b"application/json", b":message-type": b"event"},
            json.dumps(payload | {"p": "abcd"}).encode(),
        )
        for kind, payload in events
    ]


@contextmanager
def running_clouds() -> Iterator[CloudProvider]:
    """Both on one loopback port, in a thread of their own, until the block ends."""
    provider = CloudProvider()

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", provider._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stopping.wait()
        await runner.cleanup()

    with in_thread(serve):
        yield provider
