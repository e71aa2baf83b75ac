"""The end of a stream of OpenAI's: chat completions, completions and responses.

Sources: openai/openai-openapi openapi.json (CreateChatCompletionStreamResponse, ResponseStreamEvent), and what
openai/openai-python src/openai/_streaming.py raises; checked 2026-11.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.providers.event_stream import EventStream
from sidecar.providers.openai_responses import LONG_EVENT_BYTES_MAX
from sidecar.providers.stream_end import Cut, StreamEnd, event, number_of

_KEPT: Final = ("id", "object", "created", "model", "system_fingerprint")
_DONE: Final = b"data: [DONE]\n\n"

ITEMS_MAX: Final = 1024
"""Items of a response that are repeated in its end; of more, the first ones."""


def error_of(cut: Cut) -> dict[str, Any]:
    """An error as OpenAI writes it, with our own facts in it."""
    return {
        "message": cut.detail,
        "type": "insufficient_quota",
        "param": None,
        "code": cut.reason,
        "spend": cut.spend,
    }


class ChatEnd(StreamEnd):
    """Of a chat completion with one choice. `tells_usage`: its caller asked for the usage."""

    kind = "chat.completion.chunk"

    def __init__(self, *, tells_usage: bool) -> None:
        self._tells_usage = tells_usage
        self._base: dict[str, Any] = {}
        self._finished = False

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether it is the first chunk, or one that says why the choice finished."""
        del name
        return not self._base or data.rfind(b'"finish_reason"') >= 0

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in a chunk."""
        del name
        if not self._base:
            self._base = {key: members[key] for key in _KEPT if key in members}
        choices = members.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("finish_reason") is not None:
                self._finished = True

    def shortened(self, cut: Cut) -> bytes:
        """A last chunk that says `length`, the usage where it was asked for, and the mark."""
        base = self._base or {"id": cut.request_id, "object": self.kind, "created": 0, "model": ""}
        written = b""
        if not self._finished:
            written = event({**base, "choices": [self.last_choice()], "spend": cut.spend})
        if self._tells_usage:
            total = cut.input_tokens + cut.output_tokens
            usage = {"prompt_tokens": cut.input_tokens, "completion_tokens": cut.output_tokens, "total_tokens": total}
            written += event({**base, "choices": [], "usage": usage})
        return written + _DONE

    def failed(self, cut: Cut) -> bytes:
        """An error in place of a chunk; the clients raise on it."""
        return event({"error": error_of(cut)})

    def last_choice(self) -> dict[str, Any]:
        """The choice that says why it ends."""
        return {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}


class CompletionsEnd(ChatEnd):
    """Of a completion with one choice."""

    kind = "text_completion"

    def last_choice(self) -> dict[str, Any]:
        """The choice that says why it ends."""
        return {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}


class ResponsesEnd(StreamEnd):
    """Of a response: the text part and the item that are open are closed, then it is incomplete.

    What its last event repeats of the answer is kept meanwhile; it is no more than was passed on.
    """

    def __init__(self) -> None:
        self._response: dict[str, Any] = {}
        self._next = 0
        self._items: dict[int, dict[str, Any]] = {}
        self._open_item: int | None = None
        self._open_part: tuple[str, int, int] | None = None
        self._texts: list[str] = []

    def framing(self, first: bytes) -> EventStream | None:
        """See `StreamEnd`; events may be long here."""
        return None if super().framing(first) is None else EventStream(LONG_EVENT_BYTES_MAX)

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in an event."""
        kind = members.get("type") or name.decode("latin-1")
        self._next = (number_of(members.get("sequence_number")) or self._next) + 1
        place = number_of(members.get("output_index")) or 0
        item, part, delta = members.get("item"), members.get("part"), members.get("delta")
        response = members.get("response")
        if isinstance(response, dict):
            self._response = response
        elif kind == "response.output_item.added" and isinstance(item, dict):
            self._open_item = place
            self._keep(place, item)
        elif kind == "response.output_item.done" and isinstance(item, dict):
            self._open_item = None
            self._keep(place, item)
        elif kind == "response.content_part.added" and isinstance(part, dict) and part.get("type") == "output_text":
            self._open_part = (str(members.get("item_id")), place, number_of(members.get("content_index")) or 0)
            self._texts = []
        elif kind == "response.content_part.done":
            self._open_part = None
        elif kind == "response.output_text.delta" and isinstance(delta, str):
            self._texts.append(delta)

    def shortened(self, cut: Cut) -> bytes:
        """Close what is open, then `response.incomplete`."""
        written = b""
        item = self._items.get(self._open_item) if self._open_item is not None else None
        if self._open_part is not None:
            item_id, place, index = self._open_part
            text = "".join(self._texts)
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            at = {"item_id": item_id, "output_index": place, "content_index": index}
            written += self._event("response.output_text.done", at | {"text": text, "logprobs": []})
            written += self._event("response.content_part.done", at | {"part": part})
            if item is not None:
                content = item.get("content")
                item["content"] = [*(content if isinstance(content, list) else ()), part]
        if item is not None:
            item["status"] = "incomplete"
            written += self._event("response.output_item.done", {"output_index": self._open_item, "item": item})
        whole = self._ended(cut, "incomplete") | {"incomplete_details": {"reason": "max_output_tokens"}}
        return written + self._event("response.incomplete", {"response": whole})

    def failed(self, cut: Cut) -> bytes:
        """`response.failed`, and an error event: the clients raise on the second, and tell of the first."""
        told = error_of(cut)
        error = {"code": cut.reason, "message": cut.detail}
        whole = self._ended(cut, "failed") | {"error": error}
        written = self._event("response.failed", {"response": whole})
        return written + self._event("error", {**error, "param": None, "error": told})

    def _keep(self, place: int, item: dict[str, Any]) -> None:
        if place in self._items or len(self._items) < ITEMS_MAX:
            self._items[place] = item

    def _ended(self, cut: Cut, status: str) -> dict[str, Any]:
        usage = {
            "input_tokens": cut.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": cut.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": cut.input_tokens + cut.output_tokens,
        }
        output = [self._items[place] for place in sorted(self._items)]
        unseen = {"id": cut.request_id, "object": "response", "created_at": 0, "model": ""}
        base = self._response or unseen | {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return base | {"status": status, "output": output, "usage": usage, "spend": cut.spend}

    def _event(self, kind: str, facts: dict[str, Any]) -> bytes:
        number, self._next = self._next, self._next + 1
        return event({"type": kind, "sequence_number": number, **facts}, name=kind)
