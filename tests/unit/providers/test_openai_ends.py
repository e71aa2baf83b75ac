"""How streams of OpenAI's are ended, at whatever event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.completion import Completion
from openai.types.responses import ResponseIncompleteEvent

from sidecar.providers.event_stream import read_event, split_events
from sidecar.providers.openai_ends import ChatEnd, CompletionsEnd, ResponsesEnd
from sidecar.providers.stream_end import Cut, StreamEnd
from tests.unit.providers.streams_to_end import STREAMS, WORDS

CUT = Cut("budget_exceeded", "This answer was ended here.", "req_1", 12, 34)
SPEND = {"cut": "budget_exceeded", "message": "This answer was ended here.", "request_id": "req_1"}


def shown(end: StreamEnd, protocol: str, events: int) -> None:
    for event in STREAMS[protocol][:events]:
        end.see(*read_event(event))


def told(written: bytes) -> list[Any]:
    """What each event says; the mark as itself."""
    found = [read_event(event)[1] for _, event in split_events(written)]
    return [one if one == b"[DONE]" else json.loads(one) for one in found]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("events", range(6))
def test_a_chat_ends_as_one_that_reached_its_limit(events: int, asked: bool) -> None:
    """`length`, our own facts, the usage where it was asked for, the mark: all of the stream's own id and model."""
    end = ChatEnd(tells_usage=asked)
    shown(end, "openai.chat", events)
    *chunks, mark = told(end.shortened(CUT))
    assert mark == b"[DONE]"
    last = ChatCompletionChunk.model_validate(chunks[0])
    assert last.choices[0].finish_reason == "length"
    assert chunks[0]["spend"] == SPEND
    if events:
        assert {chunk["id"] for chunk in chunks} == {"c1"}
    usage = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
    assert [chunk["usage"] for chunk in chunks[1:]] == ([usage] if asked else [])


def test_a_chat_that_has_finished_is_not_finished_again() -> None:
    """Only its usage and its mark are lacking."""
    end = ChatEnd(tells_usage=True)
    shown(end, "openai.chat", 3)
    end.see(b"", json.dumps({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode())
    usage, mark = told(end.shortened(CUT))
    assert (usage["choices"], mark) == ([], b"[DONE]")


def test_a_completion_ends_so_too() -> None:
    """In the words of completions."""
    end = CompletionsEnd(tells_usage=False)
    shown(end, "openai.completions", 2)
    last, _ = told(end.shortened(CUT))
    assert Completion.model_validate(last).choices[0].finish_reason == "length"


@pytest.mark.parametrize("end", [ChatEnd(tells_usage=True), CompletionsEnd(tells_usage=False)])
def test_as_a_failure_it_is_an_error_and_no_mark(end: StreamEnd) -> None:
    """A mark behind it would make it an end."""
    (only,) = told(end.failed(CUT))
    assert only["error"]["code"] == "budget_exceeded"
    assert only["error"]["type"] == "insufficient_quota"
    assert only["error"]["spend"] == SPEND


@pytest.mark.parametrize("events", range(len(STREAMS["openai.responses"]) + 1))
def test_a_response_is_closed_from_the_inside_out(events: int) -> None:
    """The part, the item, the response; numbered on; with all the text that was passed on."""
    end = ResponsesEnd()
    shown(end, "openai.responses", events)
    found = told(end.shortened(CUT))
    kinds = [event["type"] for event in found]
    closing = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds == [*(closing if events >= 3 else closing[2:] if events == 2 else []), "response.incomplete"]
    assert [event["sequence_number"] for event in found] == list(range(events, events + len(found)))
    last = ResponseIncompleteEvent.model_validate(found[-1]).response
    assert last.incomplete_details is not None
    assert (last.status, last.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert last.output_text == "".join(WORDS[: max(0, events - 3)])
    assert found[-1]["response"]["spend"] == SPEND
    if events:
        assert last.id == "r1"


def test_a_response_fails_in_two_events() -> None:
    """One alone would not be raised by the client."""
    end = ResponsesEnd()
    shown(end, "openai.responses", 5)
    failed, error = told(end.failed(CUT))
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert (error["type"], error["code"]) == ("error", "budget_exceeded")


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b"{", b'{"choices": 7}', b'{"type": 3, "item": 1, "delta": 2}'])
def test_nonsense_is_passed_over(data: bytes) -> None:
    """L0: nothing that a provider sends makes an end impossible."""
    for end in (ChatEnd(tells_usage=True), CompletionsEnd(tells_usage=True), ResponsesEnd()):
        end.see(b"", data)
        end.see(b"response.output_item.added", data)
        assert end.shortened(CUT)
        assert end.failed(CUT)
