"""What providers may send one day or another, beside what they usually do: by hand, from what is known of each."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings import anthropic_exchanges as claude
from tests.recordings import bedrock_exchanges as bedrock
from tests.recordings import cohere_exchanges as cohere
from tests.recordings import gemini_exchanges as gemini
from tests.recordings import ollama_exchanges as ollama
from tests.recordings import responses_exchanges as responses
from tests.recordings.exchange import (
    ANTHROPIC,
    OPENAI,
    Exchange,
    chunk,
    completion,
    message,
    openai_usage,
    sse,
    stopped,
)
from tests.recordings.openai_exchanges import ALONE, ASKED, DELTAS, NOT_ASKED, PLAIN, STREAMED, USAGE

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
DONE: Final = "[DONE]"


def _chat(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, OPENAI, ASKED, completion(usage, **more.pop("says", {})), state, tokens, **more)


def _chunks(name: str, *events: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": PLAIN, "finished": DONE in events, **more}
    return Exchange(name, OPENAI, facts.pop("request", STREAMED), sse(*events), state, **facts)


def _tool_delta(arguments: str, **more: Any) -> dict[str, Any]:
    call = {"index": 0, "function": {"arguments": arguments}, **more}
    return chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])


CHAT: Final = (
    _chat("details that are null", USAGE | {"prompt_tokens_details": None, "completion_tokens_details": None}, PLAIN),
    _chat(
        "details of which each is null",
        USAGE | {"prompt_tokens_details": {"cached_tokens": None, "audio_tokens": None}},
        PLAIN,
    ),
    _chat("no total", {"prompt_tokens": 11, "completion_tokens": 7}, PLAIN),
    _chat("a total that is null", USAGE | {"total_tokens": None}, PLAIN),
    _chat("the names of Responses in a chat", {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}, PLAIN),
    _chat("no usage", None, None, ABSENT),
    _chat("a usage that says nothing", {}, None, ABSENT),
    _chat("a usage that is a list", [], None, ESTIMATED, notes=("usage_out_of_range",)),
    _chat("all counts are 0", openai_usage(0, 0), Tokens(input_tokens=0, output_tokens=0)),
    _chat("no output was counted, as of an embedding", {"prompt_tokens": 11, "total_tokens": 11},
          Tokens(input_tokens=11, output_tokens=0)),
    _chat("cache writes inside the prompt",
          openai_usage(2000, 7, prompt_tokens_details={"cached_tokens": 500, "cache_write_tokens": 1400}),
          Tokens(input_tokens=2000, cache_read_tokens=500, cache_write_tokens=1400, output_tokens=7)),
    _chat("HF's cached tokens", USAGE | {"cached_tokens": 3}, Tokens(input_tokens=11, cache_read_tokens=3,
        output_tokens=7)),
    _chat("Writer's details in the singular", USAGE | {"prompt_token_details": {"cached_tokens": 2}},
          Tokens(input_tokens=11, cache_read_tokens=2, output_tokens=7)),
    _chat("Mistral's seconds that are an empty object", USAGE | {"prompt_audio_seconds": {}}, PLAIN),
    _chat("OpenRouter's reasoning above its completion",
          openai_usage(11, 10, completion_tokens_details={"reasoning_tokens": 11}),
          Tokens(input_tokens=11, output_tokens=10, reasoning_tokens=11)),
    _chat("xAI: reasoning beside, and nothing generated but that",
          {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 31,
           "completion_tokens_details": {"reasoning_tokens": 20}},
          Tokens(input_tokens=11, output_tokens=20, reasoning_tokens=20)),
    _chat("rejected predictions are output", openai_usage(11, 70, completion_tokens_details={
              "accepted_prediction_tokens": 40, "rejected_prediction_tokens": 20}),
          Tokens(input_tokens=11, output_tokens=70, prediction_accepted_tokens=40, prediction_rejected_tokens=20)),
    _chat("a refusal", USAGE, PLAIN, says={"choices": [{"index": 0, "finish_reason": "stop", "message": {
              "role": "assistant", "content": None, "refusal": "I cannot. \"usage\": {}"}}]}),
    _chat("tools alone", USAGE, PLAIN, says={"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
              "content": None, "tool_calls": [{"id": "c", "function": {"name": "f",
                  "arguments": "{\"usage\":{}}"}}]}}]}),
    Exchange("usage before everything", OPENAI, ASKED,
             json.dumps({"usage": USAGE, "model": "m", "id": "x", "choices": []}).encode(), FINAL, PLAIN),
    Exchange("an error that is null", OPENAI, ASKED, completion(USAGE, error=None), FINAL, PLAIN),
    Exchange("keep-alives before the answer, with CRLF", OPENAI, ASKED, b"\r\n \r\n\n" + completion(USAGE), FINAL,
        PLAIN),
)  # fmt: skip

CHAT_STREAMS: Final = (
    _chunks("tools alone, streamed", _tool_delta("", id="c", type="function"), _tool_delta('{"a":'),
            _tool_delta("1}"), stopped(), ALONE, DONE),
    _chunks("three choices", *(chunk(choices=[{"index": i, "delta": {"content": "x"}, "finish_reason": None}])
                               for i in range(3)),
            *(chunk(choices=[{"index": i, "delta": {}, "finish_reason": "stop"}]) for i in range(3)), ALONE, DONE),
    _chunks("usage beside the last choice of two", chunk("a"), chunk(choices=[{"index": 0, "delta": {},
                "finish_reason": "stop"}], usage=openai_usage(11, 3)), chunk(choices=[{"index": 1, "delta": {
                "content": "b"}}]), chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}],
                    usage=USAGE), DONE,
            request=STREAMED | {"n": 2}),
    _chunks("reasoning first", chunk(choices=[{"index": 0, "delta": {"reasoning_content": "hm"}}]),
            chunk(choices=[{"index": 0, "delta": {"reasoning": "hm", "content": None}}]), *DELTAS, ALONE, DONE),
    _chunks("a refusal, streamed", chunk(choices=[{"index": 0, "delta": {"refusal": "No."}}]), stopped(), ALONE,
        DONE),
    _chunks("Writer: no mark at the end", *DELTAS, ALONE),
    _chunks("usage twice, and the same", *DELTAS[:2], stopped(usage=USAGE), ALONE, DONE),
    _chunks("usage that is null after usage", *DELTAS, ALONE, chunk(choices=[], usage=None), DONE),
    _chunks("usage with choices that are null", *DELTAS, chunk(choices=None, usage=USAGE), DONE),
    _chunks("usage without choices", *DELTAS, chunk(usage=USAGE), DONE),
    _chunks("vLLM's running usage, hidden nowhere",
            chunk("a", usage=openai_usage(11, 1)), chunk("b", usage=openai_usage(11, 2)),
            stopped(usage=openai_usage(11, 7)), ALONE, DONE),
    _chunks("Groq's usage, and a chunk of its own", chunk("Hello"), stopped(x_groq={"id": "r", "usage": USAGE}),
        ALONE,
            DONE),
    _chunks("Groq names no usage at first", chunk("Hello", x_groq={"id": "r"}), stopped(x_groq={"usage": USAGE}),
        DONE),
    _chunks("an error in the middle", *DELTAS[:2], {"error": {"message": "gone", "code": 502}}, state=ESTIMATED,
            tokens=None, notes=("provider_error",)),
    _chunks("an error in the middle, with usage and no end", *DELTAS[:2],
            chunk(choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}], usage=USAGE,
                  error={"code": 502}), notes=("provider_error",)),
    Exchange("a length, then the end of the connection", OPENAI, STREAMED, sse(*DELTAS[:2], chunk(
                 choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])), ESTIMATED, None,
             ending=Ending.CUT),
    Exchange("CRLF, CR and LF in one stream", OPENAI, STREAMED,
             sse(DELTAS[0], end="\r\n") + sse(DELTAS[1], end="\r") + sse(DELTAS[2], ALONE, DONE), FINAL, PLAIN,
             finished=True),
    Exchange("an event's name in every event", OPENAI, STREAMED,
             b"".join(b"id: 1\nevent: message\nretry: 5\n" + sse(event) for event in (*DELTAS, ALONE, DONE)), FINAL,
                 PLAIN,
             finished=True),
    Exchange("hidden, with comments about it", OPENAI, NOT_ASKED,
             b": ping\n\n" + sse(*DELTAS) + b": \"usage\": {}\n\n" + sse(ALONE) + b": ping\n\n" + sse(DONE), FINAL,
                 PLAIN,
             finished=True,
             shown=b": ping\n\n" + sse(*DELTAS) + b": \"usage\": {}\n\n" + b": ping\n\n" + sse(DONE)),
)  # fmt: skip


def _message(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    answer = json.dumps(message(usage, **more.pop("says", {}))).encode()
    return Exchange(name, ANTHROPIC, claude.ASKED, answer, state, tokens, **more)


def _events(name: str, *events: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": claude.PLAIN, "finished": True, **more}
    return Exchange(name, ANTHROPIC, claude.STREAMED, sse(*events, named=True), state, **facts)


_START: Final = {"type": "message_start", "message": message(claude.START, content=[], stop_reason=None)}
_TEXT: Final = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "message_"}}
_THOUGHT: Final = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}
_TOOL: Final = {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}
_STOP: Final = {"type": "message_stop"}


def _delta(usage: Any, reason: str | None = "end_turn") -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


CLAUDE: Final = (
    _message("the cache is null", {"input_tokens": 12, "output_tokens": 9, "cache_creation_input_tokens": None,
                                   "cache_read_input_tokens": None, "cache_creation": None, "server_tool_use": None,
                                   "iterations": None, "output_tokens_details": None},
             Tokens(input_tokens=12, output_tokens=9)),
    _message("no passes", claude.START | {"output_tokens": 9, "iterations": []}, claude.PLAIN),
    _message("a refusal is billed", claude.START | {"output_tokens": 9}, claude.PLAIN,
             says={"stop_reason": "refusal", "content": []}),
    _message("only warms the cache", {"input_tokens": 3, "cache_creation_input_tokens": 12_304,
                                      "cache_read_input_tokens": 0, "output_tokens": 0},
             Tokens(input_tokens=12_307, cache_read_tokens=0, cache_write_tokens=12_304, output_tokens=0)),
    _message("fetches and searches", claude.START | {"output_tokens": 9, "server_tool_use": {
                 "web_search_requests": 2, "web_fetch_requests": 1}}, claude.PLAIN,
             units={"web_search_requests": 2, "web_fetch_requests": 1}),
    _message("an advisor that is another model, and thinking",
             claude.START | {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}, "iterations": [
                 {"type": "message", "input_tokens": 12, "output_tokens": 9, "cache_read_input_tokens": 0,
                  "cache_creation_input_tokens": 0},
                 {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 823, "output_tokens": 1612,
                  "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}]},
             Tokens(input_tokens=835, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1621,
                 reasoning_tokens=4),
             lines=(Line(Tokens(input_tokens=12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=9,
                                reasoning_tokens=4), claude.MODEL),
                    Line(Tokens(input_tokens=823, cache_read_tokens=0, cache_write_tokens=0, output_tokens=1612),
                         "claude-opus-5", "advisor"))),
    _message("no usage", None, None, ABSENT),
    _message("no output was told", {"input_tokens": 12}, None, ESTIMATED, notes=("usage_out_of_range",)),
    _events("the delta tells the output alone", _START, _TEXT, _delta({"output_tokens": 9}), _STOP),
    _events("the delta has nulls", _START, _TEXT,
            _delta({"output_tokens": 9, "input_tokens": None, "cache_read_input_tokens": None}), _STOP),
    _events("pings between and after", {"type": "ping"}, _START, {"type": "ping"}, _TEXT,
        _delta({"output_tokens": 9}),
            {"type": "ping"}, _STOP, {"type": "ping"}),
    _events("tools and thinking alone", _START, _THOUGHT, _TOOL, _delta({"output_tokens": 9}, "tool_use"), _STOP),
    _events("three deltas, the last tells most", _START, _TEXT, _delta({"output_tokens": 2}, None),
            _delta({"output_tokens": 5}, None), _delta({"output_tokens": 9}), _STOP),
    _events("no end behind the last figures", _START, _TEXT, _delta({"output_tokens": 9}), finished=False),
    _events("nothing was generated", _START, _delta({"output_tokens": 0}, "refusal"), _STOP,
            tokens=Tokens(input_tokens=12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=0)),
    _events("the start's usage is null", {"type": "message_start", "message": message(None)}, _TEXT,
            _delta({"input_tokens": 12, "output_tokens": 9}), _STOP, tokens=Tokens(input_tokens=12, output_tokens=9)),
    _events("passes come with the delta", _START, _TEXT, _delta({"output_tokens": 9, "iterations": [
                {"type": "compaction", "input_tokens": 60_000, "output_tokens": 81},
                {"type": "message", "input_tokens": 12, "output_tokens": 9}]}), _STOP,
            tokens=Tokens(input_tokens=60_012, output_tokens=90)),
    Exchange("CRLF, and no names", ANTHROPIC, claude.STREAMED,
             sse(_START, _TEXT, _delta({"output_tokens": 9}), _STOP, end="\r\n"), FINAL, claude.PLAIN, finished=True),
)  # fmt: skip


def _gemini(name: str, *chunks: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": gemini.PLAIN, **more}
    request = gemini.ASKED | facts.pop("asks", {})
    return Exchange(name, gemini.EVENTS, request, sse(*chunks, end="\r\n"), state, **facts)


def _snake(name: str, **counts: Any) -> dict[str, Any]:
    return gemini.usage(**{name: None}, **counts)


GEMINI: Final = (
    _gemini("counts that are null on the last chunk", gemini.chunk("Hel", gemini.usage(thoughtsTokenCount=None)),
            gemini.chunk(None, _snake("candidatesTokenCount"), reason="STOP")),
    _gemini("the last chunk has no usage and no text", gemini.chunk("Hello", gemini.usage()),
            gemini.chunk("", reason="STOP")),
    _gemini("the last chunk has text and no usage", gemini.chunk("Hel", gemini.usage()), gemini.chunk("lo",
        reason="STOP"),
            state=PARTIAL, tokens=None, notes=("output_counted", "hidden_reasoning")),
    _gemini("the prompt grows by a file search, and falls by one",
            gemini.chunk("a", gemini.usage(promptTokenCount=8, candidatesTokenCount=1, totalTokenCount=9)),
            gemini.chunk("b", gemini.usage(promptTokenCount=428, candidatesTokenCount=3, totalTokenCount=431)),
            gemini.chunk(None, gemini.usage(promptTokenCount=427, candidatesTokenCount=7, totalTokenCount=434),
                         reason="STOP"),
            tokens=Tokens(input_tokens=427, output_tokens=7)),
    _gemini("thoughts come first, and no word of the answer yet",
            gemini.chunk(None, {"promptTokenCount": 11, "thoughtsTokenCount": 20, "totalTokenCount": 31}),
            gemini.chunk("a", gemini.usage(thoughtsTokenCount=20, totalTokenCount=38), reason="STOP"),
            tokens=Tokens(input_tokens=11, output_tokens=27, reasoning_tokens=20)),
    _gemini("two candidates, of which one ends first",
            {"candidates": [{"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
                            {"index": 1, "content": {"parts": [{"text": "b"}]}}],
             "usageMetadata": gemini.usage(candidatesTokenCount=4, totalTokenCount=15)},
            {"candidates": [{"index": 1, "content": {"parts": [{"text": "c"}]}, "finishReason": "STOP"}],
             "usageMetadata": gemini.usage()},
            asks={"generationConfig": {"candidateCount": 2}}),
    _gemini("a call of a function alone",
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"text": "x"}}}]},
                             "finishReason": "STOP"}], "usageMetadata": gemini.usage()}),
    _gemini("stopped for safety, with nothing to show",
            {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": {"promptTokenCount": 11,
                "totalTokenCount": 11}},
            tokens=Tokens(input_tokens=11)),
    _gemini("tools and a cache", gemini.chunk("a", gemini.usage(
                toolUsePromptTokenCount=100, cachedContentTokenCount=10, totalTokenCount=118), reason="STOP"),
            tokens=Tokens(input_tokens=111, cache_read_tokens=10, tool_input_tokens=100, output_tokens=7)),
    _gemini("an error with figures before it", gemini.chunk("Hel", gemini.usage()),
            {"error": {"code": 503, "status": "UNAVAILABLE"}}, state=PARTIAL, tokens=None,
            notes=("output_counted", "hidden_reasoning", "provider_error")),
    Exchange("an array of one", gemini.ARRAY, gemini.ASKED,
             json.dumps([gemini.chunk("a", gemini.usage(), reason="STOP")]).encode(), FINAL, gemini.PLAIN),
    Exchange("an array without a blank, and bytes after it", gemini.ARRAY, gemini.ASKED,
             json.dumps([gemini.chunk("a", gemini.BEGUN), gemini.chunk("}]", gemini.usage(), reason="STOP")],
                        separators=(",", ":")).encode() + b"\n", FINAL, gemini.PLAIN),
)  # fmt: skip


def _response(name: str, *events: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": responses.PLAIN, "finished": True, "tier": "default", **more}
    body = b"".join(sse(event, named=event != DONE) for event in events)
    return Exchange(name, responses.PATH, responses.STREAMED, body, state, **facts)


_BEGUN: Final = responses.events(None, end="")
RESPONSES: Final = (
    _response("ended by its limit, as `incomplete`", *responses.events(responses.USAGE, end="response.incomplete",
        status="incomplete",
                                                     incomplete_details={"reason": "max_output_tokens"})),
    _response("cancelled, and billed", *responses.events(responses.USAGE, end="response.cancelled",
        status="cancelled"),
              notes=("provider_error",)),
    _response("an error after the text", *_BEGUN, {"type": "error", "code": "server_error", "message": "no"},
              state=ESTIMATED, tokens=None, finished=False, notes=("provider_error",)),
    _response("a mark of the end, as OpenRouter adds it", *responses.events(responses.USAGE), "[DONE]"),
    _response("completed without usage", *responses.events(None), state=ESTIMATED, tokens=None),
    _response("tools alone, and a refusal", *_BEGUN[:2],
              {"type": "response.function_call_arguments.delta", "delta": '{"a":1}'},
              {"type": "response.refusal.delta", "delta": "No."},
              {"type": "response.completed", "response": responses.response(responses.USAGE)}),
    _response("the text speaks of the end", *_BEGUN,
              {"type": "response.output_text.delta", "delta": 'response.completed "usage": {"input_tokens": 1}'},
              {"type": "response.output_text.done", "text": '{"type":"response.completed"}'},
              {"type": "response.completed", "response": responses.response(responses.USAGE)}),
    Exchange("usage before its output", responses.PATH, responses.ASKED, json.dumps(
                 {"usage": responses.USAGE} | responses.response(None) | {"usage": responses.USAGE}).encode(),
             FINAL, responses.PLAIN, tier="default"),
    Exchange("details that are null, no total", responses.PATH, responses.ASKED, json.dumps(responses.response(
                 {"input_tokens": 12, "output_tokens": 9, "input_tokens_details": None})).encode(), FINAL,
             Tokens(input_tokens=12, output_tokens=9), tier="default"),
    Exchange("events without names, CRLF", responses.PATH, responses.STREAMED,
             sse(*responses.events(responses.USAGE), end="\r\n"), FINAL, responses.PLAIN, tier="default",
                 finished=True),
)  # fmt: skip

CLOUDS: Final = (
    Exchange("a cache that is null", bedrock.CONVERSE, bedrock.ASKED, json.dumps(
                 {"output": {}, "usage": bedrock.USAGE | {"cacheReadInputTokens": None,
                     "cacheDetails": None}}).encode(),
             FINAL, bedrock.PLAIN),
    Exchange("counts that are floats", bedrock.CONVERSE, bedrock.ASKED, json.dumps(
                 {"output": {}, "usage": {"inputTokens": 11.0, "outputTokens": 7.0, "totalTokens": 18.0}}).encode(),
                     FINAL,
             bedrock.PLAIN),
    Exchange("stopped by a guardrail", bedrock.CONVERSE, bedrock.ASKED, json.dumps(
                 {"output": {"message": {"content": []}}, "stopReason": "guardrail_intervened",
                  "usage": {"inputTokens": 11, "outputTokens": 0, "totalTokens": 11}}).encode(), FINAL,
             Tokens(input_tokens=11, output_tokens=0)),
    Exchange("a stream whose metadata has a trace before its usage", bedrock.STREAM, bedrock.ASKED, b"".join(
                 [*bedrock.BEGUN, bedrock.event("messageStop", stopReason="end_turn"),
                  bedrock.event("metadata", trace={"usage": {"inputTokens": 1}}, metrics={}, usage=bedrock.USAGE)]),
                      FINAL,
             bedrock.PLAIN, finished=True),
    Exchange("a stream that fails after its text", bedrock.STREAM, bedrock.ASKED,
             b"".join([*bedrock.BEGUN, bedrock.failure("modelStreamErrorException")]), ESTIMATED, None,
             notes=("provider_error",)),
    Exchange("searches that are billed", cohere.CHAT, cohere.ASKED, json.dumps({"id": "c", "usage": {
                 "billed_units": {"input_tokens": 11, "output_tokens": 7, "search_units": 1, "classifications": 0},
                 "tokens": {"input_tokens": 11, "output_tokens": 7}}}).encode(), FINAL, cohere.PLAIN,
             units={"search_units": 1}),
    Exchange("NDJSON with empty lines and CRLF", ollama.PATH, ollama.STREAMED,
             b"\r\n".join([json.dumps(line).encode() for line in (*ollama._TEXTS, ollama._LAST)]).replace(
                 b"}\r\n{", b"}\r\n\r\n{") + b"\r\n", FINAL, ollama.PLAIN, finished=True),
)  # fmt: skip

EXCHANGES: Final = (*CHAT, *CHAT_STREAMS, *CLAUDE, *GEMINI, *RESPONSES, *CLOUDS)
