"""Exchanges with Amazon Bedrock of our own making, in the shapes that it writes them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.binary_stream import write_message
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
NOVA: Final = "/model/us.amazon.nova-lite-v1%3A0"
CLAUDE: Final = "/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0"
TITAN: Final = "/model/amazon.titan-text-express-v1"
CONVERSE: Final = f"{NOVA}/converse"
STREAM: Final = f"{NOVA}/converse-stream"
ASKED: Final = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
MESSAGE: Final = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
TEXT: Final = {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 50}}
PLAIN: Final = Tokens(input_tokens=11, output_tokens=7)
USAGE: Final = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}


def event(kind: str, **payload: Any) -> bytes:
    """One message of a stream, padded as Amazon pads it."""
    headers = {b":event-type": kind.encode(), b":content-type": b"application/json", b":message-type": b"event"}
    return write_message(headers, json.dumps(payload | {"p": "abcdefghij"}).encode())


def failure(kind: str) -> bytes:
    """A message that tells of a failure."""
    headers = {b":exception-type": kind.encode(), b":message-type": b"exception"}
    return write_message(headers, b'{"message":"no"}')


def inner(**said: Any) -> bytes:
    """An event of the model's own within a message."""
    return event("chunk", bytes=base64.b64encode(json.dumps(said).encode()).decode())


def delta(text: str) -> bytes:
    """A piece of a converse stream's text."""
    return event("contentBlockDelta", contentBlockIndex=0, delta={"text": text})


def _whole(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    body = {"output": {"message": {"role": "assistant", "content": [{"text": '"usage":{}'}]}}, "stopReason": "end_turn"}
    answer = json.dumps(body | ({} if usage is None else {"usage": usage}) | more.pop("says", {})).encode()
    return Exchange(name, CONVERSE, ASKED, answer, state, tokens, **more)


def _stream(name: str, *events: bytes, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": PLAIN, "finished": state is FINAL, **more}
    return Exchange(name, facts.pop("path", STREAM), facts.pop("request", ASKED), b"".join(events), state, **facts)


BEGUN: Final = (event("messageStart", role="assistant"), delta("metadata, "), delta("wörld } exception"))
END: Final = event("metadata", usage=USAGE, metrics={"latencyMs": 1})
METRICS: Final = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 11, "outputTokenCount": 7}}
START: Final = {
    "usage": {"input_tokens": 11, "output_tokens": 1},
    "id": "msg_bdrk_1",
    "model": "claude-3-5-haiku-20241022",
}

EXCHANGES: Final = (
    _whole("plain", USAGE, PLAIN),
    _whole(
        "the cache stands beside the input, by lifetime",
        {
            "inputTokens": 3,
            "outputTokens": 550,
            "cacheReadInputTokens": 10,
            "cacheWriteInputTokens": 300,
            "cacheReadInputTokenCount": 10,
            "cacheWriteInputTokenCount": 300,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 100}, {"ttl": "1h", "inputTokens": 200}],
        },
        Tokens(
            input_tokens=313,
            cache_read_tokens=10,
            cache_write_tokens=300,
            cache_write_5m_tokens=100,
            cache_write_1h_tokens=200,
            output_tokens=550,
        ),
    ),
    _whole(
        "the older spelling alone",
        {"inputTokens": 3, "outputTokens": 5, "cacheReadInputTokenCount": 8, "cacheWriteInputTokenCount": 0},
        Tokens(input_tokens=11, cache_read_tokens=8, output_tokens=5),
    ),
    _whole("the tier that served", USAGE, PLAIN, says={"serviceTier": {"type": "flex"}}, tier="flex"),
    _whole("no usage", None, None, ABSENT),
    _whole("no output told", {"inputTokens": 11}, None, ESTIMATED, notes=("usage_out_of_range",)),
    Exchange("refused", CONVERSE, ASKED, b'{"message":"invalid"}', ERROR, status=400, notes=("provider_error",)),
    Exchange("not now", STREAM, ASKED, b'{"message":"busy"}', ERROR, status=503, notes=("provider_error",)),
    _stream("a stream", *BEGUN, END),
    Exchange("a compressed stream", STREAM, ASKED, gzip.compress(b"".join([*BEGUN, END]), mtime=0), FINAL, PLAIN,
             encoding="gzip", finished=True),
    _stream("a failure before anything", failure("throttlingException"), state=ERROR, tokens=None,
            notes=("provider_error",)),
    _stream("a failure within", *BEGUN, failure("modelStreamErrorException"), state=ESTIMATED, tokens=None,
            notes=("provider_error",)),
    _stream("cut short", *BEGUN, END[:-9], state=ESTIMATED, tokens=None, ending=Ending.CUT),
    _stream("a checksum that is wrong", *BEGUN, END[:-1] + b"\0", state=ABSENT, tokens=None, notes=("meter_degraded",)),
    _stream("nonsense behind the beginning", *BEGUN, b"\0" * 16, END, state=ESTIMATED, tokens=None,
            notes=("meter_degraded",)),
    _stream(
        "Claude's events within",
        inner(type="message_start", message=START),
        inner(type="content_block_delta", delta={"type": "text_delta", "text": "x"}),
        inner(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
        inner(type="message_stop", **METRICS),
        path=f"{CLAUDE}/invoke-with-response-stream",
        request=MESSAGE,
        tokens=None,
        lines=(Line(PLAIN, "claude-3-5-haiku-20241022"),),
    ),
    _stream(
        "Claude's stream with a failure in it",
        inner(type="message_start", message=START),
        failure("modelTimeoutException"),
        path=f"{CLAUDE}/invoke-with-response-stream",
        request=MESSAGE,
        state=PARTIAL,
        tokens=Tokens(input_tokens=11, output_tokens=20),
        notes=("output_counted", "provider_error"),
    ),
    _stream(
        "another model's events, with Bedrock's metrics in the last",
        inner(outputText="he"),
        inner(outputText="llo", **METRICS),
        path=f"{TITAN}/invoke-with-response-stream",
        request=TEXT,
    ),
    Exchange("Titan's own counts", f"{TITAN}/invoke", TEXT,
             b'{"inputTextTokenCount":11,"results":[{"tokenCount":3},{"tokenCount":4.0}]}', FINAL, PLAIN),
    Exchange("Titan's embedding", "/model/amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "hi"},
             b'{"embedding":[0.1],"inputTextTokenCount":3}', FINAL, Tokens(input_tokens=3)),
    Exchange("Llama's own counts", "/model/meta.llama3-70b-instruct-v1%3A0/invoke", {"prompt": "hi"},
             b'{"generation":"x","prompt_token_count":11,"generation_token_count":7}', FINAL, PLAIN),
    Exchange("no counts at all", "/model/ai21.j2-mid-v1/invoke", {"prompt": "hi"}, b'{"completions":[]}', ABSENT),
    Exchange("a message of Claude's", f"{CLAUDE}/invoke", MESSAGE,
             json.dumps({"type": "message", "content": [], "usage": {"input_tokens": 11, "output_tokens": 7}}).encode(),
             FINAL, PLAIN),
)  # fmt: skip
