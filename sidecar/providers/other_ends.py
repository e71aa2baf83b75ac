"""The end of a stream of Anthropic's, Gemini's, Amazon's Converse, Ollama's and Cohere's.

Sources: docs.anthropic.com/en/api/messages-streaming, ai.google.dev/api `generate-content`, boto/botocore
`data/bedrock-runtime/2023-09-30/service-2.json` (ConverseStreamOutput), ollama/ollama docs/api.md,
cohere-ai/cohere-python `src/cohere/types/` (V2ChatStreamResponse); checked 2026-11.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.providers.binary_stream import BinaryStream, write_message
from sidecar.providers.event_stream import EventStream
from sidecar.providers.json_stream import JsonStream
from sidecar.providers.line_stream import LineStream
from sidecar.providers.stream_end import ENCODER, Cut, StreamEnd, event, number_of

_CREATED_FIRST: Final = "1970-01-01T00:00:00Z"


class AnthropicEnd(StreamEnd):
    """Of a message: the block that is open is stopped, then the message, for its length."""

    repeats = False

    def __init__(self) -> None:
        self._open: int | None = None
        self._stopped = False

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether a block begins or ends, or the message is over."""
        del name
        return data.rfind(b"content_block_st") >= 0 or data.rfind(b"message_delta") >= 0

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in an event."""
        kind = members.get("type") or name.decode("latin-1")
        if kind == "content_block_start":
            self._open = number_of(members.get("index"))
        elif kind == "content_block_stop":
            self._open = None
        elif kind == "message_delta":
            delta = members.get("delta")
            self._stopped = self._stopped or (isinstance(delta, dict) and delta.get("stop_reason") is not None)

    def shortened(self, cut: Cut) -> bytes:
        """`content_block_stop`, `message_delta` with `max_tokens`, `message_stop`."""
        return b"".join(event(facts, name=facts["type"]) for facts in self.events(cut))

    def failed(self, cut: Cut) -> bytes:
        """An `error` event."""
        error = {"type": "billing_error", "message": cut.detail, "spend": cut.spend}
        return event({"type": "error", "error": error, "request_id": cut.request_id}, name="error")

    def events(self, cut: Cut) -> list[dict[str, Any]]:
        """What the events of a shortened message say."""
        found: list[dict[str, Any]] = []
        if self._open is not None:
            found.append({"type": "content_block_stop", "index": self._open})
        if not self._stopped:
            delta = {"stop_reason": "max_tokens", "stop_sequence": None}
            usage = {"output_tokens": cut.output_tokens}
            found.append({"type": "message_delta", "delta": delta, "usage": usage, "spend": cut.spend})
        return [*found, {"type": "message_stop"}]


class GeminiEnd(StreamEnd):
    """Of a stream of chunks, as events or as items of one array."""

    def __init__(self) -> None:
        self._in_array = False
        self._base: dict[str, Any] = {}

    def framing(self, first: bytes) -> EventStream | None:
        """An array is read object by object."""
        self._in_array = first.startswith(b"[")
        return JsonStream() if self._in_array else super().framing(first)

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether it is the first chunk."""
        del name, data
        return not self._base

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in a chunk."""
        del name
        self._base = {key: members[key] for key in ("modelVersion", "responseId") if key in members} or {"": ""}

    def shortened(self, cut: Cut) -> bytes:
        """A last chunk that says `MAX_TOKENS`, with the counts."""
        usage = {
            "promptTokenCount": cut.input_tokens,
            "candidatesTokenCount": cut.output_tokens,
            "totalTokenCount": cut.input_tokens + cut.output_tokens,
        }
        content = {"role": "model", "parts": [{"text": ""}]}
        candidate = {"content": content, "finishReason": "MAX_TOKENS", "index": 0}
        named = {key: value for key, value in self._base.items() if key}
        return self._chunk({"candidates": [candidate], "usageMetadata": usage, **named, "spend": cut.spend})

    def failed(self, cut: Cut) -> bytes:
        """A chunk that is an error."""
        error = {"code": 402, "message": cut.detail, "status": "RESOURCE_EXHAUSTED", "spend": cut.spend}
        return self._chunk({"error": error})

    def _chunk(self, facts: dict[str, Any]) -> bytes:
        if not self._in_array:
            return b"data: " + ENCODER.encode(facts) + b"\r\n\r\n"
        return (b",\r\n" if self._base else b"[") + ENCODER.encode(facts) + b"\n]"


class ConverseEnd(StreamEnd):
    """Of a binary event stream of Amazon's Converse."""

    repeats = False

    def __init__(self) -> None:
        self._open: int | None = None
        self._stopped = False

    def framing(self, first: bytes) -> EventStream | None:
        """Binary messages begin with the high byte of a length, which is always 0."""
        return BinaryStream() if first.startswith(b"\0") else None

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether a block or the message begins or ends there; every delta may be the first of its block."""
        del data
        return name in {b"contentBlockStart", b"contentBlockDelta", b"contentBlockStop", b"messageStop"}

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in a message."""
        if name == b"messageStop":
            self._stopped = True
        else:
            self._open = None if name == b"contentBlockStop" else number_of(members.get("contentBlockIndex"))

    def shortened(self, cut: Cut) -> bytes:
        """`contentBlockStop`, `messageStop` with `max_tokens`, `metadata` with the counts."""
        written = b""
        if self._open is not None:
            written += _amazons("contentBlockStop", {"contentBlockIndex": self._open})
        if not self._stopped:
            written += _amazons("messageStop", {"stopReason": "max_tokens", "spend": cut.spend})
        usage = {
            "inputTokens": cut.input_tokens,
            "outputTokens": cut.output_tokens,
            "totalTokens": cut.input_tokens + cut.output_tokens,
        }
        return written + _amazons("metadata", {"usage": usage, "metrics": {"latencyMs": 0}})

    def failed(self, cut: Cut) -> bytes:
        """An exception, one that the clients do not send again."""
        return amazons_failure(cut)


def amazons_failure(cut: Cut) -> bytes:
    """An exception in a binary stream, one that the clients do not send again."""
    headers = {
        b":exception-type": b"validationException",
        b":content-type": b"application/json",
        b":message-type": b"exception",
    }
    return write_message(headers, ENCODER.encode({"message": cut.detail, "spend": cut.spend}))


def _amazons(kind: str, facts: dict[str, Any]) -> bytes:
    headers = {b":event-type": kind.encode(), b":content-type": b"application/json", b":message-type": b"event"}
    return write_message(headers, ENCODER.encode(facts))


class OllamaEnd(StreamEnd):
    """Of lines of Ollama's, of a chat or of a completion."""

    def __init__(self) -> None:
        self._base: dict[str, Any] = {}
        self._chats = True

    def framing(self, first: bytes) -> EventStream | None:
        """One object a line."""
        return LineStream() if first.startswith(b"{") else None

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether it is the first line."""
        del name, data
        return not self._base

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in a line."""
        del name
        self._chats = "response" not in members
        self._base = {key: members[key] for key in ("model", "created_at") if key in members} or {"model": ""}

    def shortened(self, cut: Cut) -> bytes:
        """A last line that is done, for its length."""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if self._chats else {"response": ""}
        base = {"model": "", "created_at": _CREATED_FIRST} | self._base
        counts = {"prompt_eval_count": cut.input_tokens, "eval_count": cut.output_tokens}
        last = base | said | {"done": True, "done_reason": "length"} | counts | {"spend": cut.spend}
        return ENCODER.encode(last) + b"\n"

    def failed(self, cut: Cut) -> bytes:
        """A line that is an error."""
        return ENCODER.encode({"error": cut.detail, "code": cut.reason, "spend": cut.spend}) + b"\n"


class CohereEnd(StreamEnd):
    """Of a chat of Cohere's second version."""

    repeats = False

    def __init__(self) -> None:
        self._open: int | None = None

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether a part of the content begins or ends."""
        del name
        return data.rfind(b"content-start") >= 0 or data.rfind(b"content-end") >= 0

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in an event."""
        kind = members.get("type") or name.decode("latin-1")
        self._open = number_of(members.get("index")) if kind == "content-start" else None

    def shortened(self, cut: Cut) -> bytes:
        """`content-end`, and `message-end` with `MAX_TOKENS` and the counts."""
        counts = {"input_tokens": cut.input_tokens, "output_tokens": cut.output_tokens}
        delta = {"finish_reason": "MAX_TOKENS", "usage": {"billed_units": counts, "tokens": counts}}
        return self._closed() + self._last(delta, cut)

    def failed(self, cut: Cut) -> bytes:
        """`message-end` with an error."""
        return self._closed() + self._last({"finish_reason": "ERROR", "error": cut.detail}, cut)

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        return event({"type": "content-end", "index": self._open}, name="content-end")

    def _last(self, delta: dict[str, Any], cut: Cut) -> bytes:
        return event({"type": "message-end", "delta": delta, "spend": cut.spend}, name="message-end")


class CohereFirstEnd(StreamEnd):
    """Of a chat of Cohere's first version: one object a line, the last with the whole text once more."""

    def __init__(self) -> None:
        self._id = ""
        self._texts: list[str] = []

    def framing(self, first: bytes) -> EventStream | None:
        """One object a line."""
        return LineStream() if first.startswith(b"{") else None

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in a line."""
        del name
        kind, text = members.get("event_type"), members.get("text")
        if kind == "stream-start":
            self._id = str(members.get("generation_id") or "")
        elif kind == "text-generation" and isinstance(text, str):
            self._texts.append(text)

    def shortened(self, cut: Cut) -> bytes:
        """`stream-end` with `MAX_TOKENS`, the text so far and the counts."""
        return self._last(cut, "MAX_TOKENS")

    def failed(self, cut: Cut) -> bytes:
        """`stream-end` that says `ERROR`, and why."""
        return self._last(cut, "ERROR", error=cut.detail)

    def _last(self, cut: Cut, reason: str, **more: str) -> bytes:
        counts = {"input_tokens": cut.input_tokens, "output_tokens": cut.output_tokens}
        answer = {
            "response_id": self._id,
            "generation_id": self._id,
            "text": "".join(self._texts),
            "chat_history": [],
            "finish_reason": reason,
            "meta": {"api_version": {"version": "1"}, "billed_units": counts, "tokens": counts},
        }
        last = {"is_finished": True, "event_type": "stream-end", "finish_reason": reason, "response": answer}
        return ENCODER.encode({**last, **more, "spend": cut.spend}) + b"\n"
