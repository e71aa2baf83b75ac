"""What a Gemini prompt can cost beyond its own bytes: pictures, what is not in the request, what runs at Google.

Text is bounded by its bytes, a picture by the most that the family bills for one. Sound is bounded by its
bytes too: at 32 tokens a second it would have to be stored in fewer than 80 bytes a second to cost more, as
audio, than its base64 costs as text. Videos and documents are not: a still picture can last an hour in a few
kilobytes, and a page of a PDF can be a few bytes. They, files by their address, cached content and tools that
run at Google have no bound, and say so by name; so does a field or a kind of part we do not know.

Google reads each field by two names, `maxOutputTokens` and `max_output_tokens`; both at once are refused, as
nobody can tell which one counts. A list with one item may be written without its brackets.

Source: googleapis/python-genai `google/genai/types.py`, ai.google.dev/api `generate-content`, `caching`,
cloud.google.com Vertex AI `GenerateContentRequest`; checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from sidecar.core.pricing.ceilings import WITHIN_WINDOW
from sidecar.providers.dialect import BadRequest
from sidecar.providers.image_tokens import gemini_image_tokens
from sidecar.providers.request_json import (
    NAMES_REMEMBERED,
    Member,
    Members,
    Reasons,
    not_known,
    read_inner,
    read_object,
    read_objects,
    says_something,
    shown,
    text_of,
)
from sidecar.providers.token_estimates import Family

KNOWN_FIELDS: Final = frozenset(
    {"contents", "generationConfig", "labels", "model", "safetySettings", "serviceTier", "systemInstruction",
     "toolConfig", "tools"}
)  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

KNOWN_CONFIG: Final = frozenset(
    {"audioTimestamp", "candidateCount", "enableEnhancedCivicAnswers", "frequencyPenalty", "imageConfig", "logprobs",
     "maxOutputTokens", "mediaResolution", "presencePenalty", "_responseJsonSchema", "responseJsonSchema",
     "responseLogprobs", "responseMimeType", "responseModalities", "responseSchema", "seed", "speechConfig",
     "stopSequences", "temperature", "thinkingConfig", "topK", "topP"}
)  # fmt: skip

SCHEMAS: Final = ("responseSchema", "responseJsonSchema", "_responseJsonSchema")

_PLAIN_PARTS: Final = frozenset(
    {"text", "thought", "thoughtSignature", "functionCall", "executableCode", "codeExecutionResult", "toolCall",
     "toolResponse", "partMetadata", "mediaResolution"}
)  # fmt: skip
"""What is in a part as it is, and bounded by its bytes."""

_TEXT_TYPES: Final = re.compile(r"text/[\w.+-]+|application/(?:json|xml|x-javascript|x-python|rtf)", re.ASCII)
_SNAKE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")

_Value = TypeVar("_Value")


@lru_cache(maxsize=NAMES_REMEMBERED)
def camel(name: str) -> str:
    """A field's name as Google's documentation writes it, from either of its spellings."""
    return _SNAKE.sub(lambda found: found[1].upper(), name)


def by_camel(found: Mapping[str, _Value], param: str) -> dict[str, _Value]:
    """The same members by their documented names.

    Raises:
        BadRequest: one stands there by both of its names.
    """
    named: dict[str, _Value] = {}
    for name, value in found.items():
        known = camel(name)
        if known in named:
            raise BadRequest(f"`{shown(known)}` is given twice.", param=param or shown(known), code="duplicate_field")
        named[known] = value
    return named


class Prompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound them instead."""

    def __init__(self, family: Family, model: str = "") -> None:
        self.family = family
        self.model = model
        self.resolution: str | None = ""  # of pictures, as the request asks for all of them
        self.media_bytes = 0
        self.media_tokens = 0
        self.tools = 0
        self.unbounded = Reasons()


def read_prompt(members: Members, family: Family, model: str = "") -> Prompt:
    """Look through contents, system instruction and tools, of members by their documented names.

    A shape we do not know is unbounded, not an error.

    Raises:
        BadRequest: a key stands twice in one of their objects, or a field by both of its names.
    """
    prompt = Prompt(family, model)
    prompt.resolution = _resolution_asked(members.get("generationConfig"))
    for name in ("contents", "systemInstruction"):
        if name in members:
            read_contents(prompt, members[name].raw, name)
    _read_tools(prompt, members.get("tools"))
    for name, member in members.items():
        if name not in KNOWN_FIELDS and says_something(member):
            prompt.unbounded.append(_REASONS.get(name, not_known(name)))
    return prompt


def _resolution_asked(config: Member | None) -> str | None:
    """The `mediaResolution` of all pictures: `` for none, None for what is no word."""
    if config is None or b"esolution" not in config.raw:
        return ""
    named = by_camel(read_object(config.raw, param="generationConfig"), "generationConfig")
    written = named.get("mediaResolution")
    return "" if written is None or written.raw == b"null" else text_of(written.raw)


def read_contents(prompt: Prompt, raw: bytes, param: str) -> None:
    """Look through a list of contents, or one content.

    Raises:
        BadRequest: as `read_prompt`.
    """
    try:
        for content in read_objects(_listed(raw), param=param, usual=("role", "parts"), read_on=("parts",)):
            if "parts" in content:
                _read_parts(prompt, bytes(content["parts"]), param, nested=False)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        if not raw.startswith(b'"') and raw not in (b"null", b"[]"):  # a bare text is bounded by its bytes
            prompt.unbounded.append(f"{param} of an unknown shape")


def _listed(raw: bytes) -> bytes:
    """A list; one item may stand without its brackets."""
    return b"[%b]" % raw if raw.startswith(b"{") else raw


def _read_parts(prompt: Prompt, raw: bytes, param: str, *, nested: bool) -> None:
    for part in read_objects(_listed(raw), param=param):
        named = by_camel(part, param)
        for name, value in named.items():
            if name == "inlineData":
                _read_inline(prompt, bytes(value), param, named.get("mediaResolution"))
            elif name == "functionResponse" and not nested:
                _read_function_response(prompt, bytes(value), param)
            elif name == "fileData":
                _read_file(prompt, bytes(value), param)
            elif name == "videoMetadata":
                prompt.unbounded.append(_VIDEO)
            elif name not in _PLAIN_PARTS:
                prompt.unbounded.append(not_known(name, "part "))


def _read_file(prompt: Prompt, raw: bytes, param: str) -> None:
    """A file by its address: of a PDF or a picture the window is the most; sound may cost more than text does."""
    kind = text_of(by_camel(read_inner(raw, param=param), param).get("mimeType"))
    plain = kind == _PDF or (kind is not None and kind.startswith("image/"))
    prompt.unbounded.append(f"a file by its address: its length is not in the request{WITHIN_WINDOW if plain else ''}")


_PDF: Final = "application/pdf"
_VIDEO: Final = "a video: its bytes do not bound its seconds"


def _read_inline(prompt: Prompt, raw: bytes, param: str, own: msgspec.Raw | None) -> None:
    inner = by_camel(read_inner(raw, param=param), param)
    kind = (text_of(inner.get("mimeType")) or "").lower().partition(";")[0].strip()
    if kind.startswith("image/"):
        data = text_of(inner.get("data")) or ""
        asked = prompt.resolution
        if own is not None and bytes(own) != b"null":
            asked = text_of(read_inner(bytes(own), param=param).get("level"))
        most = gemini_image_tokens(prompt.model, data, asked) if prompt.model else prompt.family.image
        prompt.media_tokens += most
        prompt.media_bytes += len(data) if data.isascii() else 0
    elif kind == _PDF:
        prompt.unbounded.append(f"a document: its bytes do not bound its tokens{WITHIN_WINDOW}")
    elif kind.startswith("video/"):
        prompt.unbounded.append(_VIDEO)
    elif not kind.startswith("audio/") and not _TEXT_TYPES.fullmatch(kind):
        prompt.unbounded.append(f"data of the type {shown(kind) or '(none)'}: its bytes do not bound its tokens")


def _read_function_response(prompt: Prompt, raw: bytes, param: str) -> None:
    """What a function gave, which may have pictures and files beside its text."""
    inner = by_camel(read_inner(raw, param=param), param)
    if "parts" in inner:
        _read_parts(prompt, inner["parts"], param, nested=True)


def _read_tools(prompt: Prompt, tools: Member | None) -> None:
    if tools is None or not says_something(tools):
        return
    try:
        listed = read_objects(_listed(tools.raw), param="tools")
        for tool in listed:
            for name, value in by_camel(tool, "tools").items():
                if name == "functionDeclarations":
                    prompt.tools += len(_ITEMS.decode(_listed(bytes(value))))
                else:
                    prompt.unbounded.append(f"tool {shown(name)}: it runs at the provider, or is not known")
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("tools of an unknown shape")


_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_REASONS: Final = {"cachedContent": "cachedContent: its length is not in the request"}


def read_config(members: Members, prompt: Prompt) -> Members:
    """The members of `generationConfig` by their documented names; what is not known there is unbounded.

    Raises:
        BadRequest: it is no object, or a field stands there twice.
    """
    written = members.get("generationConfig")
    if written is None or written.raw == b"null":
        return {}
    config = by_camel(read_object(written.raw, param="generationConfig"), "generationConfig")
    for name, member in config.items():
        if name not in KNOWN_CONFIG and says_something(member):
            prompt.unbounded.append(not_known(name, "generationConfig."))
    return config


def read_words(member: Member | None) -> frozenset[str]:
    """The words of a list of words, in capitals; empty for anything else."""
    if member is None:
        return frozenset()
    try:
        listed = _WORDS.decode(member.raw)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(word.upper() for word in listed)


_WORDS: Final = msgspec.json.Decoder(list[str])


def thinking_budget(config: Members) -> int | None:
    """The tokens that a request sets aside for thinking: 0 for none, None where it leaves them to the model.

    Raises:
        BadRequest: a field stands there twice.
    """
    written = config.get("thinkingConfig")
    if written is None:
        return None
    inner = by_camel(read_inner(written.raw, param="thinkingConfig"), "thinkingConfig")
    raw = inner.get("thinkingBudget", b"null")
    return int(raw) if raw.isdigit() and len(raw) < 10 else None
