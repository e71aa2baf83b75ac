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
from sidecar.providers.counters import (
    TEXT_MAX,
    USAGE_FELL,
    WORD_MAX,
    decode_object,
    decode_text,
    decode_word,
    members_of,
)
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.doors import Kind
from sidecar.providers.metering import REFUSED_AFTER_WORK, Meter, Reading, Told
from sidecar.providers.openai_prompt import KNOWN_FIELDS, Prompt, asks_for_nothing, read_prompt
from sidecar.providers.openai_usage import breakdown_lines, output_of, read_plain_usage, read_usage
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    Members,
    not_known,
    read_flag,
    read_object,
    read_whole,
    read_word,
    says_something,
    shown,
)
from sidecar.providers.request_model import model_asked
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound, searches_by_itself

CHOICES_MAX: Final = 128
"""The largest `n` that OpenAI takes."""

_OWN_FIELD_ONLY: Final = ("o1", "o3", "o4", "gpt-5", "codex-")
"""Models that refuse `max_tokens`, behind whatever gateway; no other server serves them.

Source: developers.openai.com/api/reference, chat completions, `max_tokens`; checked 2026-11.
"""

_REASONING_FIELDS: Final = ("reasoning_effort", "reasoning", "thinking")
_ASK: Final = b'"include_usage":true'
_OPEN: Final = re.compile(rb"\s*\{")
_USAGE: Final = b'"usage"'
_USAGE_SAID: Final = re.compile(rb'"usage"\s*:\s*\{')
_TEXT: Final = re.compile(
    rb'"(?:content|arguments|reasoning_content|reasoning|refusal|text|transcript)": ?'
    rb'"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"'
)
_DONE: Final = b"[DONE]"
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"')


class OpenAIChat:
    """The dialect of `…/chat/completions`."""

    name = "openai.chat"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = model_asked(members, target)
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
        may_reason = may_reason_unseen(model)
        for name in _REASONING_FIELDS:
            may_reason = may_reason or says_something(members.get(name))
        asked = body if not stream else ask_for_usage(body, members)
        return RequestFacts(
            ceiling,
            stream,
            asked,
            hide_usage=asked is not body,
            may_reason=may_reason,
            later=Kind.BACKGROUND if "deferred" in members and read_flag(members, "deferred") else "",  # xAI's
            own_limit=says_something(members.get("max_completion_tokens")),
        )

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; with a `prediction` none, since what of it is rejected is billed beyond the limit."""
        members = read_object(facts.body)
        if says_something(members.get("prediction")):
            return None
        own_field = own_field or facts.model.rpartition("/")[2].startswith(_OWN_FIELD_ONLY)
        field = "max_completion_tokens" if own_field else "max_tokens"
        for name in ("max_completion_tokens", "max_tokens"):
            if says_something(members.get(name)):
                field = name
        body = splice_whole(facts.body, members, field, tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        return Meter(facts, OpenAIChatReading(facts.ceiling.choices), status=status, content_encoding=content_encoding)


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
    new = read_whole(members, "max_completion_tokens", least=1, most=OUTPUT_LIMIT_MAX)
    old = read_whole(members, "max_tokens", least=1, most=OUTPUT_LIMIT_MAX)
    if new is not None and old is not None:
        raise BadRequest("Give `max_completion_tokens` or `max_tokens`, not both.", param="max_tokens")
    return old if new is None else new


def _unbounded(members: Members, model: str, prompt: Prompt, limit: int | None) -> tuple[str, ...]:
    features = list(prompt.unbounded)
    if searches_by_itself(model):
        features.append(f"model {shown(model)}: it runs searches of its own")
    if says_something(members.get("web_search_options")):
        features.append("web_search_options: what a search finds is billed as input")
    if prompt.predicted_bytes and limit is None:
        features.append("prediction without max_completion_tokens: rejected tokens are billed as output")
    for name, member in members.items():
        if name not in KNOWN_FIELDS and not asks_for_nothing(name, member):
            features.append(not_known(name))
    return tuple(dict.fromkeys(features)) if features else ()


class _Answer(msgspec.Struct):
    """A whole answer's members that matter; what is unsaid stays empty."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    usage_breakdown: msgspec.Raw = msgspec.Raw()
    x_groq: msgspec.Raw = msgspec.Raw()


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class OpenAIChatReading(Reading):
    """What a chat completion has said so far, chunk by chunk or in one."""

    text_pattern = _TEXT

    def __init__(self, choices: int = 1) -> None:
        super().__init__()
        self._choices = choices
        self._usage: msgspec.Raw | None = None
        self._breakdown: msgspec.Raw | None = None
        self._last = False  # the usage stood where a server's last one stands
        self._stale = False  # text came after it
        self._fell = False  # one beside a choice was less than one before: it may be of that choice alone

    def wants(self, events: bytes) -> bool:
        """Whether usage, an error, the end, or the first chunk (for its id) is in it."""
        # `rfind` and not `in`: for words this short it takes less than half the time.
        return (
            (events.rfind(_USAGE) >= 0 and _USAGE_SAID.search(events) is not None)
            or (not self.error and events.rfind(b"error") >= 0)
            or events.rfind(_DONE) >= 0
            or (self._usage is not None and events.rfind(b"{") >= 0)  # whether text comes after it
            or (self.request_id is None and events.rfind(b"{") >= 0)
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
        told = self._usage
        hidden = self._read(members)
        if told is not None and self._usage is told:
            self._stale = self._stale or any(self.text_pattern.findall(data))
        return hidden

    def read_whole(self, body: bytes) -> bool:
        """Take in a whole answer: an ordinary one in one pass, any other member by member, to the same end."""
        try:
            answer = _ANSWER.decode(body)
        except (ValueError, RecursionError):
            return super().read_whole(body)
        said = bytes(answer.error) or bytes(answer.usage_breakdown) or bytes(answer.x_groq)
        usage = bytes(answer.usage)
        longest = max(len(answer.id or ""), len(answer.model or ""))
        is_long = longest > TEXT_MAX or len(answer.service_tier or "") > WORD_MAX
        if said or not usage or usage == b"null" or is_long:
            return super().read_whole(body)
        self.request_id = answer.id or self.request_id or ""
        self.model = answer.model or self.model
        self.tier = answer.service_tier or self.tier
        self._usage = answer.usage
        self._last = True
        return True

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer."""
        self._read(members)
        self._last = True

    def told(self) -> Told | None:
        """The last usage that was not null; of two of which the later counts less output, the earlier."""
        closing = (self._last or (self.done and not self._fell)) and not self._stale and not self.missed
        if self._usage is not None and self._breakdown is None:
            tokens = read_plain_usage(self._usage)
            if tokens is not None:
                return Told((Line(tokens, self.model),), bytes(self._usage), closing=closing)
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
            closing=closing,
            odd=read.odd,
            units=read.units,
            cost=read.cost,
            notes=read.notes,
        )

    def _read(self, members: dict[str, msgspec.Raw]) -> bool:
        self.request_id = decode_text(members.get("id")) or self.request_id or ""
        self.model = decode_text(members.get("model")) or self.model
        self.tier = decode_word(members.get("service_tier")) or self.tier
        if _is_said(members.get("error")):
            self._take_error(members["error"])
        groq = members_of(bytes(members["x_groq"])) if "x_groq" in members else None
        told = fell = False
        for holder in (groq, members):
            if holder is not None and _is_said(holder.get("usage")):
                fell = self._take_usage(holder["usage"]) or (fell and told)
                told = True
            if holder is not None and _is_said(holder.get("usage_breakdown")):
                self._breakdown = holder["usage_breakdown"]
        choices = bytes(members.get("choices", b""))
        alone = choices.strip(b"[] \t\r\n") == b""
        if told:
            # Beside one of several choices it says nothing of what the others may still be.
            self._last = alone or (not fell and self._choices == 1 and _FINISH.search(choices) is not None)
            self._fell = fell and not alone
            self._stale = self.missed = False
        return told and alone and "choices" in members

    def _take_error(self, error: msgspec.Raw) -> None:
        self.error = True
        said = decode_object(error) or {}
        if said.get("code") == "content_filter" or said.get("failed_generation"):  # Azure; Groq
            self.notes[REFUSED_AFTER_WORK] = None

    def _take_usage(self, usage: msgspec.Raw) -> bool:
        """Keep a usage; true if it counts less output than the one before, which then stays."""
        if self._usage is not None and output_of(usage) < output_of(self._usage):
            self.notes[USAGE_FELL] = None
            return True
        self._usage = usage
        return False


def _is_said(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) != b"null"
