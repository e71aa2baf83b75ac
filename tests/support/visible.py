"""What a reader of a stream has seen of it so far: a slow reading of its own, which knows nothing of the meters.

It takes the whole events of a beginning of an answer and gives the text, the thinking and the arguments of tools in
them, piece by piece. What an event only repeats (the whole text at its end) is not counted twice, and of bytes that
make no sense nothing after them is read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

_PRELUDE_BYTES = 12
_CHECKSUM_BYTES = 4
_LINE_END = re.compile(rb"\r\n|\r|\n")
_EMPTY_LINE = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_BETWEEN = re.compile(r"[\s,]*")


def shown_texts(body: bytes) -> list[str]:
    """The pieces that the whole events in this beginning of an answer show, in their order; compressed or not."""
    return [text for _, texts in shown_events(unzipped(body)) for text in texts]


def shown_events(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each whole event of an answer that is not compressed: at which byte it ends, and the texts that it shows.

    What a beginning of it shows is what is in the events that end within it.
    """
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, IndexError):
        for end, event in _events(body):
            yield end, [text for text in _texts_of(event) if isinstance(text, str) and text]


def unzipped(body: bytes) -> bytes:
    """A beginning of an answer without its gzip, as far as it goes; itself where it has none."""
    plain = b""
    with contextlib.suppress(zlib.error):
        while body[:2] == b"\x1f\x8b":
            member = zlib.decompressobj(31)
            plain += member.decompress(body)
            body = member.unused_data
        return plain or body
    return plain


def _events(body: bytes) -> Iterator[tuple[int, Any]]:
    """Its whole events, in any of the framings that providers use, each with where it ends."""
    if body[:1] == b"\0":
        yield from _binary(body)
    elif body.lstrip()[:1] == b"[":
        yield from _array(body)
    elif body.lstrip()[:1] == b"{":
        for line in re.finditer(rb"([^\n]*)\n", body):
            if line[1].strip():
                yield line.end(), json.loads(line[1])
    else:
        start = 0
        for boundary in _EMPTY_LINE.finditer(body):
            lines = _LINE_END.split(body[start : boundary.start()])
            start = boundary.end()
            data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
            if data and data != b"[DONE]":
                yield start, json.loads(data)


def _binary(body: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while len(body) - at >= _PRELUDE_BYTES:
        whole, heads = int.from_bytes(body[at : at + 4]), int.from_bytes(body[at + 4 : at + 8])
        end, data_end = at + whole, at + whole - _CHECKSUM_BYTES
        if not _PRELUDE_BYTES + heads + _CHECKSUM_BYTES <= whole <= len(body) - at:
            return
        if zlib.crc32(body[at:data_end]) != int.from_bytes(body[data_end:end]):
            return
        said = json.loads(body[at + _PRELUDE_BYTES + heads : data_end])
        yield end, json.loads(base64.b64decode(said["bytes"])) if "bytes" in said else said
        at = end


def _array(body: bytes) -> Iterator[tuple[int, Any]]:
    reader = json.JSONDecoder()
    text = body.decode("utf-8", "ignore")
    at, end_bytes = text.index("[") + 1, 0
    while found := _BETWEEN.match(text, at):
        said, end = reader.raw_decode(text, found.end())
        end_bytes += len(text[0 if not end_bytes else at : end].encode())
        at = end
        yield end_bytes, said


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
