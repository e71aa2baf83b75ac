"""A provider that answers as a test tells it to, and remembers the truth.

OpenAI's chat completions and responses and Anthropic's messages, streamed and not, on a loopback port in a
thread of its own, so that it outlives whatever process a test kills. It counts what it would
bill for every request that reached it: the truth that the book is held against.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from tests.support.llm_responses import completion_answer, embedding_answer, responses_answer, responses_events
from tests.support.threads import in_thread


@dataclass
class Served:
    """One request as the provider saw it, and what it bills for it."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    input_tokens: int
    output_tokens: int
    started: bool = True
    finished: bool = False
    holding: bool = False
    sent: int = 0
    """Events of a stream that were written, whoever read them."""

    @property
    def is_cut(self) -> bool:
        """Whether the answer is as long as its output limit lets it be."""
        fields = ("max_completion_tokens", "max_output_tokens", "max_tokens")
        limit = next((self.body[name] for name in fields if self.body.get(name)), None)
        return limit is not None and self.output_tokens >= limit * (self.body.get("n") or 1)


@dataclass
class Plan:
    """How to answer. `usage` maps a request's body to (input, output) tokens.

    After `holds_after` events a stream waits until `resume` is set, after `breaks_after` it breaks off; None: not.
    """

    usage: Callable[[dict[str, Any], bytes], tuple[int, int]] = lambda _body, _raw: (10, 5)
    delay_s: float = 0.0
    chunks: int = 8
    chunk_delay_s: float = 0.0
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    polls: int = 1
    """Times that a response made in the background is asked for before it is there."""

    holds_after: int | None = None
    breaks_after: int | None = None
    resume: threading.Event = field(default_factory=threading.Event)


class LLMProvider:
    """The provider's state: its plan may be exchanged at any time."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.served: list[Served] = []
        self.asked_back: list[tuple[str, str]] = []
        self.address = ""
        self._numbers = itertools.count(1)

    def number_anew(self) -> None:
        """Number the calls from 1 again: an answer that is asked for twice is then the same."""
        self._numbers = itertools.count(1)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        plan = self.plan
        if plan.status != 200:
            return web.json_response(plan.error, status=plan.status, headers=plan.headers)
        given, made = plan.usage(body, raw)
        served = Served(next(self._numbers), request.path, dict(request.headers), body, given, made)
        self.served.append(served)
        await asyncio.sleep(plan.delay_s)
        whole, streamed = _spoken(request.path)
        if not body.get("stream"):
            served.finished = True
            return web.json_response(whole(served), headers=plan.headers)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **plan.headers})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # hung up on
            for number, event in enumerate(streamed(served, plan.chunks)):
                if number == plan.holds_after:
                    served.holding = True
                    while not plan.resume.is_set():
                        await asyncio.sleep(0.01)
                if number == plan.breaks_after and request.transport is not None:
                    request.transport.close()
                    return response
                await response.write(event)
                served.sent += 1
                await asyncio.sleep(plan.chunk_delay_s)
            served.finished = True
            await response.write_eof()
        return response

    async def _stored(self, request: web.Request) -> web.Response:
        """A response by its id: queued until it was asked for often enough, then whole, as often as anybody asks."""
        self.asked_back.append((request.method, request.match_info["id"]))
        number = int(request.match_info["id"].removeprefix("resp_"))
        served = next((one for one in self.served if one.number == number), None)
        if served is None:
            return web.json_response({"error": {"message": "not found"}}, status=404)
        if self.asked_back.count(("GET", f"resp_{number}")) <= self.plan.polls:
            return web.json_response(responses_answer(served))
        return web.json_response(responses_answer(replace(served, body=served.body | {"background": False})))


def _spoken(path: str) -> tuple[Callable[[Served], dict[str, Any]], Callable[[Served, int], Iterator[bytes]]]:
    """What answers a path, whole and streamed."""
    if path.endswith("/messages"):
        return _anthropic_answer, _anthropic_events
    if path.endswith("/responses"):
        return responses_answer, responses_events
    if path.endswith("/embeddings"):
        return embedding_answer, _openai_events
    if path.endswith("/completions") and not path.endswith("/chat/completions"):
        return completion_answer, _openai_events
    return _openai_answer, _openai_events


def _openai_answer(served: Served) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"answer {served.number}", "refusal": None}
    choice = {"message": message, "logprobs": None, "finish_reason": "length" if served.is_cut else "stop"}
    return {
        "id": f"chatcmpl-{served.number}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": served.body["model"],
        "choices": [{"index": index, **choice} for index in range(served.body.get("n") or 1)],
        "usage": _openai_usage(served),
        "service_tier": "default",
    }


def _openai_usage(served: Served) -> dict[str, Any]:
    return {
        "prompt_tokens": served.input_tokens,
        "completion_tokens": served.output_tokens,
        "total_tokens": served.input_tokens + served.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _openai_events(served: Served, chunks: int) -> Iterator[bytes]:
    asked = (served.body.get("stream_options") or {}).get("include_usage")
    base = {
        "id": f"chatcmpl-{served.number}",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": served.body["model"],
    }
    for index in range(chunks):
        delta = {"role": "assistant", "content": ""} if index == 0 else {"content": f"word{index} "}
        chunk: dict[str, Any] = {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield b"data: " + json.dumps(chunk | ({"usage": None} if asked else {})).encode() + b"\n\n"
    reason = "length" if served.is_cut else "stop"
    last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    yield b"data: " + json.dumps(last | ({"usage": None} if asked else {})).encode() + b"\n\n"
    if asked:
        yield b"data: " + json.dumps({**base, "choices": [], "usage": _openai_usage(served)}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _anthropic_answer(served: Served) -> dict[str, Any]:
    return {
        "id": f"msg_{served.number}",
        "type": "message",
        "role": "assistant",
        "model": served.body["model"],
        "content": [{"type": "text", "text": f"answer {served.number}"}],
        "stop_reason": "max_tokens" if served.is_cut else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": served.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": served.output_tokens,
        },
    }


def _anthropic_events(served: Served, chunks: int) -> Iterator[bytes]:
    start = _anthropic_answer(served) | {"content": [], "stop_reason": None}
    start["usage"] = start["usage"] | {"output_tokens": 1}
    block = {"type": "text", "text": ""}
    yield _event("message_start", {"message": start})
    yield _event("content_block_start", {"index": 0, "content_block": block})
    for index in range(chunks):
        delta = {"type": "text_delta", "text": f"word{index} "}
        yield _event("content_block_delta", {"index": 0, "delta": delta})
    yield _event("content_block_stop", {"index": 0})
    ending = {"stop_reason": "max_tokens" if served.is_cut else "end_turn", "stop_sequence": None}
    yield _event("message_delta", {"delta": ending, "usage": {"output_tokens": served.output_tokens}})
    yield _event("message_stop", {})


def _event(kind: str, facts: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **facts})}\n\n".encode()


@contextmanager
def running_provider() -> Iterator[LLMProvider]:
    """A provider on a loopback port, in a thread of its own, until the block ends."""
    provider = LLMProvider()

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", provider._answer)
        app.router.add_get("/{path:.*}/responses/{id}", provider._stored)
        app.router.add_delete("/{path:.*}/responses/{id}", provider._stored)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        provider.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stopping.wait()
        await runner.cleanup()

    with in_thread(serve):
        yield provider
