"""Gemini's Interactions: one call that may go on from another, which Google remembers.

The answer is an interaction, whole or as server-sent events with names; its usage comes with its end. What an
earlier interaction, an agent or a tool of Google's brings is not in the request and has no bound.

Source: googleapis/python-genai `google/genai/interactions.py`, ai.google.dev/gemini-api/docs/interactions;
checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, cut_word, decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.doors import Kind
from sidecar.providers.gemini import check_query
from sidecar.providers.gemini_usage import UNATTRIBUTED
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_within
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    Members,
    Reasons,
    not_known,
    read_flag,
    read_model,
    read_object,
    read_whole,
    says_something,
    shown,
    text_of,
    tools_in,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

_KNOWN: Final = frozenset({
    "background", "generation_config", "input", "model", "response_format", "response_mime_type", "service_tier",
    "store", "stream", "system_instruction", "tools",
})  # fmt: skip
_KNOWN_CONFIG: Final = frozenset({
    "max_output_tokens", "seed", "stop_sequences", "temperature", "thinking_level", "thinking_summaries", "tool_choice",
    "top_k", "top_p",
})  # fmt: skip
_BEYOND_TEXT: Final = re.compile(rb'"(?:image|audio|video|document)"|"(?:uri|data)"\s*:')
"""What may stand in an input beside text. Where it does, the input has no bound: its parts are not looked into."""

_TEXT: Final = re.compile(rb'"(?:text|arguments)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
_ENDED: Final = frozenset({"completed", "failed", "cancelled", "incomplete", "requires_action"})


class GeminiInteractions:
    """The dialect of `POST /interactions`."""

    name = "gemini.interactions"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        check_query(target)
        members = read_object(body)
        if "model" not in members and says_something(members.get("agent")):
            raise BadRequest("an agent works in many calls, which cannot be metered: name a model.", param="agent")
        model = read_model(members).rpartition("/")[2]
        unbounded = Reasons()
        for name, member in members.items():
            if name not in _KNOWN and says_something(member):
                unbounded.append(_REASONS.get(name, not_known(name)))
        config = _config(members)
        for name in config.keys() - _KNOWN_CONFIG:
            unbounded.append(not_known(name, "generation_config."))
        tools = _count_tools(members, unbounded)
        if "input" in members and _BEYOND_TEXT.search(members["input"].raw):
            unbounded.append("input beside text: its bytes do not bound its tokens")
        bound = prompt_bound(
            family_of(model),
            text_bytes=len(body),
            tools=tools,
            structured=says_something(members.get("response_format")),
            media_tokens=0,
        )
        limit = read_whole(config, "max_output_tokens", least=1, most=OUTPUT_LIMIT_MAX)
        ceiling = Ceiling(model, bound, limit, unbounded=tuple(unbounded))
        later = Kind.BACKGROUND if read_flag(members, "background") else ""
        may_reason = may_reason_unseen(model)
        earlier = members.get("previous_interaction_id")
        return RequestFacts(
            ceiling,
            read_flag(members, "stream"),
            body,
            may_reason=may_reason,
            later=later,
            continues="" if earlier is None else text_of(earlier.raw) or "",
        )

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`."""
        del own_field
        path = ("generation_config", "max_output_tokens")
        body = splice_within(facts.body, read_object(facts.body), path, tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, InteractionReading(), status=status, content_encoding=content_encoding)


def _config(members: Members) -> Members:
    written = members.get("generation_config")
    return {} if written is None or written.raw == b"null" else read_object(written.raw, param="generation_config")


def _count_tools(members: Members, unbounded: Reasons) -> int:
    """How many functions are declared; any other tool runs at Google."""
    tools = tools_in(members.get("tools"), unbounded)
    for tool in tools:
        kind = text_of(tool.get("type"))
        if kind != "function":
            unbounded.append(f"tool {shown(kind or '(none)')}: it runs at the provider")
    return len(tools)


_REASONS: Final = {
    "previous_interaction_id": "previous_interaction_id: the conversation is held at the provider",
}


class InteractionReading(Reading):
    """What an interaction has said so far, event by event or in one."""

    text_pattern = _TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] | None = None
        self._raw = b""
        self._ended = False

    def wants(self, events: bytes) -> bool:
        """Whether usage, an end or a failure is in it."""
        return events.rfind(b'"usage"') >= 0 or events.rfind(b"error") >= 0 or events.rfind(b"[DONE]") >= 0

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        if data.strip() == b"[DONE]":
            self.done = True
            return False
        members = members_of(data)
        if members is not None:
            inner = members_of(bytes(members.get("interaction", b"")))
            self.read_body(members if inner is None else inner)
        self.error = self.error or name == b"error"
        self._ended = self._ended or name == b"interaction.completed"
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in the members of an interaction."""
        error = members.get("error")
        self.error = self.error or (error is not None and bytes(error) != b"null")
        self.request_id = decode_text(members.get("id")) or self.request_id
        self.model = decode_text(members.get("model")) or self.model
        self._ended = self._ended or decode_text(members.get("status")) in _ENDED
        usage = decode_object(members.get("usage"))
        if usage:
            self._usage, self._raw = usage, bytes(members["usage"])
            self.tier = cut_word(usage.get("service_tier")) or self.tier
            self.missed = False

    def told(self) -> Told | None:
        """The figures of the last usage that was told."""
        if self._usage is None:
            return None
        counts = Counts(self._usage)
        fresh, tools, made, thoughts = (
            counts.get(f"total_{kind}_tokens") for kind in ("input", "tool_use", "output", "thought")
        )
        given = None if fresh is None else fresh + (tools or 0)
        output = None if made is None and thoughts is None else (made or 0) + (thoughts or 0)
        total = counts.get("total_tokens")
        gap = 0 if total is None or given is None else total - given - (output or 0)
        tokens = Tokens(
            input_tokens=given,
            cache_read_tokens=counts.get("total_cached_tokens"),
            output_tokens=(output or 0) + gap if gap > 0 else output,
            reasoning_tokens=thoughts,
            tool_input_tokens=tools,
        )
        return Told(
            lines=(Line(tokens, self.model),),
            raw=self._raw,
            closing=self._ended and not self.missed,
            odd=counts.odd or given is None or (output is None and gap <= 0),
            notes=(UNATTRIBUTED,) if gap > 0 else (),
        )
