"""OpenAI chat completions, and every server that speaks them: what a request may cost, what an answer did.

A stream tells its usage only if asked, so a request that does not ask has the question spliced into
its bytes, and the one chunk that answers it is hidden from the caller again. Where the usage stands
differs between servers: in a chunk of its own, beside the last choice, in `x_groq`, on every chunk
and growing. The last one that is not null is the usage.

Sources: openai/openai-openapi openapi.json, openai/openai-python src/openai/types/chat/, the API
references of Groq, Mistral, DeepSeek, OpenRouter, Perplexity and vLLM; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line
from sidecar.providers.counters import decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.openai_prompt import KNOWN_FIELDS, Prompt, read_prompt
from sidecar.providers.openai_usage import breakdown_lines, read_usage
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    Members,
    read_flag,
    read_model,
    read_object,
    read_whole,
    read_word,
    says_something,
    shown,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound, searches_by_itself

CHOICES_MAX: Final = 128
"""The largest `n` that OpenAI takes."""

_ASK: Final = b'"include_usage":true'
_OPEN: Final = re.compile(rb"\s*\{")
_USAGE_SAID: Final = re.compile(rb'"usage"\s*:\s*\{')
_TEXT: Final = re.compile(
    rb'"(?:content|arguments|reasoning_content|reasoning|refusal|text|transcript)": ?'
    rb'"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"'
)
_DONE: Final = b"[DONE]"


class OpenAIChat:
    """The dialect of `…/chat/completions`."""

    name = "openai.chat"

    def read_request(self, body: bytes) -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = read_model(members)
        stream = read_flag(members, "stream")
        limit = _output_limit(members)
        choices = read_whole(members, "n", least=1, most=CHOICES_MAX) or 1
        tier = read_word(members, "service_tier")
        prompt = read_prompt(members, model)
        if prompt.predicted_bytes and limit is not None:
            limit += prompt.predicted_bytes
        ceiling = Ceiling(
            model=model,
            input_tokens=prompt_bound(
                family_of(model),
                text_bytes=len(body) - prompt.media_bytes,
                tools=prompt.tools,
                structured=says_something(members.get("response_format")),
                media_tokens=prompt.media_tokens,
            ),
            output_limit=limit,
            choices=choices,
            tier="priority" if tier == "fast" else tier,  # asked for as `fast`, served and billed as `priority`
            cache_write="5m",  # models that write caches do so unasked, and report it
            audio=prompt.audio,
            unbounded=_unbounded(members, model, prompt, limit),
        )
        may_reason = may_reason_unseen(model) or any(
            says_something(members.get(name)) for name in ("reasoning_effort", "reasoning", "thinking")
        )
        asked = body if not stream else ask_for_usage(body, members)
        return RequestFacts(ceiling, stream, asked, hide_usage=asked is not body, may_reason=may_reason)

    def meter(self, facts: RequestFacts, *, status: int, content_type: str, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the content type is not looked at."""
        return Meter(facts, OpenAIChatReading(), status=status, content_encoding=content_encoding)


def ask_for_usage(body: bytes, members: Members) -> bytes:
    """The body with `stream_options.include_usage` true: itself if it is so already, else spliced.

    Raises:
        BadRequest: `stream_options` is neither an object nor null, or says a thing twice.
    """
    options = members.get("stream_options")
    if options is None:
        opened = _OPEN.match(body)
        at = opened.end() if opened else 0
        return body[:at] + b'"stream_options":{' + _ASK + b"}," + body[at:]
    if options.raw == b"null":
        return body[: options.start] + b"{" + _ASK + b"}" + body[options.end :]
    inner = read_object(options.raw, param="stream_options")
    said = inner.get("include_usage")
    if said is None:
        at = options.start + 1
        return body[:at] + _ASK + (b"," if inner else b"") + body[at:]
    if said.raw == b"true":
        return body
    if said.raw not in (b"false", b"null"):
        raise BadRequest("`stream_options.include_usage` must be true or false.", param="stream_options")
    return body[: options.start + said.start] + b"true" + body[options.start + said.end :]


def _output_limit(members: Members) -> int | None:
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in members]
    limits = [read_whole(members, name, least=1, most=OUTPUT_LIMIT_MAX) for name in names]
    told = [limit for limit in limits if limit is not None]
    if len(told) > 1:
        raise BadRequest("Give `max_completion_tokens` or `max_tokens`, not both.", param="max_tokens")
    return told[0] if told else None


def _unbounded(members: Members, model: str, prompt: Prompt, limit: int | None) -> tuple[str, ...]:
    features = list(prompt.unbounded)
    if searches_by_itself(model):
        features.append(f"model {shown(model)}: it runs searches of its own")
    if says_something(members.get("web_search_options")):
        features.append("web_search_options: what a search finds is billed as input")
    if prompt.predicted_bytes and limit is None:
        features.append("prediction without max_completion_tokens: rejected tokens are billed as output")
    for name, member in members.items():
        if name not in KNOWN_FIELDS and says_something(member):
            features.append(f"field {shown(name)}: not known, so its cost is not either")
    return tuple(dict.fromkeys(features))


class OpenAIChatReading(Reading):
    """What a chat completion has said so far, chunk by chunk or in one."""

    text_pattern = _TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: msgspec.Raw | None = None
        self._breakdown: msgspec.Raw | None = None
        self._last = False  # the usage stood where a server's last one stands

    def wants(self, events: bytes) -> bool:
        """Whether usage, an error, the end, or the first chunk (for its id) is in it."""
        # `rfind` and not `in`: for words this short it takes less than half the time.
        return (
            _USAGE_SAID.search(events) is not None
            or events.rfind(b"error") >= 0
            or events.rfind(_DONE) >= 0
            or self.request_id is None
        )

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in a chunk; true for the chunk that only tells the usage."""
        if data == _DONE:
            self.done = True
            return False
        members = members_of(data)
        if name == b"error":
            self.error = True
        if members is None:
            return False
        return self._read(members)

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer."""
        self._read(members)
        self._last = True

    def told(self, *, complete: bool) -> Told | None:
        """The last usage that was not null."""
        usage = decode_object(self._usage)
        read = read_usage(usage) if usage is not None else None
        if read is None:
            if self._usage is None or usage == {}:
                return None
            return Told((), bytes(self._usage), closing=False, odd=True)
        parts = breakdown_lines(decode_object(self._breakdown), read.tokens) if self._breakdown else ()
        return Told(
            lines=parts or (Line(read.tokens, self.model),),
            raw=bytes(self._usage or b""),
            closing=complete or self.done or self._last,
            odd=read.odd,
            units=read.units,
            cost=read.cost,
            notes=read.notes,
        )

    def _read(self, members: dict[str, msgspec.Raw]) -> bool:
        self.request_id = decode_text(members.get("id")) or self.request_id or ""
        self.model = decode_text(members.get("model")) or self.model
        self.tier = decode_text(members.get("service_tier")) or self.tier
        self.error = self.error or _is_said(members.get("error"))
        groq = members_of(bytes(members["x_groq"])) if "x_groq" in members else None
        told = False
        for holder in (groq, members):
            if holder is not None and _is_said(holder.get("usage")):
                self._usage, told = holder["usage"], True
            if holder is not None and _is_said(holder.get("usage_breakdown")):
                self._breakdown = holder["usage_breakdown"]
        choices = bytes(members.get("choices", b""))
        alone = choices.strip(b"[] \t\r\n") == b""
        if told:
            self._last = alone or re.search(rb'"finish_reason"\s*:\s*"', choices) is not None
        return told and alone and "choices" in members


def _is_said(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) != b"null"
