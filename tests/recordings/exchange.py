"""An exchange of our own making: a request, its answer's bytes, and the usage that they must yield."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.dialect import Ending, RequestFacts
from sidecar.providers.registry import dialect_for

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


@dataclass(frozen=True)
class Exchange:
    """`lines` is compared where given, else only the total."""

    name: str
    path: str
    request: dict[str, Any]
    answer: bytes
    state: UsageState
    tokens: Tokens | None = None
    lines: tuple[Line, ...] = ()
    units: dict[str, int] = field(default_factory=dict)
    tier: str | None = None
    geo: str | None = None
    cost: str | None = None
    notes: tuple[str, ...] = ()
    status: int = 200
    encoding: str = ""
    ending: Ending = Ending.COMPLETE
    finished: bool = False
    shown: bytes | None = None
    """What the caller must see; None: the answer as it is."""


@dataclass(frozen=True)
class Metered:
    """What came of feeding an answer: what the caller saw, and the usage."""

    shown: bytes
    usage: Usage
    finished: bool


def metered(exchange: Exchange, pieces: Sequence[bytes]) -> Metered:
    """Feed an exchange's answer in these pieces."""
    dialect = dialect_for(exchange.path.partition("?")[0])
    assert dialect is not None
    facts: RequestFacts = dialect.read_request(json.dumps(exchange.request).encode(), exchange.path)
    meter = dialect.meter(facts, status=exchange.status, lines=b"", content_encoding=exchange.encoding)
    shown = b"".join([meter.feed(piece) for piece in pieces])
    if exchange.ending is Ending.COMPLETE:
        shown += meter.flush()
    return Metered(shown, meter.usage(exchange.ending), meter.finished())


def cuts(body: bytes, *, seed: str, count: int = 5) -> Iterator[list[bytes]]:
    """The body whole, byte by byte, and cut at a few seeded random places, several times over."""
    yield [body]
    yield [body[i : i + 1] for i in range(len(body))]
    dice = random.Random(seed)
    for _ in range(count):
        yield cut_at(body, sorted(dice.randrange(len(body) + 1) for _ in range(dice.randint(3, 9))))


def cut_at(body: bytes, places: Sequence[int]) -> list[bytes]:
    """The body in pieces that end at these offsets, and the rest."""
    ends = [*places, len(body)]
    starts = [0, *places]
    return [body[start:end] for start, end in zip(starts, ends, strict=True)]


def sse(*events: Any, named: bool = False, end: str = "\n", space: str = " ") -> bytes:
    """Server-sent events: strings as they are (comments, `[DONE]` as data), objects as JSON data."""
    out = []
    for event in events:
        if isinstance(event, str) and event.startswith((":", "event")):
            out.append(event + end + end)
            continue
        data = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        name = f"event: {event['type']}{end}" if named else ""
        out.append(f"{name}data:{space}{data}{end}{end}")
    return "".join(out).encode()


def chunk(text: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat completion chunk: a delta of text, or whatever `more` says of its choices."""
    base = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-2024-08-06",
    }
    if text is not None:
        more = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return base | more


def stopped(**more: Any) -> dict[str, Any]:
    """The last chunk with a choice."""
    return chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], **more)


def completion(usage: Any, **more: Any) -> bytes:
    """A whole chat completion."""
    message = {"role": "assistant", "content": 'said: {"usage": {"prompt_tokens": 1}}'}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    return json.dumps(body | more).encode()


def openai_usage(given: int, made: int, **more: Any) -> dict[str, Any]:
    """A plain OpenAI usage object."""
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, **more}


def message(usage: Any, **more: Any) -> dict[str, Any]:
    """A whole Anthropic message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "usage: none"}],
        "stop_reason": "end_turn",
        "usage": usage,
        **more,
    }


def message_stream(start: dict[str, Any], *deltas: dict[str, Any], stop: bool = True, text: str = "Hello") -> bytes:
    """An Anthropic stream: the start's usage, a text, and the usage of each `message_delta`."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message(start, content=[], stop_reason=None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
    ]
    for usage in deltas:
        ending = {"stop_reason": "end_turn" if usage is deltas[-1] else None}
        events.append({"type": "message_delta", "delta": ending, "usage": usage})
    if stop:
        events.append({"type": "message_stop"})
    return sse(*events, named=True)
