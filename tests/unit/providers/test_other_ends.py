"""How streams of the other protocols are ended, at whatever event."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import httpx2
import pytest

from sidecar.providers.binary_stream import BinaryStream, read_message
from sidecar.providers.invoked_ends import ClaudeInvokedEnd, LlamaInvokedEnd, NovaInvokedEnd
from sidecar.providers.json_stream import JsonStream
from sidecar.providers.line_stream import LineStream
from sidecar.providers.other_ends import (
    AnthropicEnd,
    CohereEnd,
    CohereFirstEnd,
    ConverseEnd,
    GeminiEnd,
    OllamaEnd,
)
from sidecar.providers.stream_end import StreamEnd
from tests.unit.providers.streams_to_end import STREAMS, WORDS, amazons, invoked
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


@pytest.mark.parametrize("events", range(6))
def test_a_chat_of_coheres_first_version(events: int) -> None:
    """One line more, which repeats what was said, as the provider's own does."""
    end = CohereFirstEnd()
    stream = end.framing(b'{"is')
    assert isinstance(stream, LineStream)
    for line in STREAMS["cohere.chat_v1"][:events]:
        end.see(*stream.read(line))
    written = end.shortened(CUT)
    assert written.endswith(b"\n")
    last = json.loads(written)
    assert (last["event_type"], last["is_finished"], last["finish_reason"]) == ("stream-end", True, "MAX_TOKENS")
    assert last["response"]["text"] == "".join(WORDS[: max(0, events - 1)])
    assert last["response"]["generation_id"] == ("g1" if events else "")
    assert last["response"]["meta"]["billed_units"] == {"input_tokens": 12, "output_tokens": 34}
    failed = json.loads(end.failed(CUT))
    assert (failed["finish_reason"], failed["spend"]) == ("ERROR", SPEND)


def inner(written: bytes) -> list[Any]:
    """What the messages of an invoked model's stream say."""
    found = [read_message(raw) for _, raw in BinaryStream().split(written)]
    assert {message.name for message in found} == {b"chunk"}
    return [json.loads(base64.b64decode(json.loads(message.payload)["bytes"])) for message in found]


@pytest.mark.parametrize("events", range(6))
def test_a_message_of_an_invoked_claude(events: int) -> None:
    """Its own events, the last with Bedrock's counts."""
    end = ClaudeInvokedEnd()
    stream = end.framing(b"\0\0")
    assert isinstance(stream, BinaryStream)
    for event in STREAMS["bedrock.invoke"][:events]:
        end.see(*stream.read(event))
    found = inner(end.shortened(CUT))
    assert [event["type"] for event in found] == [
        *(["content_block_stop"] if events >= 2 else []),
        "message_delta",
        "message_stop",
    ]
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"
    metrics = found[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (12, 34)
    assert read_message(end.failed(CUT)).name == b"!validationException"


@pytest.mark.parametrize("events", [2, 4, 6])
def test_anthropics_own_client_reads_the_end_of_an_invoked_claude(events: int) -> None:
    """Its helper's final message is whole and says why it stopped; a failure is raised."""
    end, came = ClaudeInvokedEnd(), STREAMS["bedrock.invoke"][:events]
    for event in came:
        end.see(*BinaryStream().read(event))

    def final(written: bytes) -> Any:
        def answered(_: httpx2.Request) -> httpx2.Response:
            head = {"content-type": "application/vnd.amazon.eventstream"}
            return httpx2.Response(200, headers=head, content=b"".join(came) + written)

        with (
            httpx2.Client(transport=httpx2.MockTransport(answered)) as http,
            anthropic.AnthropicBedrock(aws_region="us-east-1", api_key="k", http_client=http) as caller,
            caller.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream,
        ):
            return stream.get_final_message()

    message = final(end.shortened(CUT))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 34)
    assert "".join(block.text for block in message.content) == "".join(WORDS[: events - 2])
    with pytest.raises(anthropic.APIStatusError, match="ended here"):
        final(end.failed(CUT))


def test_a_message_of_an_invoked_nova() -> None:
    """Converse's events, each within an object of its own; what is closed is not closed again."""
    end = NovaInvokedEnd()
    kinds = [[next(iter(event)) for event in inner(end.shortened(CUT))]]
    for event in (
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "a"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
    ):
        end.see(*BinaryStream().read(invoked(event)))
        kinds.append([next(iter(each)) for each in inner(end.shortened(CUT))])
    assert kinds == [
        ["messageStop", "metadata"],
        ["messageStop", "metadata"],
        ["contentBlockStop", "messageStop", "metadata"],
        ["messageStop", "metadata"],
        ["metadata"],
    ]
    last = inner(end.shortened(CUT))[-1]
    assert last["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 34


def test_a_text_of_an_invoked_llama() -> None:
    """A piece without text, and the reason."""
    (last,) = inner(LlamaInvokedEnd().shortened(CUT))
    assert (last["generation"], last["stop_reason"], last["generation_token_count"]) == ("", "length", 34)


@pytest.mark.parametrize("data", [b"", b"null", b'{"bytes": 1}', b'{"bytes": "%"}', b'{"bytes": "bnVsbA=="}'])
@pytest.mark.parametrize("end", [ClaudeInvokedEnd(), NovaInvokedEnd(), LlamaInvokedEnd()])
def test_nonsense_in_messages_is_passed_over(end: StreamEnd, data: bytes) -> None:
    """As elsewhere."""
    end.see(b"chunk", data)
    assert end.shortened(CUT)


@pytest.mark.parametrize("end", [AnthropicEnd(), GeminiEnd(), OllamaEnd(), CohereEnd(), CohereFirstEnd()])
@pytest.mark.parametrize(
    "data", [b"", b"null", b"[1]", b'{"type": "content_block_start", "index": "x"}', b'{"delta": 1}']
)
def test_nonsense_is_passed_over(end: StreamEnd, data: bytes) -> None:
    """L0: nothing that a provider sends makes an end impossible."""
    end.see(b"message_delta", data)
    assert end.shortened(CUT)
