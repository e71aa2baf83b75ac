from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from sidecar.telemetry.logs import MAX_LINE_CHARACTERS, LogOptions, configure, redact, redact_also


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts logging back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "key sk-canary-7f3a91c2d4 used",
        "Authorization: Bearer abc.DEF-123",
        "{'x-api-key': 'topsecret1'}",
        '{"authorization": "Basic dXNlcjpwdw=="}',
        "(b'Authorization', b'Bearer topsecret1')",
        "GET /v1beta?key=topsecret1",
        "AIzaSyA1234567890abcdefghij",
        "eyJhbGciOi.eyJzdWIiOiI.c2lnbmF0dXJl",
        "cookie=topsecret1",
        "Bearer topsecret1",
        '"api-key":"topsecret1"',
        '\\"x-api-key\\": \\"topsecret1\\"',
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str) -> None:
    """S-22: header values, keys of the known forms, queries, quoted or not."""
    clean = redact(text)
    for secret in ("sk-canary", "abc.DEF", "topsecret1", "dXNlcjpwdw", "AIzaSy", "c2lnbmF0dXJl"):
        assert secret not in clean
    assert "[redacted]" in clean


def test_ordinary_words_stay() -> None:
    """What operators need is not blackened."""
    text = "request_settled customer=acme model=gpt-4o-mini task-runner disk-full1 request_id=req_abc"
    assert redact(text) == text


def test_loaded_secrets_are_taken_out_verbatim() -> None:
    """A key of no known form, once it is known, is found anywhere."""
    assert redact("it is Tr0ub4dor&3, yes", ["Tr0ub4dor&3"]) == "it is [redacted], yes"


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["text", "json"])
def test_one_event_is_one_line(form: Literal["text", "json"]) -> None:
    """Line breaks in values or exceptions' texts cannot make a second line; no fact is lost."""
    stream = io.StringIO()
    configure(LogOptions(form), stream=stream)
    logger = logging.getLogger("sidecar.test")
    logger.info("request_settled", extra={"facts": {"customer": "acme", "model": "a\nb", "charge": 5, "none": None}})
    try:
        raise ValueError("sk-canary-123456\nsecond")
    except ValueError:
        logger.exception("request_failed")
    first, second = lines(stream)
    assert "acme" in first
    assert "none" not in first
    assert "canary" not in second
    assert "test_one_event_is_one_line" in second
    if form == "json":
        assert json.loads(first)["model"] == "a\nb"
        assert json.loads(second)["event"] == "request_failed"
    else:
        assert "charge=5" in first


@pytest.mark.usefixtures("restored")
def test_libraries_are_tamed() -> None:
    """No access lines, no tracebacks of theirs over many lines; a forged line break stays inside its line."""
    stream = io.StringIO()
    configure(LogOptions(), stream=stream)
    logging.getLogger("aiohttp.access").info("GET /")
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("aiohttp.server").exception("Error handling\n2026 INFO forged")
    (line,) = lines(stream)
    assert "OSError" in line
    assert "logger=aiohttp.server" in line


@pytest.mark.usefixtures("restored")
def test_a_line_has_a_bound() -> None:
    """However long a fact is."""
    stream = io.StringIO()
    configure(LogOptions("json"), stream=stream)
    logging.getLogger("sidecar.x").error("big", extra={"facts": {"x": "y" * 100_000}})
    assert len(stream.getvalue()) <= MAX_LINE_CHARACTERS + 1


@pytest.mark.usefixtures("restored")
def test_secrets_that_are_told_of_are_taken_out_until_they_are_forgotten() -> None:
    """S-22: asked for at each line, so a rotated key is known; a longer one is taken out whole before its part."""
    stream = io.StringIO()
    configure(LogOptions(), stream=stream)
    held = ["Tr0ub4dor&3", "Tr0ub4dor&3-and-more"]
    forget = redact_also(lambda: held)
    try:
        logging.getLogger("sidecar.x").info("it is Tr0ub4dor&3-and-more")
        held[:] = ["another-secret"]
        logging.getLogger("elsewhere").error("now another-secret, before Tr0ub4dor&3")
    finally:
        forget()
    logging.getLogger("sidecar.x").info("and another-secret")
    first, second, third = lines(stream)
    assert first.endswith("it is [redacted]")
    assert "now [redacted], before Tr0ub4dor&3" in second
    assert third.endswith("and another-secret")
