"""What a request names that is held at its provider: files, conversations, containers, items of earlier answers.

Each is named by an id of the account's, and each brings input that is not in the request: so a dialect that meets one
says that the call has no bound. Whoever must know which they are (`proxy.makers`) looks here, for such calls alone.

Not looked for: objects in a bucket (`gs://`, `s3://`) and pages of the web, which their own owners keep apart; stored
prompts and assistants, which an account's owner writes for all; and an earlier spoken answer in a chat.

Sources: openai/openai-openapi openapi.json (InputItem, ItemReferenceParam, tools), anthropics/anthropic-sdk-python
src/anthropic/types/beta/, googleapis/python-genai `google/genai/types.py`; checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

HELD_MAX: Final = 256
"""Ids of one request that are told; one that names more is told of so many, and of one that nobody has."""

TOO_MANY: Final = ""
"""An id that nobody has."""

_NAMES: Final = frozenset({
    "batch_id", "cached_content", "cachedContent", "container", "container_id", "conversation", "conversation_id",
    "file_id", "file_ids", "file_search_store_names", "fileSearchStoreNames", "input_file_id", "thread", "thread_id",
    "training_file", "validation_file", "vector_store_id", "vector_store_ids",
})  # fmt: skip
_ADDRESSES: Final = frozenset({"fileUri", "file_uri", "uri"})
_AT_GOOGLE: Final = re.compile(r"\Ahttps://[a-z.-]*googleapis\.com(?::\d+)?/(?:[a-z0-9]+/)?(files/[^/?#]+)", re.ASCII)
_SEALED: Final = {
    "reasoning": "encrypted_content",
    "compaction": "encrypted_content",
    "image_generation_call": "result",
}
"""Items that the provider looks up by their id where they come without this."""

_DECODER: Final = msgspec.json.Decoder()


def held_in(body: bytes) -> tuple[str, ...]:
    """The ids that a request's JSON body names, each once, in order; none in what is no JSON object."""
    try:
        members = _DECODER.decode(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(members, dict):
        return ()
    found: dict[str, None] = {}
    for held in (*_items(members.get("input")), *_named(members)):
        if len(found) >= HELD_MAX:
            found[TOO_MANY] = None
            break
        found[held] = None
    return tuple(found)


def is_reference(kind: str | None, item: dict[str, Any]) -> bool:
    """Whether an item of a Responses request stands for one that is held: its `type` may then be left out."""
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item and "content" not in item)


def items_in(output: list[Any]) -> Iterator[str]:
    """The ids by which an answer's items come back, and of the containers that they ran in."""
    for item in output:
        if isinstance(item, dict):
            for name in ("id", "container_id"):
                if isinstance(item.get(name), str):
                    yield item[name]


def _items(asked: Any) -> Iterator[str]:
    """Items of the `input` that are looked up by their id."""
    for item in asked if isinstance(asked, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            continue
        kind = item.get("type")
        if is_reference(kind, item) or (kind in _SEALED and not item.get(_SEALED[kind])):
            yield item["id"]


def _named(members: dict[str, Any]) -> Iterator[str]:
    """What stands under a name for such an id, anywhere in the body."""
    waiting: list[Any] = [members]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
            continue
        if not isinstance(value, dict):
            continue
        for name, inner in value.items():
            if name in _NAMES:
                yield from _ids(inner)
            elif name in _ADDRESSES and isinstance(inner, str) and (at_google := _AT_GOOGLE.match(inner)):
                yield at_google[1]
            if isinstance(inner, dict | list):
                waiting.append(inner)


def _ids(value: Any) -> Iterator[str]:
    """The text, each text of a list, or the `id` of an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))
    elif isinstance(value, dict) and isinstance(value.get("id"), str):
        yield value["id"]
