"""Answers written in other words: what another server, or the same one next year, may send for the same usage.

Each way of varying takes the events of an answer as objects and gives them, or its bytes, back with the same meaning.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sidecar.providers.binary_stream import BinaryStream, read_message, write_message

Said = Any
"""A JSON value, decoded."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_EMPTY_LINE = re.compile(rb"(?:(?>\r\n|\r|\n)){2,}")
_USAGES = frozenset({
    "usage", "usageMetadata", "billed_units", "tokens", "iterations", "amazon-bedrock-invocationMetrics", "image_gen",
    "web_search",
})  # fmt: skip
_COUNTS = frozenset({
    "eval_count", "prompt_eval_count", "prompt_token_count", "generation_token_count", "inputTextTokenCount",
    "totalOutputTextTokenCount", "tokenCount", "token_count",
})  # fmt: skip
"""Counts that stand in no object of their own."""

_COUNT = re.compile(r"tokens?\Z|count\Z|units\Z|requests\Z|_count", re.IGNORECASE)


def varied(body: bytes, change: Callable[[Said], Said], written: Callable[[Said], str], framing: str) -> bytes:
    """An answer whose every JSON object is changed and written anew, in its own framing."""
    if framing == "eventstream":
        return b"".join(_binary(body, change, written))
    if framing == "ndjson":
        lines = [written(change(json.loads(line))) for line in body.splitlines() if line.strip()]
        return "".join(line.replace("\n", " ") + "\n" for line in lines).encode()
    if framing == "sse" and not body.lstrip().startswith((b"{", b"[")):
        return b"".join(_events(body, change, written))
    return written(change(json.loads(body))).encode()


def _events(body: bytes, change: Callable[[Said], Said], written: Callable[[Said], str]) -> Iterator[bytes]:
    for event in _EMPTY_LINE.split(body):
        lines = _LINE_END.split(event)
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        others = [line for line in lines if line and not line.startswith(b"data:")]
        if data.lstrip()[:1] == b"{":
            data = written(change(json.loads(data))).encode()
        if data:
            others += [b"data: " + line for line in data.split(b"\n")]
        if others:
            yield b"\n".join(others) + b"\n\n"


def _binary(body: bytes, change: Callable[[Said], Said], written: Callable[[Said], str]) -> Iterator[bytes]:
    stream = BinaryStream(len(body))
    for _, raw in stream.split(stream.feed(body)):
        message = read_message(raw)
        said = json.loads(message.payload)
        if "bytes" in said:
            inner = written(change(json.loads(base64.b64decode(said["bytes"])))).encode()
            outer = json.dumps(said | {"bytes": base64.b64encode(inner).decode()})
            yield write_message(message.headers, outer.encode())
        else:
            yield write_message(message.headers, written(change(said)).encode())


# -- what is changed


def same(said: Said) -> Said:
    """Nothing."""
    return said


def turned(said: Said) -> Said:
    """Every object's members in the opposite order."""
    if isinstance(said, dict):
        return {name: turned(value) for name, value in reversed(said.items())}
    return [turned(value) for value in said] if isinstance(said, list) else said


def extended(said: Said) -> Said:
    """A member that nobody knows in every object: before all others a null, after them one with traps in it."""
    if isinstance(said, dict):
        inner = {name: extended(value) for name, value in said.items()}
        return {"x_new": None, **inner, "x_more": {"a": ['"usage": {', 1], "total": None, "text_": "}"}}
    return [extended(value) for value in said] if isinstance(said, list) else said


def as_text(said: Said) -> Said:
    """Every count of a usage as digits in a string."""
    return _counted(said, str)


def as_float(said: Said) -> Said:
    """Every count of a usage with a fraction of nothing."""
    return _counted(said, float)


def raised(said: Said) -> Said:
    """Every count of a usage one more: another usage."""
    return _counted(said, lambda count: count + 1)


def _counted(said: Said, how: Callable[[int], Said], *, inside: bool = False) -> Said:
    if isinstance(said, dict):
        return {
            name: how(value)
            if type(value) is int and (name in _COUNTS or (inside and _COUNT.search(name)))
            else _counted(value, how, inside=inside or name in _USAGES)
            for name, value in said.items()
        }
    return [_counted(value, how, inside=inside) for value in said] if isinstance(said, list) else said


# -- how it is written


def tight(said: Said) -> str:
    """Without a blank."""
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)


def spaced(said: Said) -> str:
    """With a blank after commas and colons, and nothing beyond ASCII."""
    return json.dumps(said)


def pretty(said: Said) -> str:
    """Over many lines."""
    return json.dumps(said, indent=2, ensure_ascii=False)


# -- how events are framed


def with_carriage_returns(body: bytes) -> bytes:
    """Lines that end in CRLF."""
    return _LINE_END.sub(b"\r\n", body)


def with_bare_returns(body: bytes) -> bytes:
    """Lines that end in CR."""
    return _LINE_END.sub(b"\r", body)


def with_pings(body: bytes) -> bytes:
    """Comments, ids and times to retry between events and within them, and a mark of the byte order before all."""
    between = b'\n\n: ping - 2026-11-27 "usage": {}\n\n:\n\nid: 7\nretry: 10\n'
    return b"\xef\xbb\xbf" + re.sub(rb"\n\n(?=.)", lambda _: between, body, flags=re.DOTALL)


def without_blanks(body: bytes) -> bytes:
    """No blank after a field's colon, and no empty line at the end."""
    return re.sub(rb"(?m)^(data|event): ", rb"\1:", body).rstrip(b"\n")
