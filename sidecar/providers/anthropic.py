"""Anthropic messages: what a request may cost, what an answer did.

A stream tells its input at once (`message_start`) and its output at the end (`message_delta`), so
nothing needs to be asked for and nothing hidden, and a stream that breaks off has an exact input.

Source: anthropics/anthropic-sdk-python src/anthropic/types/, docs.anthropic.com/en/api/messages and
messages-streaming, checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.providers.anthropic_prompt import cache_lifetime, read_prompt, thinking_budget, thinks_unseen
from sidecar.providers.anthropic_usage import merge_usage, read_usage
from sidecar.providers.counters import USAGE_FELL, cut_word, decode_object, decode_text, is_less, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    Members,
    read_flag,
    read_model,
    read_object,
    read_whole,
    read_word,
    says_something,
)
from sidecar.providers.token_estimates import CLAUDE, family_of, prompt_bound

_TEXT: Final = re.compile(rb'"(?:text|thinking|partial_json)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')


class AnthropicMessages:
    """The dialect of `/v1/messages`."""

    name = "anthropic.messages"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`. `max_tokens` may be 0: that only warms the cache."""
        members = read_object(body)
        return self.read_members(members, body, read_model(members), stream=read_flag(members, "stream"))

    def read_members(self, members: Members, body: bytes, model: str, *, stream: bool) -> RequestFacts:
        """The same for one whose model and framing are told elsewhere: in the path, on others' platforms.

        Raises:
            BadRequest: as `read_request` does.
        """
        limit = read_whole(members, "max_tokens", least=0, most=OUTPUT_LIMIT_MAX)
        if limit is None:
            raise BadRequest("`max_tokens` is required.", param="max_tokens")
        tier, speed, geo = (read_word(members, name) for name in ("service_tier", "speed", "inference_geo"))
        family = family_of(model) if "claude" not in model.lower() else CLAUDE
        prompt = read_prompt(members, family, model)
        structured = any(says_something(members.get(name)) for name in ("output_format", "output_config"))
        bound = prompt_bound(
            family,
            text_bytes=len(body) - prompt.media_bytes,
            tools=prompt.tools,
            structured=structured,
            media_tokens=prompt.media_tokens,
        )
        ceiling = Ceiling(
            model=model,
            input_tokens=bound + prompt.client_tool_tokens,
            output_limit=limit,
            tier="fast" if speed == "fast" else tier,
            geo=geo,
            cache_write=cache_lifetime(body),
            unbounded=tuple(dict.fromkeys(prompt.unbounded)),
        )
        return RequestFacts(ceiling, stream, body, may_reason=thinks_unseen(members, model))

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; Anthropic takes no limit that a thinking budget does not fit into."""
        del own_field
        members = read_object(facts.body)
        if tokens <= thinking_budget(members):
            return None
        body = splice_whole(facts.body, members, "max_tokens", tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, AnthropicReading(), status=status, content_encoding=content_encoding)


class AnthropicReading(Reading):
    """What a message has said so far, event by event or in one."""

    text_pattern = _TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] | None = None
        self._raw: list[bytes] = []
        self._stopped = False  # the message is over
        self._is_delta_told = False  # with a count of the output: `message_start` has a placeholder only
        self._unreadable = False
        self._containers: tuple[str, ...] = ()

    def wants(self, events: bytes) -> bool:
        """Whether the start, the closing figures, the end or an error is in it."""
        # `rfind` and not `in`: for words this short it takes less than half the time.
        return events.rfind(b"message_") >= 0 or (not self.error and events.rfind(b"error") >= 0)

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        members = members_of(data)
        if members is None:
            self.error = self.error or name == b"error"
            return False
        kind = decode_text(members.get("type")) or name.decode("latin-1")
        if kind == "message_start":
            message = members_of(bytes(members.get("message", b"")))
            if message is not None:
                self._read_message(message)
        elif kind == "message_delta":
            delta = decode_object(members.get("delta"))
            stops = delta is not None and delta.get("stop_reason") is not None
            self._stopped = self._stopped or stops
            self._take_container(None if delta is None else delta.get("container"))
            told = self._take_usage(members.get("usage"))
            self._is_delta_told = told or (self._is_delta_told and not stops)
        elif kind == "message_stop":
            self.done = self._stopped = True
        elif kind == "error":
            self.error = True
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole message."""
        self._read_message(members)
        self.error = self.error or decode_text(members.get("type")) == "error"
        self._stopped = self._is_delta_told = True

    def told(self) -> Told | None:
        """The figures so far: the start's, with the delta's over them."""
        if self._usage is None and not self._unreadable:
            return None
        read = read_usage(self._usage or {}, self.model)
        return Told(
            lines=read.lines,
            raw=b"\n".join(self._raw),
            closing=self._stopped and self._is_delta_told and not self.missed,
            odd=read.odd or self._unreadable,
            units=read.units,
            notes=read.notes,
        )

    def kept(self) -> Iterable[str]:
        """The container that code ran in."""
        return self._containers

    def _read_message(self, message: dict[str, msgspec.Raw]) -> None:
        self._take_container(decode_object(message.get("container")))
        self.request_id = decode_text(message.get("id")) or self.request_id
        self.model = decode_text(message.get("model")) or self.model
        self._take_usage(message.get("usage"))

    def _take_container(self, container: Any) -> None:
        if isinstance(container, dict) and isinstance(container.get("id"), str):
            self._containers = (container["id"],)

    def _take_usage(self, raw: msgspec.Raw | None) -> bool:
        """Merge a usage object; true if it counts the output."""
        if raw is None or bytes(raw) in (b"null", b"{}"):
            return False
        usage = decode_object(raw)
        if usage is None:
            self._unreadable = True
            return False
        self.missed = False
        told = None if self._usage is None else self._usage.get("output_tokens")
        self._usage = merge_usage(self._usage or {}, usage)
        if self._is_delta_told and is_less(self._usage.get("output_tokens"), told):  # it only grows: the more stays
            self.notes[USAGE_FELL] = None
            self._usage["output_tokens"] = told
        self._raw = [*self._raw[:1], bytes(raw)]  # the first and the last
        tier, speed, geo = (self._usage.get(name) for name in ("service_tier", "speed", "inference_geo"))
        self.tier = "fast" if speed == "fast" else cut_word(tier) or self.tier
        self.geo = cut_word(geo) or self.geo
        return usage.get("output_tokens") is not None
