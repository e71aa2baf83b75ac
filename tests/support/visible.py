"""What a reader of a stream has seen of it so far: a slow reading of its own, which knows nothing of the meters.

It takes the whole events of a beginning of an answer and gives the text, the thinking and the arguments of tools in
them, piece by piece. What an event only repeats (the whole text at its end) is not counted twice, and of bytes that
make no sense nothing after them is read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

_PRELUDE_BYTES = 12
_CHECKSUM_BYTES = 4


def shown_texts(body: bytes) -> list[str]:
    """The pieces that the whole events in this beginning of an answer show, in their order; compressed or not."""
    texts: list[str] = []
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, IndexError):
        for event in _events(_plain(body)):
            texts += [text for text in _texts_of(event) if isinstance(text, str) and text]
    return texts


def _plain(body: bytes) -> bytes:
    """Without its compression, as far as it goes."""
    plain = b""
    with contextlib.suppress(zlib.error):
        while body[:2] == b"\x1f\x8b":
            member = zlib.decompressobj(31)
            plain += member.decompress(body)
            body = member.unused_data
        return plain or body
    return plain


def _events(body: bytes) -> Iterator[Any]:
    """Its whole events, in any of the framings that providers use."""
    if body[:1] == b"\0":
        yield from _binary(body)
    elif body.lstrip()[:1] == b"[":
        yield from _array(body.decode("utf-8", "ignore").lstrip()[1:])
    elif body.lstrip()[:1] == b"{":
        for line in body.split(b"\n")[:-1]:
            if line.strip():
                yield json.loads(line)
    else:
        text = body.decode("utf-8", "ignore").replace("\r\n", "\n").replace("\r", "\n")
        for block in text.split("\n\n")[:-1]:
            data = "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
            if data and data != "[DONE]":
                yield json.loads(data)


def _binary(body: bytes) -> Iterator[Any]:
    while len(body) >= _PRELUDE_BYTES:
        whole, heads = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
        if not _PRELUDE_BYTES + heads + _CHECKSUM_BYTES <= whole <= len(body):
            return
        if zlib.crc32(body[: whole - _CHECKSUM_BYTES]) != int.from_bytes(body[whole - _CHECKSUM_BYTES : whole]):
            return
        said = json.loads(body[_PRELUDE_BYTES + heads : whole - _CHECKSUM_BYTES])
        yield json.loads(base64.b64decode(said["bytes"])) if "bytes" in said else said
        body = body[whole:]


def _array(text: str) -> Iterator[Any]:
    reader = json.JSONDecoder()
    while text := text.lstrip().removeprefix(",").lstrip():
        said, end = reader.raw_decode(text)
        yield said
        text = text[end:]


def _texts_of(event: dict[str, Any]) -> Iterator[Any]:
    """The texts that one event adds, whichever protocol's it is."""
    for choice in event.get("choices") or ():
        yield choice.get("text")
        yield from _strings(choice.get("delta") or {})
    for candidate in event.get("candidates") or ():
        for part in (candidate.get("content") or {}).get("parts") or ():
            yield part.get("text")
    kind, delta = str(event.get("type", "")), event.get("delta")
    if isinstance(delta, str):
        yield delta if kind.endswith(".delta") else None
    elif isinstance(delta, dict) and not kind.endswith(("end", "done", "stop", "message_delta")):
        yield from _strings(delta)
    if "contentBlockDelta" in event:  # Nova's own events
        yield from _strings(event["contentBlockDelta"].get("delta") or {})
    if "done" in event:  # Ollama
        yield event.get("response")
        yield from _strings(event.get("message") or {})
    if event.get("event_type") == "text-generation" or "outputText" in event or "generation" in event:
        yield from (event.get(name) for name in ("text", "outputText", "generation"))
    for output in event.get("outputs") or ():
        yield output.get("text")


_SHOWN = {
    "content",
    "text",
    "thinking",
    "reasoning",
    "reasoning_content",
    "refusal",
    "arguments",
    "partial_json",
    "input",
}


def _strings(delta: dict[str, Any]) -> Iterator[str]:
    """Every text below these names, however deep it stands."""
    for name, value in delta.items():
        if isinstance(value, str):
            if name in _SHOWN:
                yield value
        else:
            for below in value if isinstance(value, list) else [value]:
                if isinstance(below, dict):
                    yield from _strings(below)
