"""The end of a stream of a model that is invoked at Bedrock: its own last events, within binary messages.

Source: boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json` (ResponseStream), docs.aws.amazon.com "Inference
request parameters and response fields for foundation models" (Claude, Nova, Llama), recorded streams; checked 2026-11.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from sidecar.providers.bedrock_usage import METRICS
from sidecar.providers.binary_stream import BinaryStream, write_message
from sidecar.providers.counters import decode_object
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.other_ends import AnthropicEnd, amazons_failure
from sidecar.providers.request_json import read_object
from sidecar.providers.stream_end import ENCODER, Cut, StreamEnd, number_of

_HEADERS: Final = {b":event-type": b"chunk", b":content-type": b"application/json", b":message-type": b"event"}


class InvokedEnd(StreamEnd):
    """Of one family's; what it says is within messages, in base64."""

    repeats = False

    def framing(self, first: bytes) -> EventStream | None:
        """Binary messages begin with the high byte of a length, which is always 0."""
        return BinaryStream() if first.startswith(b"\0") else None

    def see(self, name: bytes, data: bytes) -> None:
        """Take in a message that is passed on: the event in it."""
        written = (decode_object(data) or {}).get("bytes") if name == b"chunk" else None
        if isinstance(written, str):
            try:
                super().see(b"", base64.b64decode(written))
            except (binascii.Error, ValueError):
                return

    def shortened(self, cut: Cut) -> bytes:
        """The last events, the very last with Bedrock's own counts."""
        *events, last = self.events(cut)
        counts = {"inputTokenCount": cut.input_tokens, "outputTokenCount": cut.output_tokens}
        metrics = {**counts, "invocationLatency": 0, "firstByteLatency": 0}
        return b"".join(map(_chunk, (*events, {**last, METRICS: metrics})))

    def failed(self, cut: Cut) -> bytes:
        """An exception."""
        return amazons_failure(cut)

    def events(self, cut: Cut) -> list[dict[str, Any]]:
        """What ends it, in its family's words; one event at least."""
        raise NotImplementedError


class ClaudeInvokedEnd(InvokedEnd):
    """Of a message of Anthropic's."""

    def __init__(self) -> None:
        self._message = AnthropicEnd()

    def concerns(self, name: bytes, data: bytes) -> bool:
        """As of a message."""
        return self._message.concerns(name, data)

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """As of a message."""
        self._message.take(name, members)

    def events(self, cut: Cut) -> list[dict[str, Any]]:
        """As of a message."""
        return self._message.events(cut)


class NovaInvokedEnd(InvokedEnd):
    """Of a message of Nova's: Converse's events, each the one member of an object."""

    def __init__(self) -> None:
        self._open: int | None = None
        self._stopped = False

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in an event."""
        del name
        for kind in ("contentBlockStart", "contentBlockDelta", "contentBlockStop"):
            if isinstance(block := members.get(kind), dict):
                self._open = None if kind == "contentBlockStop" else number_of(block.get("contentBlockIndex"))
        self._stopped = self._stopped or "messageStop" in members

    def events(self, cut: Cut) -> list[dict[str, Any]]:
        """`contentBlockStop`, `messageStop` with `max_tokens`, `metadata` with the counts."""
        found: list[dict[str, Any]] = []
        if self._open is not None:
            found.append({"contentBlockStop": {"contentBlockIndex": self._open}})
        if not self._stopped:
            found.append({"messageStop": {"stopReason": "max_tokens"}, "spend": cut.spend})
        usage = {"inputTokens": cut.input_tokens, "outputTokens": cut.output_tokens}
        return [*found, {"metadata": {"usage": usage, "metrics": {}}}]


class LlamaInvokedEnd(InvokedEnd):
    """Of a text of Llama's: pieces of it, the last with the reason."""

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Nothing: no piece leaves anything open."""
        del name, data
        return False

    def events(self, cut: Cut) -> list[dict[str, Any]]:
        """A piece without text that says `length`."""
        counts = {"prompt_token_count": cut.input_tokens, "generation_token_count": cut.output_tokens}
        return [{"generation": "", **counts, "stop_reason": "length", "spend": cut.spend}]


def invoked_end(facts: RequestFacts) -> StreamEnd | None:
    """What ends a stream of the model that a request invokes; None for a family whose end is not known."""
    model = facts.model.lower()
    if "claude" in model:  # the older, of prompts and completions, are gone
        return ClaudeInvokedEnd() if "anthropic_version" in read_object(facts.body) else None
    if "nova" in model:
        return NovaInvokedEnd()
    return LlamaInvokedEnd() if "llama" in model else None


def _chunk(facts: dict[str, Any]) -> bytes:
    written = base64.b64encode(ENCODER.encode(facts)).decode()
    return write_message(_HEADERS, ENCODER.encode({"bytes": written}))
