"""How streams of the other protocols are ended, at whatever event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.binary_stream import BinaryStream, read_message
from sidecar.providers.json_stream import JsonStream
from sidecar.providers.other_ends import AnthropicEnd, CohereEnd, ConverseEnd, GeminiEnd, OllamaEnd
from sidecar.providers.stream_end import StreamEnd
from tests.unit.providers.streams_to_end import STREAMS, amazons
from tests.unit.providers.test_openai_ends import CUT, SPEND, shown, told

CHUNK = {"candidates": [{"content": {"parts": [{"text": "Once "}]}}], "modelVersion": "m", "responseId": "r1"}


@pytest.mark.parametrize("events", range(6))
def test_a_message_closes_its_block_and_stops(events: int) -> None:
    """A block that is not open is not closed."""
    end = AnthropicEnd()
    shown(end, "anthropic.messages", events)
    found = told(end.shortened(CUT))
    assert [event["type"] for event in found] == [
        *(["content_block_stop"] if events >= 2 else []),
        "message_delta",
        "message_stop",
    ]
    assert found[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert (found[-2]["usage"], found[-2]["spend"]) == ({"output_tokens": 34}, SPEND)


def test_a_message_that_was_stopped_is_not_stopped_again() -> None:
    """Between its last two events."""
    end = AnthropicEnd()
    shown(end, "anthropic.messages", 5)
    end.see(b"", b'{"type":"content_block_stop","index":0}')
    end.see(b"", b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}')
    assert told(end.shortened(CUT)) == [{"type": "message_stop"}]
    assert told(end.failed(CUT))[0]["error"]["type"] == "billing_error"


def test_gemini_as_events() -> None:
    """A chunk like any other, with the reason and the counts."""
    end = GeminiEnd()
    assert end.framing(b"data: {}") is not None
    shown(end, "gemini.generate", 2)
    (last,) = told(end.shortened(CUT))
    assert last["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert last["usageMetadata"] == {"promptTokenCount": 12, "candidatesTokenCount": 34, "totalTokenCount": 46}
    assert (last["modelVersion"], last["responseId"], last["spend"]) == ("m", "r1", SPEND)
    (error,) = told(end.failed(CUT))
    assert (error["error"]["code"], error["error"]["status"]) == (402, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("items", [0, 1, 3])
def test_gemini_as_one_array_is_closed(items: int) -> None:
    """What came and what is written are one JSON array."""
    end = GeminiEnd()
    stream = end.framing(b"[{")
    assert isinstance(stream, JsonStream)
    came = b"[" + b",\r\n".join([json.dumps(CHUNK).encode()] * items) if items else b""
    for _, event in stream.split(stream.feed(came)):
        end.see(*stream.read(event))
    for written in (end.shortened(CUT), end.failed(CUT)):
        assert len(json.loads(came + written)) == items + 1


@pytest.mark.parametrize("events", range(6))
def test_amazons_messages(events: int) -> None:
    """The block that is open, whether or not its start was told; the reason; the counts."""
    end = ConverseEnd()
    assert isinstance(end.framing(b"\0\0"), BinaryStream)
    for event in STREAMS["bedrock.converse"][:events]:
        end.see(*BinaryStream().read(event))
    found = [read_message(raw) for _, raw in BinaryStream().split(end.shortened(CUT))]
    assert [message.name for message in found] == [
        *([b"contentBlockStop"] if events >= 2 else []),
        b"messageStop",
        b"metadata",
    ]
    assert json.loads(found[-2].payload)["stopReason"] == "max_tokens"
    assert json.loads(found[-1].payload)["usage"] == {"inputTokens": 12, "outputTokens": 34, "totalTokens": 46}
    assert read_message(end.failed(CUT)).name == b"!validationException"


def test_amazons_message_that_was_stopped() -> None:
    """Only its counts are lacking."""
    end = ConverseEnd()
    for event in (amazons("contentBlockStop", {"contentBlockIndex": 0}), amazons("messageStop", {"stopReason": "x"})):
        end.see(*BinaryStream().read(event))
    assert [read_message(raw).name for _, raw in BinaryStream().split(end.shortened(CUT))] == [b"metadata"]


@pytest.mark.parametrize("said", [{"message": {"role": "assistant", "content": "a"}}, {"response": "a"}])
def test_a_line_of_ollamas(said: dict[str, Any]) -> None:
    """Of a chat, and of a completion."""
    end = OllamaEnd()
    end.see(b"", json.dumps({"model": "m", "created_at": "t", "done": False} | said).encode())
    written = end.shortened(CUT)
    assert written.endswith(b"\n")
    last = json.loads(written)
    assert (last["done"], last["done_reason"], last["model"]) == (True, "length", "m")
    assert last.keys() & {"message", "response"} == said.keys()
    assert (last["prompt_eval_count"], last["eval_count"], last["spend"]) == (12, 34, SPEND)
    assert json.loads(end.failed(CUT))["error"]


@pytest.mark.parametrize("events", range(6))
def test_a_chat_of_coheres(events: int) -> None:
    """The content that is open, then the message."""
    end = CohereEnd()
    shown(end, "cohere.chat", events)
    *closed, last = told(end.shortened(CUT))
    assert [event["type"] for event in closed] == (["content-end"] if events >= 2 else [])
    assert last["delta"]["finish_reason"] == "MAX_TOKENS"
    assert last["delta"]["usage"]["billed_units"] == {"input_tokens": 12, "output_tokens": 34}
    assert told(end.failed(CUT))[-1]["delta"]["finish_reason"] == "ERROR"


@pytest.mark.parametrize("end", [AnthropicEnd(), GeminiEnd(), OllamaEnd(), CohereEnd()])
@pytest.mark.parametrize(
    "data", [b"", b"null", b"[1]", b'{"type": "content_block_start", "index": "x"}', b'{"delta": 1}']
)
def test_nonsense_is_passed_over(end: StreamEnd, data: bytes) -> None:
    """L0: nothing that a provider sends makes an end impossible."""
    end.see(b"message_delta", data)
    assert end.shortened(CUT)
