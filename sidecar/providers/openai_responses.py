"""OpenAI Responses, and the servers that speak them: what a request may cost, what an answer did.

The usage stands in the response object alone: in a whole answer at its top, in a stream within the event that ends
it. That event repeats the whole response, so it may be large; everything before it is counted and not parsed. The
calls of hosted tools are counted beside the tokens: searches by `tool_usage`, the others by the items of `output`.

Sources: openai/openai-openapi openapi.json (Response, ResponseUsage, ResponseStreamEvent), openai/openai-python
src/openai/types/responses/, recorded streams of OpenAI, Azure, DeepSeek, OpenRouter and Bedrock; checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, decode_object, decode_text, decode_word, members_of
from sidecar.providers.dialect import AnswerMeter, RequestFacts
from sidecar.providers.doors import Kind
from sidecar.providers.event_stream import EventStream
from sidecar.providers.held_by_id import items_in
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.openai_responses_prompt import read_prompt
from sidecar.providers.openai_usage import read_usage
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    read_flag,
    read_object,
    read_whole,
    read_word,
    says_something,
)
from sidecar.providers.request_model import model_asked
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound, searches_by_itself

OUTPUT_LIMIT_MIN: Final = 16
"""OpenAI takes no smaller limit here."""

LONG_EVENT_BYTES_MAX: Final = 16 * 2**20
"""Of one event: the last one repeats the whole response, pictures and all."""

ITEMS_MAX: Final = 10_000
"""Items of an answer that are looked at for calls of hosted tools."""

_TEXT: Final = re.compile(rb'"delta": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
_USAGE_SAID: Final = re.compile(rb'"usage"\s*:\s*\{')
_DONE: Final = b"[DONE]"
_ENDS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.compaction"}
)
_FAILURES: Final = frozenset({"failed", "cancelled"})
_RUNNING: Final = frozenset({"queued", "in_progress"})
_CALLS: Final = {
    "file_search_call": "file_search_calls",
    "code_interpreter_call": "code_interpreter_calls",
    "mcp_call": "mcp_calls",
}


class OpenAIResponses:
    """The dialect of `…/responses`, and of `…/responses/compact`, which is a pass of the same model."""

    name = "openai.responses"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = model_asked(members, target)
        stream = read_flag(members, "stream")
        limit = read_whole(members, "max_output_tokens", least=1, most=OUTPUT_LIMIT_MAX)
        tier = read_word(members, "service_tier")
        prompt = read_prompt(members, model)
        unbounded = tuple(prompt.unbounded)
        if searches_by_itself(model):
            unbounded = (*unbounded, f"model {model[:64]}: it runs searches of its own")
        ceiling = Ceiling(
            model=model,
            input_tokens=prompt.client_tool_tokens
            + prompt_bound(
                family_of(model),
                text_bytes=len(body) - prompt.media_bytes,
                tools=prompt.tools,
                structured=says_something(members.get("text")),
                media_tokens=prompt.media_tokens,
            ),
            output_limit=limit,
            tier="priority" if tier == "fast" else tier,
            cache_write="5m",
            unbounded=unbounded,
        )
        return RequestFacts(
            ceiling,
            stream,
            body,
            may_reason=may_reason_unseen(model) or says_something(members.get("reasoning")),
            later=Kind.BACKGROUND if read_flag(members, "background") else "",
            continues=prompt.continues,
        )

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; None below what OpenAI takes."""
        del own_field
        if tokens < OUTPUT_LIMIT_MIN:
            return None
        body = splice_whole(facts.body, read_object(facts.body), "max_output_tokens", tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, ResponsesReading(), status=status, content_encoding=content_encoding)


class ResponsesReading(Reading):
    """What a response has said so far, event by event or in one."""

    text_pattern = _TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: msgspec.Raw | None = None
        self._response: dict[str, msgspec.Raw] = {}  # in which the usage stood
        self._ended = False

    def stream_for(self, first: bytes) -> EventStream | None:
        """See `Reading`: events may be long here."""
        return None if first[:1] in b"{[<" else EventStream(LONG_EVENT_BYTES_MAX)

    def wants(self, events: bytes) -> bool:
        """Whether usage, an end, an error, or the first event (for its id) is in it."""
        return (
            (events.rfind(b'"usage"') >= 0 and _USAGE_SAID.search(events) is not None)
            or (not self.error and events.rfind(b"error") >= 0)
            or events.rfind(_DONE) >= 0
            or any(events.rfind(end) >= 0 for end in (b"response.completed", b"response.incomplete"))
            or any(events.rfind(end) >= 0 for end in (b"response.failed", b"response.cancelled"))
            or (self.request_id is None and events.rfind(b"{") >= 0)
        )

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden. The name in the data counts: some servers write the line after it."""
        if data == _DONE:
            self.done = True
            return False
        members = members_of(data)
        if members is None:
            self.error = self.error or name == b"error"
            return False
        kind = decode_text(members.get("type")) or name.decode("latin-1")
        inner = members_of(bytes(members["response"])) if "response" in members else None
        if inner is not None:
            self._read(inner)
            self.request_id = self.request_id or ""
        if kind == "error" or ("error" in members and bytes(members["error"]) != b"null"):
            self.error = True
        if kind in _ENDS:
            self._ended = self.done = True
            self.missed = False
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole response; one that is made in the background may not be over."""
        self._read(members)
        self._ended = decode_text(members.get("status")) not in _RUNNING

    def told(self) -> Told | None:
        """The response's own figures, and the calls of tools beside them."""
        usage = decode_object(self._usage)
        read = read_usage(usage) if usage is not None else None
        if self._usage is None:
            return None
        if read is None:
            return None if usage == {} else Told((), bytes(self._usage), closing=False, odd=True)
        picture, units = self._beside()
        return Told(
            lines=(Line(read.tokens, self.model), *picture),
            raw=bytes(self._usage),
            closing=self._ended and not self.missed,
            odd=read.odd,
            units=read.units | units,
            cost=read.cost,
            notes=read.notes,
        )

    def kept(self) -> Iterable[str]:
        """Its items, and the containers that code ran in."""
        try:
            return items_in(_ANY.decode(self._response.get("output") or b"[]"))
        except (ValueError, RecursionError):
            return ()

    def _read(self, response: dict[str, msgspec.Raw]) -> None:
        self.request_id = decode_text(response.get("id")) or self.request_id or ""
        self.model = decode_text(response.get("model")) or self.model
        self.tier = decode_word(response.get("service_tier")) or self.tier
        error = response.get("error")
        if (error is not None and bytes(error) != b"null") or decode_text(response.get("status")) in _FAILURES:
            self.error = True
        usage = response.get("usage")
        if usage is not None and bytes(usage) != b"null":
            self._usage, self._response = usage, response

    def _beside(self) -> tuple[tuple[Line, ...], dict[str, int]]:
        """What is billed beside the usage: pictures that a tool made, and the calls of tools."""
        told = decode_object(self._response.get("tool_usage"))
        tools: dict[str, Any] = told or {}
        units, searches = _hosted_calls(self._response.get("output"))
        search = tools.get("web_search")
        if isinstance(search, dict):
            searches = Counts(search).get("num_requests") or 0
        if searches:
            units["web_search_requests"] = searches
        made = tools.get("image_gen")
        counts = Counts(made if isinstance(made, dict) else {})
        given, drawn = counts.get("input_tokens") or 0, counts.get("output_tokens") or 0
        if not given and not drawn:
            return (), units
        tokens = Tokens(
            input_tokens=given,
            output_tokens=drawn,
            input_text_tokens=counts.get("input_tokens_details", "text_tokens"),
            input_image_tokens=counts.get("input_tokens_details", "image_tokens"),
            output_text_tokens=counts.get("output_tokens_details", "text_tokens"),
            output_image_tokens=counts.get("output_tokens_details", "image_tokens"),
        )
        return (Line(tokens, _picture_model(self._response.get("tools")), "image_gen"),), units


class _Named(msgspec.Struct):
    """An item of `output`, or one of `tools`, as far as it matters."""

    type: Any = None
    action: Any = None
    model: Any = None


_NAMED: Final = msgspec.json.Decoder(list[_Named])
_ANY: Final = msgspec.json.Decoder(list[Any])


def _named(raw: msgspec.Raw | None) -> list[_Named]:
    try:
        return _NAMED.decode(raw or b"[]")[:ITEMS_MAX]
    except (ValueError, RecursionError):
        return []


def _hosted_calls(output: msgspec.Raw | None) -> tuple[dict[str, int], int]:
    """Calls of hosted tools by unit, and searches of the web, counted from an answer's items.

    Opening a page and finding something on it are no searches.
    """
    units: dict[str, int] = {}
    searches = 0
    for item in _named(output):
        if item.type == "web_search_call":
            action = item.action.get("type") if isinstance(item.action, dict) else "search"
            searches += action == "search"
        elif isinstance(item.type, str) and (unit := _CALLS.get(item.type)):
            units[unit] = units.get(unit, 0) + 1
    return units, searches


def _picture_model(tools: msgspec.Raw | None) -> str:
    """The model of the picture tool; a name that no card has where the answer does not say it."""
    for tool in _named(tools):
        if tool.type == "image_generation" and isinstance(tool.model, str) and tool.model:
            return tool.model[:256]
    return "image_generation"
