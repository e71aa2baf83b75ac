"""Cohere's chat, of both versions, and its embeddings.

What is billed stands in `billed_units`; `tokens` is what was processed, with the templates that nobody pays for, and
is information. The second version streams server-sent events, whose `message-end` has the usage; the first streams
objects line by line, whose `stream-end` repeats the whole answer.

Source: cohere-ai/cohere-python `src/cohere/types/` (ApiMeta, Usage, V2ChatStreamResponse, StreamedChatResponse),
docs.cohere.com "Chat API", "Embed API", and 90 recorded answers; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.json_stream import JsonStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    REASONS_MAX,
    Members,
    not_known,
    read_flag,
    read_inner,
    read_model,
    read_object,
    read_objects,
    read_whole,
    says_something,
    text_of,
    unknown_fields,
)
from sidecar.providers.token_estimates import (
    EMBEDDING_BASE,
    Family,
    embedded_text_frame,
    family_of,
    may_reason_unseen,
    prompt_bound,
)

_TEXT: Final = re.compile(rb'"(?:text|thinking|arguments)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')

_FREE: Final = frozenset({
    "citation_options", "citation_quality", "documents", "frequency_penalty", "k", "logprobs", "max_input_tokens",
    "max_tokens", "model", "p", "preamble", "presence_penalty", "priority", "prompt_truncation", "raw_prompting",
    "response_format", "return_prompt", "safety_mode", "seed", "stop_sequences", "stream", "strict_tools",
    "temperature", "thinking", "tool_choice", "tools",
})  # fmt: skip
"""Fields of both versions that cannot make a call cost more than its bytes and its output limit say."""

_FREE_V1: Final = _FREE | {"message", "chat_history", "tool_results", "force_single_step"}
_FREE_V2: Final = _FREE | {"messages"}
_FREE_EMBED: Final = frozenset(
    {"embedding_types", "input_type", "max_tokens", "model", "output_dimension", "priority", "texts", "truncate"}
)
_PLAIN_PARTS: Final = frozenset({"text", "thinking", "document"})


class CohereChat:
    """The dialect of `/v2/chat`, or with `first` of `/v1/chat`."""

    def __init__(self, *, first: bool = False) -> None:
        self.name = "cohere.chat_v1" if first else "cohere.chat"
        self._first = first

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        del target
        members = read_object(body)
        model = read_model(members)
        family = family_of(model)
        limit = read_whole(members, "max_tokens", least=0, most=OUTPUT_LIMIT_MAX) or None
        unbounded = _unknown(members, _FREE_V1 if self._first else _FREE_V2)
        media_bytes, media_tokens = _read_messages(members.get("messages"), family, unbounded)
        tools = members.get("tools")
        bound = prompt_bound(
            family,
            text_bytes=len(body) - media_bytes,
            tools=_count(tools.raw if tools is not None else b"[]"),
            structured=says_something(members.get("response_format")),
            media_tokens=media_tokens,
        )
        ceiling = Ceiling(model=model, input_tokens=bound, output_limit=limit, unbounded=tuple(unbounded))
        may_reason = may_reason_unseen(model) or "reasoning" in model
        return RequestFacts(ceiling, read_flag(members, "stream"), body, may_reason=may_reason)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; not below a budget for thinking."""
        del own_field
        members = read_object(facts.body)
        if tokens <= _thinking_budget(members):
            return None
        body = splice_whole(facts.body, members, "max_tokens", tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; the first version's stream begins as a single answer does, so the request tells."""
        del lines
        reading = CohereReading(lines=self._first and facts.stream)
        return Meter(facts, reading, status=status, content_encoding=content_encoding)


class CohereEmbed:
    """The dialect of `/v2/embed` and `/v1/embed`."""

    name = "cohere.embed"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        del target
        members = read_object(body)
        model = read_model(members)
        texts = members.get("texts")
        count = 1 if texts is None else max(1, _count(texts.raw))
        bound = len(body) + EMBEDDING_BASE + embedded_text_frame(model) * count
        unbounded = tuple(_unknown(members, _FREE_EMBED))
        return RequestFacts(Ceiling(model, bound, 0, unbounded=unbounded), stream=False, body=body)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """Never: there is no output to shorten."""
        del facts, tokens, own_field
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`."""
        del lines
        return Meter(facts, CohereReading(embeds=True), status=status, content_encoding=content_encoding)


def _unknown(members: Members, known: frozenset[str]) -> list[str]:
    """Why a request has no bound, by its top-level fields."""
    return unknown_fields(members, known, _REASONS)[:REASONS_MAX]


_REASONS: Final = {
    "connectors": "connectors: they search at the provider, and what they find is input",
    "conversation_id": "conversation_id: the conversation is held at the provider",
}


def _read_messages(member: Any, family: Family, unbounded: list[str]) -> tuple[int, int]:
    """Bytes of the body that are pictures, and the tokens that bound them; a part that is not known has no bound."""
    media_bytes = media_tokens = 0
    if member is None:
        return 0, 0
    try:
        for message in read_objects(member.raw, param="messages", usual=("role", "content"), read_on=("content",)):
            content = bytes(message.get("content", b""))
            for part in read_objects(content, param="content", usual=("type", "text")) if content[:1] == b"[" else ():
                kind = text_of(part.get("type"))
                if kind == "image_url":
                    media_tokens += family.image
                    url = text_of(read_inner(bytes(part.get("image_url", b"")), param="image_url").get("url")) or ""
                    media_bytes += len(url) if url.isascii() and url.startswith("data:") else 0
                elif kind not in _PLAIN_PARTS:
                    unbounded.append(not_known(kind or "(none)", "content part "))
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        unbounded.append("messages of an unknown shape")
    return media_bytes, media_tokens


def _count(tools: bytes) -> int:
    try:
        return len(_LISTED.decode(tools))
    except (ValueError, RecursionError):
        return 0


_LISTED: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _thinking_budget(members: Members) -> int:
    written = members.get("thinking")
    raw = read_inner(written.raw, param="thinking").get("token_budget", b"0") if written is not None else b"0"
    return int(raw) if raw.isdigit() and len(raw) < 10 else 0


class CohereReading(Reading):
    """What an answer has said so far, event by event or in one. `lines`: a stream of objects, one a line."""

    text_pattern = _TEXT

    def __init__(self, *, lines: bool = False, embeds: bool = False) -> None:
        super().__init__()
        self._lines = lines
        self._embeds = embeds
        self._usage: dict[str, Any] | None = None
        self._raw = b""
        self._unreadable = False

    def stream_for(self, first: bytes) -> EventStream | None:
        """The first version's stream is objects, one after another."""
        return JsonStream() if self._lines and first.startswith(b"{") else None

    def wants(self, events: bytes) -> bool:
        """Whether the end or a failure is in it."""
        return events.rfind(b"message-end") >= 0 or events.rfind(b"stream-end") >= 0 or events.rfind(b"rror") >= 0

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        members = members_of(data)
        if members is None:
            self.error = self.error or name == b"error"
            return False
        kind = decode_text(members.get("type")) or decode_text(members.get("event_type")) or name.decode("latin-1")
        if kind == "message-end":
            delta = members_of(bytes(members.get("delta", b""))) or {}
            self.error = self.error or decode_text(delta.get("finish_reason")) in _FAILED or "error" in delta
            self._take(delta.get("usage"))
            self.done = True
        elif kind == "stream-end":
            self.error = self.error or decode_text(members.get("finish_reason")) in _FAILED
            self.read_body(members_of(bytes(members.get("response", b""))) or {})
            self.done = True
        elif kind == "error" or not (kind or members.keys() - {"id", "message"}):
            self.error = True
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer."""
        for name in ("id", "response_id", "generation_id"):
            self.request_id = self.request_id or decode_text(members.get(name))
        self.error = self.error or bytes(members.get("message", b"")).startswith(b'"')  # an answer's is an object
        self._take(members.get("usage") or members.get("meta"))

    def told(self) -> Told | None:
        """The figures, which come once and are the last."""
        if self._usage is None and not self._unreadable:
            return None
        usage = self._usage or {}
        counts = Counts(usage)
        given, made = (counts.get("billed_units", f"{side}_tokens") for side in ("input", "output"))
        tokens = Tokens(
            input_tokens=given,
            output_tokens=made,
            reasoning_tokens=counts.get("tokens", "reasoning_tokens"),
        )
        units = {name: count for name in _BILLED_UNITS if (count := counts.get("billed_units", name))}
        units |= {
            name: count
            for name, count, billed in (
                ("processed_input_tokens", counts.get("tokens", "input_tokens"), given),
                ("processed_output_tokens", counts.get("tokens", "output_tokens"), made),
                ("processed_cached_tokens", counts.get("cached_tokens"), None),
            )
            if count is not None and count != billed
        }
        return Told(
            lines=(Line(tokens),),
            raw=self._raw,
            closing=not self.missed,
            odd=counts.odd or self._unreadable or given is None or (made is None and not self._embeds),
            units=units,
        )

    def _take(self, raw: msgspec.Raw | None) -> None:
        if raw is None or bytes(raw) in (b"null", b"{}"):
            return
        usage = decode_object(raw)
        if usage is not None and "billed_units" not in usage and "tokens" not in usage:
            return  # a warning, or the version alone
        self._usage, self._unreadable = usage, usage is None
        self._raw = bytes(raw)
        self.missed = False


_FAILED: Final = frozenset({"ERROR", "ERROR_TOXIC", "ERROR_LIMIT", "TIMEOUT"})
_BILLED_UNITS: Final = ("search_units", "classifications", "images", "image_tokens")
