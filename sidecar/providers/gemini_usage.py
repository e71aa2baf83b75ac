"""The usage object of Gemini and of Google's models on Vertex: `usageMetadata`.

What was read from a cache stands inside the prompt's count, what hosted tools brought beside it, thoughts
beside the candidates. In a stream every chunk has such an object, cumulative but not clean: counts are
missing on some, the prompt's changes, the last may lack what an earlier one had. So they are merged field by
field, and the total, which includes everything, is held against the sum: what only it knows of is output.

Source: googleapis/python-genai `google/genai/types.py` (GenerateContentResponseUsageMetadata, MediaModality,
TrafficType), ai.google.dev/api `generate-content#UsageMetadata`, and 440 recorded answers; checked 2026-11.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sidecar.core.pricing.usage import Tokens
from sidecar.providers.counters import USAGE_FELL, Counts, cut_word, is_less

UNATTRIBUTED: Final = "unattributed"
"""The total says more than the counts that make it up; the rest is taken for output, the dearer side."""

MODALITIES_MAX: Final = 16
"""Entries of one list of details at most; five kinds are known."""

_MODALITIES: Final = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
"""By the numbers that an answer has in their place where enumerations are asked for as numbers."""

_TRAFFIC: Final = {1: "ON_DEMAND", 2: "PROVISIONED_THROUGHPUT"}
_GROWING: Final = ("candidatesTokenCount", "thoughtsTokenCount")


class GeminiUsage(NamedTuple):
    """One usage object, normalised. `odd`: a count that is billed was none, or is missing."""

    tokens: Tokens
    tier: str | None
    odd: bool
    notes: tuple[str, ...] = ()


def merge_usage(earlier: dict[str, Any], later: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A chunk's object over those before it, and notes: the later count wins, but none is lost and no output falls."""
    merged = earlier | {name: value for name, value in later.items() if value is not None}
    fell = [name for name in _GROWING if is_less(later.get(name), earlier.get(name))]
    return merged | {name: earlier[name] for name in fell}, (USAGE_FELL,) if fell else ()


def read_usage(usage: dict[str, Any], *, generated: bool = True) -> GeminiUsage:
    """Normalise a usage object; `generated` is false for an embedding, which has no output and no total."""
    counts = Counts(usage)
    prompt, tools = counts.get("promptTokenCount"), counts.get("toolUsePromptTokenCount")
    shown, thoughts = counts.get("candidatesTokenCount"), counts.get("thoughtsTokenCount")
    total = counts.get("totalTokenCount")
    given = _sum(prompt, tools)
    made = _sum(shown, thoughts)
    notes: tuple[str, ...] = ()
    gap = 0 if total is None else total - (given or 0) - (made or 0)
    if generated and prompt is not None and gap > 0:
        made = (made or 0) + gap
        notes = (UNATTRIBUTED,)
    # Without a total nothing tells whether a count is missing: a mask of fields can hide any. With one that the
    # prompt makes up alone, as where it was blocked, nothing was made.
    odd = counts.odd or prompt is None or (generated and total is None)
    inputs = _modalities(usage, "promptTokensDetails", "toolUsePromptTokensDetails")
    if not generated:  # Gemini names an embedding's list otherwise; of it only what costs otherwise than text matters
        inputs |= {kind: count for kind, count in _modalities(usage, "promptTokenDetails").items() if kind != "TEXT"}
    outputs = _modalities(usage, "candidatesTokensDetails")
    cached = _modalities(usage, "cacheTokensDetails")
    tokens = Tokens(
        input_tokens=given,
        cache_read_tokens=counts.get("cachedContentTokenCount"),
        output_tokens=made,
        reasoning_tokens=thoughts,
        tool_input_tokens=tools,
        input_text_tokens=inputs.get("TEXT"),
        input_audio_tokens=inputs.get("AUDIO"),
        input_image_tokens=_sum(inputs.get("IMAGE"), inputs.get("DOCUMENT")),
        input_video_tokens=inputs.get("VIDEO"),
        cache_read_audio_tokens=cached.get("AUDIO"),
        output_text_tokens=outputs.get("TEXT"),
        output_audio_tokens=outputs.get("AUDIO"),
        output_image_tokens=outputs.get("IMAGE"),
    )
    return GeminiUsage(tokens, _tier(usage), odd, notes)


def _tier(usage: dict[str, Any]) -> str | None:
    """The tier that served, in the provider's word: `standard`, `flex` at Gemini, `ON_DEMAND` … on Vertex."""
    said = usage.get("serviceTier") or usage.get("trafficType")
    if type(said) is int:
        return _TRAFFIC.get(said, str(said)[:8])
    return cut_word(said)


def _modalities(usage: dict[str, Any], *names: str) -> dict[str, int]:
    """Tokens by kind of content, over these lists of details."""
    found: dict[str, int] = {}
    for name in names:
        details = usage.get(name)
        for entry in details[:MODALITIES_MAX] if isinstance(details, list) else ():
            if not isinstance(entry, dict):
                continue
            said = entry.get("modality")
            kind = _MODALITIES.get(said) if type(said) is int else said
            count = Counts(entry).get("tokenCount")
            if isinstance(kind, str) and count is not None:
                found[kind] = found.get(kind, 0) + count
    return found


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b
