"""The meter's bounds and endings: what it keeps, what it holds back, and what it says when figures are missing."""

from __future__ import annotations

import json

import pytest

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers import metering
from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.providers.event_stream import HELD_BYTES_MAX
from sidecar.providers.metering import JSON_TAIL_BYTES
from sidecar.providers.openai_chat import OpenAIChat, OpenAIChatReading
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT, dialect_for
from sidecar.providers.token_estimates import ESTIMATE_MARGIN, output_estimate
from tests.recordings.exchange import chunk, completion, message_stream, openai_usage, sse


def request(stream: bool = True, **fields: object) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": [], "stream": stream, **fields}).encode()


def meter(stream: bool = True, **fields: object) -> AnswerMeter:
    facts = OPENAI_CHAT.read_request(request(stream, **fields))
    return OPENAI_CHAT.meter(facts, status=200, lines=b"", content_encoding="")


def test_only_the_unfinished_event_is_held_back() -> None:
    """While usage is hidden, whole events pass at once; at most HELD_BYTES_MAX wait."""
    hiding = meter()
    event = sse(chunk("hello"))
    assert hiding.feed(event) == event
    assert hiding.feed(event + event[:50]) == event
    assert hiding.feed(event[50:]) == event
    long = b'data: {"choices":[{"delta":{"content":"' + b"x" * HELD_BYTES_MAX
    assert hiding.feed(long) == long
    assert hiding.feed(b'"}}]}\n\n') == b'"}}]}\n\n'
    assert hiding.feed(sse(chunk(choices=[], usage=openai_usage(3, 4)))) == b""
    assert hiding.flush() == b""
    assert hiding.usage(Ending.COMPLETE).total() == Tokens(3, output_tokens=4)


def test_nothing_is_held_back_when_nothing_is_hidden() -> None:
    """A caller who asked for usage gets every piece as it comes."""
    plain = meter(stream_options={"include_usage": True})
    body = sse(chunk("hello"), chunk(choices=[], usage=openai_usage(3, 4)), "[DONE]")
    assert [plain.feed(body[i : i + 1]) for i in range(len(body))] == [body[i : i + 1] for i in range(len(body))]


def test_a_json_answer_too_long_to_keep_is_read_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and the usage that is read is the answer's own, not one quoted inside it."""
    monkeypatch.setattr(metering, "JSON_BYTES_MAX", 1000)
    for usage, state in ((openai_usage(3, 4), UsageState.FINAL), (None, UsageState.ABSENT)):
        inner = {"tool": {"usage": openai_usage(90, 90)}, "pad": "x" * 500_000}
        body = completion(usage, choices=[inner, {"usage": openai_usage(80, 80)}])
        if usage is None:
            body = body.replace(b', "usage": null', b"")
        long = meter(stream=False)
        for i in range(0, len(body), 10_000):
            long.feed(body[i : i + 10_000])
            assert isinstance(long, metering.Meter)
            assert len(long._json or b"") <= 2 * JSON_TAIL_BYTES + 10_000
        read = long.usage(Ending.COMPLETE)
        assert read.state == state
        assert read.total() == (Tokens(3, output_tokens=4) if usage else Tokens())


def test_an_estimate_counts_events_or_bytes_whichever_is_more() -> None:
    """F-22, F-26: max(events, bytes / 2.5) + a margin; never above the limit."""
    assert output_estimate(10, 3) == 10 + ESTIMATE_MARGIN
    assert output_estimate(1, 1001) == 401 + ESTIMATE_MARGIN
    assert output_estimate(0, 0) == ESTIMATE_MARGIN
    for limit, expected in ((None, 50 + ESTIMATE_MARGIN), (30, 30)):
        broken = meter(max_tokens=limit)
        broken.feed(sse(*[chunk("a") for _ in range(50)]))
        read = broken.usage(Ending.CUT)
        assert read.state == UsageState.ESTIMATED
        assert read.total().output_tokens == expected
        assert read.total().input_tokens == OPENAI_CHAT.read_request(request(max_tokens=limit)).ceiling.input_tokens


def test_an_event_too_long_is_said_so() -> None:
    """B-U07: the meter degrades and says so; the bytes pass."""
    reader = meter()
    reader.feed(sse(chunk("a")))
    for _ in range(20):
        assert len(reader.feed(b"data: " + b"x" * 2**17)) > 0
    read = reader.usage(Ending.COMPLETE)
    assert (read.state, read.notes) == (UsageState.ESTIMATED, ("meter_degraded",))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_figures_before_an_event_that_was_not_read_are_not_the_last(path: str) -> None:
    """L25: the closing event may have been the one too long to be read; after it, figures close again."""
    dialect = dialect_for(path)
    assert dialect is not None
    start = message_stream({"input_tokens": 10, "output_tokens": 1}, stop=False)
    running, end, last = (
        sse(chunk("a", usage=openai_usage(10, 1))),
        sse("[DONE]"),
        sse(chunk(choices=[], usage=openai_usage(10, 2000))),
    )
    if path == "/v1/messages":
        running = start + message_delta({"output_tokens": 4})
        last, end = message_delta({"output_tokens": 2000}), sse({"type": "message_stop"}, named=True)
    for more, state, output in ((b"", UsageState.PARTIAL, None), (last, UsageState.FINAL, 2000)):
        facts = dialect.read_request(request(max_tokens=4000))
        reader = dialect.meter(facts, status=200, lines=b"", content_encoding="")
        reader.feed(running)
        for _ in range(20):
            reader.feed(b"data: " + b"x" * 2**17)
        reader.feed(b"\n\n")
        reader.feed(more)
        reader.feed(end)
        read = reader.usage(Ending.COMPLETE)
        assert read.state is state
        assert output in (None, read.total().output_tokens)
        assert ("meter_degraded" in read.notes) == (state is UsageState.PARTIAL)


def message_delta(usage: dict[str, int]) -> bytes:
    return sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, named=True)


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (524, b"<html>a timeout occurred</html>", UsageState.ABSENT),
        (500, b"<html>no</html>", UsageState.ABSENT),
        (503, b"upstream connect error", UsageState.ABSENT),
        (503, b'{"message":"no"}', UsageState.ABSENT),
        (503, b"", UsageState.ABSENT),
        (503, b'{"error":{"message":"no"}}', UsageState.ERROR),
        (401, b"<html>no</html>", UsageState.ERROR),
    ],
)
def test_a_page_before_the_provider_does_not_speak_for_it(status: int, body: bytes, state: UsageState) -> None:
    """F-20: only an error of the provider's own says that it failed."""
    for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES):
        facts = dialect.read_request(request(max_tokens=10))
        reader = dialect.meter(facts, status=status, lines=b"", content_encoding="")
        reader.feed(body.replace(b'{"error"', b'{"type":"error","error"'))
        read = reader.usage(Ending.COMPLETE)
        assert read.state is state
        assert "provider_error" in read.notes


def test_a_mistake_of_ours_costs_the_reading_and_not_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-26: whatever goes wrong inside, every byte passes and the usage is absent, flagged."""

    def fail(*_: object) -> bool:
        raise RuntimeError("a bug")

    body = sse(chunk("hello"), chunk(choices=[], usage=openai_usage(3, 4)), "[DONE]")
    hiding = meter()
    shown = hiding.feed(body[:30])
    monkeypatch.setattr(OpenAIChatReading, "read_event", fail)
    shown += hiding.feed(body[30:]) + hiding.feed(b"more") + hiding.flush()
    assert shown == body + b"more"
    read = hiding.usage(Ending.COMPLETE)
    assert (read.state, read.notes) == (UsageState.ABSENT, ("meter_degraded",))


def test_finished_is_the_protocols_own_mark() -> None:
    """`[DONE]`, not the finish reason and not a text that says so."""
    reader = meter()
    reader.feed(sse(chunk("[DONE]"), chunk(choices=[], usage=openai_usage(3, 4))))
    assert not reader.finished()
    reader.feed(sse("[DONE]"))
    assert reader.finished()


def test_a_usage_may_be_asked_for_again() -> None:
    """The same answer each time."""
    reader = meter()
    reader.feed(sse(chunk("a"), chunk(choices=[], usage=openai_usage(3, 4))).rstrip())
    first = reader.usage(Ending.CUT)
    assert first.total() == Tokens(3, output_tokens=4)
    assert reader.usage(Ending.CUT) == first


def test_the_provider_s_own_words_are_kept() -> None:
    """The usage object verbatim and bounded, and the answer's id, for audit."""
    usage = '{"prompt_tokens": 3,"completion_tokens":4 , "future": [1.50]}'
    reader = meter(stream=False)
    reader.feed(b'{"id":"chatcmpl-9","usage":' + usage.encode() + b"}")
    read = reader.usage(Ending.COMPLETE)
    assert read.raw == usage.encode()
    assert read.provider_request_id == "chatcmpl-9"
    reader = meter(stream=False)
    reader.feed(json.dumps({"usage": openai_usage(3, 4, x="y" * 20_000)}).encode())
    assert len(reader.usage(Ending.COMPLETE).raw) == 8 * 1024


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", OPENAI_CHAT), (b"/v1/chat/completions", OPENAI_CHAT),
        ("/chat/completions", OPENAI_CHAT), ("/openai/deployments/x/chat/completions", OPENAI_CHAT),
        ("/v1/messages", ANTHROPIC_MESSAGES), ("/messages", ANTHROPIC_MESSAGES),
        ("/anthropic/v1/messages", ANTHROPIC_MESSAGES), ("/eu/messages", ANTHROPIC_MESSAGES),
        ("/v1/messages/count_tokens", None), ("/v1/threads/t/messages", None), ("/v1/chat/completions/", None),
        ("/v1/chat%2fcompletions", None), ("/v1/complete", None), ("", None), ("/\udcff", None),
    ],
)  # fmt: skip
def test_paths(path: bytes | str, dialect: object) -> None:
    """B-P34: a path is matched as it came, never normalised."""
    assert dialect_for(path) is dialect
    assert isinstance(OPENAI_CHAT, OpenAIChat)
