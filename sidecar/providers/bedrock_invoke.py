"""Amazon Bedrock's InvokeModel and InvokeModelWithResponseStream: each model's own requests and answers.

Claude's are Anthropic's messages without `model` and `stream`, and are read as those. Nova's are Converse's. Of the
others the limit of the output is read by whatever name its family has for it, and a field that is not known has no
bound. A stream is of binary messages each of which holds, in base64, an event of the model's own; the last has
Bedrock's metrics with it. An answer that is not streamed has Bedrock's counts in its head.

Source: docs.aws.amazon.com "Inference request parameters and response fields for foundation models", boto/botocore
`data/bedrock-runtime/2023-09-30/service-2.json`, anthropics/anthropic-sdk-python `src/anthropic/lib/bedrock/`, and
100 recorded answers; checked 2026-11.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line
from sidecar.providers.anthropic import AnthropicMessages, AnthropicReading
from sidecar.providers.bedrock import hidden_prompt, is_streamed, model_in
from sidecar.providers.bedrock_head import tier_served
from sidecar.providers.bedrock_prompt import cache_lifetime, read_prompt
from sidecar.providers.bedrock_usage import METRICS, BedrockUsage, read_invoked, read_lines, read_metrics
from sidecar.providers.binary_stream import BinaryStream, read_message
from sidecar.providers.cohere_others import RERANK_FIELDS, SEARCH_UNITS, generations_asked, search_units
from sidecar.providers.counters import decode_object, members_of
from sidecar.providers.dialect import AnswerMeter, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_whole, splice_within
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    Members,
    not_known,
    read_object,
    read_whole,
    says_something,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

_CHUNK: Final = re.compile(rb'"bytes":[ ]?"([A-Za-z0-9+/=]*)"')
_TEXT: Final = re.compile(
    rb'"(?:text|completion|outputText|generation|content|input)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"'
)
_METRICS: Final = METRICS.encode()
_TITANS_TOTAL: Final = b'"totalOutputTextTokenCount"'

_LIMITS: Final = (
    ("max_tokens",), ("max_gen_len",), ("maxTokens",), ("max_tokens_to_sample",), ("max_completion_tokens",),
    ("textGenerationConfig", "maxTokenCount"), ("inferenceConfig", "maxTokens"), ("inferenceConfig", "max_new_tokens"),
)  # fmt: skip
"""Where the families have the limit of their output; a request has one of them."""

_FREE: Final = frozenset({
    "dimensions", "embedding_types", "embeddingTypes", "frequency_penalty", "input_type", "inputText", "k",
    "max_completion_tokens", "max_gen_len", "max_tokens", "max_tokens_to_sample", "maxTokens", "normalize",
    "output_dimension", "p", "presence_penalty", "prompt", "reasoning_effort", "return_likelihoods", "seed", "stop",
    "stop_sequences", "stopSequences", "stream", "temperature", "texts", "textGenerationConfig", "top_k", "top_p",
    "topP", "truncate",
})  # fmt: skip
"""Fields of the models that take a text, which cannot make a call cost more than its bytes and its limit say."""

_TEXT_CONFIG: Final = frozenset({"maxTokenCount", "stopSequences", "temperature", "topP"})
_CONVERSE_CONFIG: Final = frozenset({"maxTokens", "max_new_tokens", "stopSequences", "temperature", "topK", "topP"})


class BedrockInvoke:
    """The dialect of `/model/{id}/invoke` and `/invoke-with-response-stream`."""

    name = "bedrock.invoke"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; the model is the path's."""
        model = model_in(target)
        members = read_object(body)
        stream = is_streamed(target)
        if "anthropic_version" in members and "messages" in members:
            facts = _MESSAGES.read_members(members, body, model, stream=stream)
            unbounded = (*facts.ceiling.unbounded, *hidden_prompt(model))
            return msgspec.structs.replace(facts, ceiling=msgspec.structs.replace(facts.ceiling, unbounded=unbounded))
        return _read_plain(members, body, model, stream=stream)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; a request of a family whose name for the limit is not in it is not shortened."""
        members = read_object(facts.body)
        if "anthropic_version" in members and "messages" in members:
            return _MESSAGES.limit_output(facts, tokens, own_field=own_field)
        for path in _LIMITS:
            if path[0] not in members:
                continue
            if len(path) == 1:
                body = splice_whole(facts.body, members, path[0], tokens)
            elif path[1] in read_object(members[path[0]].raw):
                body = splice_within(facts.body, members, (path[0], path[1]), tokens)
            else:
                continue
            return facts.limited_to(body, tokens)
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; the head is the only place of some models' counts."""
        is_claude = "claude" in facts.model.lower() and not facts.model.rpartition(".")[2].startswith("claude-v")
        reading = ClaudeReading() if is_claude else InvokeReading(read_lines(lines))
        reading.tier = tier_served(lines)
        return Meter(facts, reading, status=status, content_encoding=content_encoding)


_MESSAGES: Final = AnthropicMessages()


def _read_plain(members: Members, body: bytes, model: str, *, stream: bool) -> RequestFacts:
    """A request of a family that takes a text, or Converse's messages (Nova)."""
    family = family_of(model)
    prompt = read_prompt(
        {name: members[name] for name in ("messages", "system", "toolConfig") if name in members}, family, model
    )
    unbounded = [*prompt.unbounded, *hidden_prompt(model)]
    known = _FREE | {"messages", "system", "toolConfig", "inferenceConfig", "schemaVersion"}
    if "rerank" in model:
        known |= RERANK_FIELDS
    elif "cohere" in model:
        known |= {"num_generations"}
    for name, member in members.items():
        if name not in known and says_something(member):
            unbounded.append(not_known(name))
    for outer, inner in (("textGenerationConfig", _TEXT_CONFIG), ("inferenceConfig", _CONVERSE_CONFIG)):
        if outer in members and members[outer].raw != b"null":
            unknown = read_object(members[outer].raw, param=outer).keys() - inner
            unbounded += [not_known(name, f"{outer}.") for name in sorted(unknown)[:4]]
    embeds, ranks = "embed" in model, "rerank" in model
    units: tuple[tuple[str, int], ...] = ()
    if ranks:
        most, reasons = search_units(members)
        units = ((SEARCH_UNITS, most),)
        unbounded += reasons
    ceiling = Ceiling(
        model=model,
        input_tokens=0
        if ranks
        else prompt_bound(
            family,
            text_bytes=len(body) - prompt.media_bytes,
            tools=prompt.tools,
            structured=False,
            media_tokens=prompt.media_tokens,
        ),
        output_limit=0 if embeds or ranks else _limit(members),
        choices=generations_asked(members) if "num_generations" in members else 1,
        cache_write=cache_lifetime(body),
        unbounded=tuple(unbounded),
        units=units,
    )
    return RequestFacts(ceiling, stream, body, may_reason=may_reason_unseen(model))


def _limit(members: Members) -> int | None:
    """The largest limit that the request names; None where it names none.

    Raises:
        BadRequest: one is no whole number.
    """
    found = []
    for path in _LIMITS:
        where = members
        for outer in path[:-1]:
            where = read_object(where[outer].raw, param=outer) if outer in where and where[outer].raw != b"null" else {}
        found.append(read_whole(where, path[-1], least=0, most=OUTPUT_LIMIT_MAX))
    named = [limit for limit in found if limit is not None]
    return max(named) if named else None


class InvokeStream(BinaryStream):
    """A `BinaryStream` of an invoked model: gives its events, one a line, as they stand within the messages.

    A failure is a line of its own: its name with `!` before it, which no JSON begins with. What `offset` counts is
    not what was given, so nothing of such a stream can be hidden.
    """

    __slots__ = ()

    def feed(self, piece: bytes) -> bytes:
        """The events that `piece` completes, each with a line end behind it.

        Raises:
            WireFormatError: a message is not as it was sent.
        """
        run = super().feed(piece)
        return b"".join([_inner(message) for _, message in super().split(run)]) if run else b""

    def split(self, events: bytes) -> Iterator[tuple[int, bytes]]:
        """Each event of a run, with its offset in the run."""
        start = 0
        for line in events.split(b"\n"):
            if line:
                yield start, line
            start += len(line) + 1

    def read(self, event: bytes) -> tuple[bytes, bytes]:
        """The failure's name, or none and the event."""
        return (event, b"") if event.startswith(b"!") else (b"", event)


def _inner(raw: bytes) -> bytes:
    message = read_message(raw)
    if message.name.startswith(b"!"):
        return message.name.replace(b"\n", b" ") + b"\n"
    found = _CHUNK.search(message.payload)
    try:
        event = base64.b64decode(found[1]) if found else b""
    except binascii.Error:
        return b""
    return event.replace(b"\n", b" ") + b"\n"  # a line end within JSON is a blank


class ClaudeReading(AnthropicReading):
    """An Anthropic message, invoked at Bedrock: its events within binary messages."""

    def stream_for(self, first: bytes) -> EventStream | None:
        """Binary messages begin with the high byte of a length, which is always 0."""
        return InvokeStream() if first.startswith(b"\0") else None

    def wants(self, events: bytes) -> bool:
        """As for a message; a failure is told by its mark."""
        return events.startswith(b"!") or events.rfind(b"\n!") >= 0 or super().wants(events)

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        if name.startswith(b"!"):
            self.error = True
            return False
        return super().read_event(name, data)


class InvokeReading(Reading):
    """What another model's answer has said so far; `counted` is what its head told of."""

    text_pattern = _TEXT

    def __init__(self, counted: BedrockUsage | None) -> None:
        super().__init__()
        self._counted = counted
        self._raw = b""
        self._ended = False

    def stream_for(self, first: bytes) -> EventStream | None:
        """Binary messages begin with the high byte of a length, which is always 0."""
        return InvokeStream() if first.startswith(b"\0") else None

    def wants(self, events: bytes) -> bool:
        """Whether the metrics or a failure are in it."""
        told = events.rfind(_METRICS) >= 0 or events.rfind(_TITANS_TOTAL) >= 0
        return told or events.startswith(b"!") or events.rfind(b"\n!") >= 0

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        if name.startswith(b"!"):
            self.error = True
            return False
        members = members_of(data) or {}
        metrics = decode_object(members.get(METRICS))
        if metrics is not None:
            self._counted, self._raw = read_metrics(metrics), bytes(members[METRICS])
            self.done = self._ended = True
            self.missed = False
        elif bytes(members.get("totalOutputTextTokenCount", b"null")) != b"null":  # Titan, where a guardrail stepped in
            self._counted = read_invoked(_figures(members))
            self._ended = True
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer: its own figures, where it has any, before those of the head."""
        self.error = self.error or members.keys() == {"message"}
        read = read_invoked(_figures(members))
        if read is not None and (self._counted is None or not read.odd):
            self._counted = read
            self._raw = bytes(members.get("usage", b""))
        self._ended = True

    def told(self) -> Told | None:
        """The figures; a stream's come once and are the last, a head's count once the answer is whole."""
        if self._counted is None:
            return None
        closing = self._ended and not self.missed
        return Told((Line(self._counted.tokens),), self._raw, closing=closing, odd=self._counted.odd)


_DECODER: Final = msgspec.json.Decoder()
_FIGURES: Final = (
    "usage", "inputTextTokenCount", "prompt_token_count", "generation_token_count", "results",
    "totalOutputTextTokenCount",
)  # fmt: skip


def _figures(members: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """The members of an answer that have to do with its usage, decoded."""
    return {name: _DECODER.decode(members[name]) for name in _FIGURES if name in members}
