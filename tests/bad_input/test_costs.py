"""What bad input may cost: no more than 100 times its bytes in memory, and bounded work; and the guards at the start.

Work is told in counts (of events split, of values walked) and not in time, which depends on who
else uses the machine.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import http_parser

from sidecar.catalog.strict_yaml import read_yaml
from sidecar.errors import ConfigurationError
from sidecar.providers import event_stream
from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.dialect import BadRequest, Ending
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.providers.request_json import REASONS_MAX, read_object
from sidecar.proxy.accept import AcceptOptions, FrontDoor
from sidecar.proxy.request_head import LOOPBACK_HOSTS, read_head
from tests.support.besieged import GOOD_BODY, GOOD_MESSAGE
from tests.support.refusals import plain_refusal

MOST_TIMES_ITS_BYTES = 100
SIZE = 200_000

START = b'{"model":"gpt-4o-mini","max_tokens":5,"messages":'
TIERS: dict[str, bytes] = {
    "a list of empty lists": START + b"[" + b"[]," * (SIZE // 3) + b"[]]}",
    "a list of empty objects": START + b"[" + b"{}," * (SIZE // 3) + b"{}]}",
    "messages of parts": START + b'[{"content":[' + b"{}," * (SIZE // 3) + b"{}]}]}",
    "messages of nothing": START + b"[" + b'{"content":[]},' * (SIZE // 15) + b"{}]}",
    "tools of nothing": START + b'[],"tools":[' + b"{}," * (SIZE // 3) + b"{}]}",
    "functions of nothing": START + b'[],"functions":[' + b"{}," * (SIZE // 3) + b"{}]}",
    "modalities": START + b'[],"modalities":[' + b"[]," * (SIZE // 3) + b"[]]}",
    "numbers": START + b'[],"functions":[' + b"1," * (SIZE // 2) + b"1]}",
    "fields": b"{" + b",".join(b'"%d":0' % n for n in range(SIZE // 9)) + b"}",
    "one field, many times": b"{" + b'"a":0,' * (SIZE // 6) + b'"a":0}',
    "depth": START + b"[" * (SIZE // 2) + b"]" * (SIZE // 2) + b"}",
    "one long text": START + b'[{"content":"' + b"a" * SIZE + b'"}]}',
    "escapes": START + b'[{"content":"' + b"\\u0041" * (SIZE // 6) + b'"}]}',
    "quotes": START + b'"' + b'\\"' * (SIZE // 2),
    "a key without end": b'{"' + b"a\\" * (SIZE // 2),
    "blanks": b" " * SIZE + GOOD_BODY,
    "an unknown field of lists": START + b'[],"x":[' + b"[]," * (SIZE // 3) + b"[]]}",
    "a prediction": START + b'[],"prediction":{"content":[' + b"{}," * (SIZE // 3) + b"{}]}}",
}  # fmt: skip


@pytest.mark.parametrize("dialect", [OpenAIChat(), AnthropicMessages()], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("field", ["messages", "tools", "content", "metadata"])
@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"a":0}'], ids=["objects", "lists", "pairs"])
def test_what_has_too_many_parts_is_not_looked_through(
    value: bytes, field: str, dialect: OpenAIChat | AnthropicMessages
) -> None:
    """Megabytes of nothing keep nobody waiting: refused before anything of it is taken apart."""
    nothing = b"[" + (value + b",") * 1_500_000 + value + b"]"
    inner = b'[{"content":' + nothing + b"}]" if field == "content" else nothing
    name = b"messages" if field == "content" else field.encode()
    body = b'{"model":"m","max_tokens":5,"' + name + b'":' + inner + b"}"

    def read() -> None:
        with pytest.raises(BadRequest, match="more than"):
            dialect.read_request(body)

    assert peak_of(read) < len(body)


def test_reasons_are_told_once_and_not_without_end() -> None:
    """Ten thousand unknown parts are not ten thousand reasons."""
    parts = b",".join(b'{"type":"t%d"}' % (number % 5000) for number in range(10_000))
    facts = OpenAIChat().read_request(START + b'[{"content":[' + parts + b"]}]}")
    assert len(facts.ceiling.unbounded) == REASONS_MAX


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python held at once for this."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dialect", [OpenAIChat(), AnthropicMessages()], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("kind", TIERS)
def test_a_body_costs_no_more_than_its_size_allows(kind: str, dialect: OpenAIChat | AnthropicMessages) -> None:
    """Memory while a hostile body is read."""
    body = TIERS[kind].replace(b'"functions"', b'"tools"') if isinstance(dialect, AnthropicMessages) else TIERS[kind]

    def read() -> None:
        with contextlib.suppress(BadRequest):
            dialect.read_request(body)

    assert peak_of(read) < MOST_TIMES_ITS_BYTES * len(body)


def test_what_a_body_makes_up_is_not_kept() -> None:
    """A name of kilobytes, another in each body: read exactly, refused or not, and forgotten with the body."""
    size, bodies = 20_000, 300

    def read() -> None:
        for number in range(bodies):
            name = b"%d" % number + b"a" * size
            for spaced in (b'{"%b": 1, "b": 2}', b'{"%b":1,"b":2}', b'{"\\u0061%b": 1}'):
                assert len(read_object(spaced % name)) in {1, 2}
            with contextlib.suppress(BadRequest):
                OpenAIChat().read_request(GOOD_BODY[:-1] + b', "%b" : [1], "tools": [{"type": "%b"}]}' % (name, name))
            with contextlib.suppress(BadRequest):
                AnthropicMessages().read_request(GOOD_MESSAGE[:-1] + b', "%b" : [1]}' % name)

    read()
    tracemalloc.start()
    try:
        read()
        assert tracemalloc.get_traced_memory()[0] < 10 * size
    finally:
        tracemalloc.stop()


STREAMS: dict[str, bytes] = {
    "empty events": b"\n" * SIZE,
    "returns": b"\r" * SIZE,
    "comments": b":\n\n" * (SIZE // 3),
    "data of nothing": b"data:\n\n" * (SIZE // 7),
    "words that are wanted": b'data: "error""usage":{\n\n' * (SIZE // 24),
    "usage without end": b'data: {"usage":{' * (SIZE // 16),
    "one event without end": b"data: " + b"x" * SIZE,
    "texts": b'"content":"a"' * (SIZE // 13),
    "a JSON list": b"[" + b"[]," * (SIZE // 3),
    "a JSON object": b'{"usage":' + b"[" * SIZE,
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("piece_bytes", [97, SIZE])
def test_an_answer_costs_no_more_than_its_size_allows(kind: str, piece_bytes: int) -> None:
    """Memory while a hostile answer passes the meter."""
    facts = OpenAIChat().read_request(GOOD_BODY[:-1] + b',"stream":true}')
    stream = STREAMS[kind]

    def pass_it() -> None:
        meter = OpenAIChat().meter(facts, status=200, lines=b"", content_encoding="")
        shown = b"".join(meter.feed(stream[at : at + piece_bytes]) for at in range(0, len(stream), piece_bytes))
        assert shown + meter.flush() == stream
        meter.usage(Ending.CUT)

    assert peak_of(pass_it) < MOST_TIMES_ITS_BYTES * len(stream)


@pytest.mark.parametrize("event", [b"\n\n", b":\n\n", b"data:\n\n", b"data: x\n\n"])
def test_events_that_say_nothing_are_not_split_one_by_one(event: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-U08: one word in a megabyte is looked for where it stands; the loop is not kept from others for the rest."""
    split = 0
    read_apart = event_stream.split_events

    def counting(events: bytes) -> object:
        nonlocal split
        for each in read_apart(events):
            split += 1
            yield each

    monkeypatch.setattr(event_stream, "split_events", counting)
    facts = OpenAIChat().read_request(GOOD_BODY[:-1] + b',"stream":true}')
    meter = OpenAIChat().meter(facts, status=200, lines=b"", content_encoding="")
    count = 2**18 // len(event)
    meter.feed(b'data: {"id":"a","choices":[]}\n\n' + event * count + b'data: {"error":null}\n\n' + event * count)
    assert split < 1000


def test_a_head_costs_no_more_than_its_size_allows() -> None:
    """As many header lines as there may be, all joined under one name."""
    headers = [(b"X-Forwarded-For", b"a" * 8000)] * 100
    size = sum(len(name) + len(value) for name, value in headers)
    peak = peak_of(
        lambda: read_head("POST", "/v1/messages", (1, 1), [(b"Host", b"localhost"), *headers], hosts=LOOPBACK_HOSTS)
    )
    assert peak < MOST_TIMES_ITS_BYTES * size


def test_a_configuration_costs_no_more_than_its_size_allows() -> None:
    """A file of the largest size that is taken, made of the smallest nodes."""
    data = b"a: [" + b"[]," * 40_000 + b"[]]"

    def read() -> None:
        with contextlib.suppress(ConfigurationError):
            read_yaml("f", data)

    assert peak_of(read) < MOST_TIMES_ITS_BYTES * len(data)


# -- guards at the start


async def test_without_the_parser_in_c_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-59: aiohttp's parser in Python takes framing that hides requests, so no door opens with it."""
    from sidecar.proxy.sweep import Sweep

    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)

    async def carry(_: object) -> None:
        raise AssertionError("nothing comes so far")

    with pytest.raises(ConfigurationError, match="C parser"):
        FrontDoor(carry, shape=plain_refusal, sweep=Sweep(), options=AcceptOptions())


def test_the_command_says_that_the_parser_is_missing(tmp_path: Path) -> None:
    """S-59: `spend up` with aiohttp's extensions switched off ends with a sentence and no trace."""
    command = [sys.executable, "-m", "sidecar.cli.main", "up", "--data", str(tmp_path / "data")]
    command += ["--port", "0", "--health-port", "0", "--ledger-port", "0"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SPEND_DEMO": "off", "AIOHTTP_NO_EXTENSIONS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "C parser" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "admin.json").exists()


def test_guards_hold_without_assertions(tmp_path: Path) -> None:
    """S-58: under `python -O` a hostile body is refused all the same."""
    code = (
        "from sidecar.providers.openai_chat import OpenAIChat\n"
        "from sidecar.providers.dialect import BadRequest\n"
        "import json, sys\n"
        "try: OpenAIChat().read_request(sys.stdin.buffer.read())\n"
        "except BadRequest as bad: print(bad.code)\n"
    )
    body = GOOD_BODY[:-1] + b',"max_tokens":9}'
    done = subprocess.run([sys.executable, "-O", "-c", code], input=body, capture_output=True, check=True, timeout=60)
    assert json.dumps(done.stdout.decode().strip()) == '"duplicate_field"'
