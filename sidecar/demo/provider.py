"""The demo provider: what `spend up` calls when it is given no provider's key.

It answers like OpenAI's chat completions and responses and Anthropic's messages, streamed and not, and like OpenAI's
embeddings, with usage to bill, so that every part of the product can be seen at work without an account anywhere.
Its answers say what they are.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from aiohttp import web

from sidecar.demo.answers import answer
from sidecar.demo.dialects import (
    anthropic_answer,
    anthropic_error,
    anthropic_events,
    openai_answer,
    openai_error,
    openai_events,
)
from sidecar.demo.responses import embedding_answer, models_answer, response_answer, response_events

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_CHOICES: Final = 8
FIRST_WORD_AFTER_S: Final = 0.08
WORD_EVERY_S: Final = 0.004
WORDS_PER_WRITE: Final = 3
"""Providers send several events at once; so does this one, with a pause after each such piece."""

NOT_HERE: Final = (
    "The demo provider has chat completions, responses, embeddings, messages and the list of models only. For all else"
    " set a provider's key, such as OPENAI_API_KEY, where the sidecar is started"
)
_CLOSE_TIMEOUT_S: Final = 1.0
_NAME_BYTES: Final = 10


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def start_demo(port: int = 0) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Start the demo provider on a loopback port.

    Args:
        port: 0 for a free one.

    Returns:
        Its address, an origin such as `http://127.0.0.1:40123`, and what ends it.

    Raises:
        OSError: the port is taken, or may not be used.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_explain])
    app.router.add_post("/v1/chat/completions", _chat_completions)
    app.router.add_post("/v1/messages", _messages)
    app.router.add_post("/v1/responses", _responses)
    app.router.add_post("/v1/embeddings", _embeddings)
    app.router.add_get("/v1/models", _models)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    except OSError:
        await runner.cleanup()
        raise
    return f"http://127.0.0.1:{runner.addresses[0][1]}", runner.cleanup


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A path that is not there is told as OpenAI tells it, and what is there."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as problem:
        return web.json_response(openai_error(NOT_HERE, "unknown_url"), status=problem.status)


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    body, problem = _read(raw)
    wanted = body.get("n", 1)
    if not problem and (type(wanted) is not int or not 1 <= wanted <= MAX_CHOICES):
        problem = f"'n' must be a whole number from 1 to {MAX_CHOICES}"
    if problem:
        return web.json_response(openai_error(problem, None), status=400)
    name = secrets.token_hex(_NAME_BYTES)
    made = [answer(body, b"%d" % index + raw, name) for index in range(wanted)]
    headers = {"x-request-id": f"req_demo_{name}", "openai-version": "2020-10-01"}
    await asyncio.sleep(FIRST_WORD_AFTER_S)
    created_s = int(time.time())
    if body.get("stream") is True:
        return await _stream(request, openai_events(body, made, created_s), headers)
    return web.json_response(openai_answer(body, made, created_s), headers=headers)


async def _messages(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    body, problem = _read(raw)
    limit = body.get("max_tokens")
    if not problem and (type(limit) is not int or limit < 1):
        problem = "max_tokens: a whole number from 1 is required"
    if problem:
        return web.json_response(anthropic_error("invalid_request_error", problem), status=400)
    made = answer(body, raw, secrets.token_hex(_NAME_BYTES))
    headers = {"request-id": f"req_demo_{made.name}"}
    await asyncio.sleep(FIRST_WORD_AFTER_S)
    if body.get("stream") is True:
        return await _stream(request, anthropic_events(body, made), headers)
    return web.json_response(anthropic_answer(body, made), headers=headers)


async def _responses(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    body, problem = _read(raw, "input")
    if problem:
        return web.json_response(openai_error(problem, None), status=400)
    made = answer(body, raw, secrets.token_hex(_NAME_BYTES))
    headers = {"x-request-id": f"req_demo_{made.name}"}
    await asyncio.sleep(FIRST_WORD_AFTER_S)
    created_s = int(time.time())
    if body.get("stream") is True:
        return await _stream(request, response_events(body, made, created_s), headers)
    return web.json_response(response_answer(body, made, created_s), headers=headers)


async def _embeddings(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    body, problem = _read(raw, "input")
    if problem:
        return web.json_response(openai_error(problem, None), status=400)
    return web.json_response(embedding_answer(body, answer(body, raw).input_tokens))


async def _models(_: web.Request) -> web.StreamResponse:
    return web.json_response(models_answer())


def _read(raw: bytes, prompt: str = "messages") -> tuple[dict[str, Any], str]:
    """The request, and what is wrong with it; `prompt` is the field that it asks in."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}, "the body is not JSON"
    if not isinstance(body, dict):
        return {}, "the body is not a JSON object"
    if not isinstance(body.get("model"), str) or not body["model"]:
        return body, "you must provide a model parameter"
    said = body.get(prompt)
    if not said or not (isinstance(said, list) or (prompt == "input" and isinstance(said, str))):
        return body, f"{prompt!r} must be a list with at least one member" + (" or a text" if prompt == "input" else "")
    return body, ""


async def _stream(request: web.Request, events: Iterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """Send events, some at a time."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **headers})
    response.headers["Cache-Control"] = "no-cache"
    await response.prepare(request)
    piece = bytearray()
    for number, event in enumerate(events):
        piece += event
        if number % WORDS_PER_WRITE == 0:
            await response.write(bytes(piece))
            piece.clear()
            await asyncio.sleep(WORD_EVERY_S * WORDS_PER_WRITE)
    await response.write(bytes(piece))
    await response.write_eof()
    return response
