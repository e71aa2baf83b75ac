"""The usage object of Anthropic messages.

Cache reads and writes stand beside `input_tokens`, not inside it. The top level is the sum of the
`message` passes only: what compaction and an advisor used stands in `iterations` and nowhere else,
and an advisor is another model with another price. So where there are iterations, they are the bill.

Source: anthropics/anthropic-sdk-python src/anthropic/types/beta/beta_usage.py and
beta_*_iteration_usage.py, checked 2026-11.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import TEXT_MAX, Counts, cut_word

ITERATIONS_MAX: Final = 1024
"""Passes of one call at most; more is nonsense, and the top level is taken."""

CACHE_PARTS_EXCEED_TOTAL: Final = "cache_parts_exceed_total"
"""More was written for five minutes and an hour than in all; the parts are taken, being more."""

PASSES_BELOW_TOTAL: Final = "passes_below_total"
"""The passes add up to less than the top level; that is taken in the place of the message's own passes."""

_KINDS: Final = {
    "message": "main",
    "compaction": "compaction",
    "advisor_message": "advisor",
    "fallback_message": "fallback",
}


_OF_THE_MESSAGE: Final = frozenset({"main", "declined", "fallback"})


class AnthropicUsage(NamedTuple):
    """One usage object, normalised. `odd`: a count that is billed was none, or is missing."""

    lines: tuple[Line, ...]
    units: dict[str, int]
    odd: bool
    notes: tuple[str, ...] = ()


def merge_usage(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """A stream's `message_start` and `message_delta`: field by field, the later one wins unless it is null.

    The counters are not monotonic: after a compaction the input of the delta is the smaller one.
    """
    return earlier | {name: value for name, value in later.items() if value is not None}


def read_usage(usage: dict[str, Any], model: str | None) -> AnthropicUsage:
    """Normalise a usage object; `model` is the one that served the message."""
    counts = Counts(usage)
    whole = _tokens(counts)
    odd = counts.odd or counts.get("input_tokens") is None or whole.output_tokens is None
    whole = msgspec.structs.replace(whole, reasoning_tokens=counts.get("output_tokens_details", "thinking_tokens"))
    units = counts.units("server_tool_use")
    written = counts.get("cache_creation_input_tokens")
    notes = (CACHE_PARTS_EXCEED_TOTAL,) if written is not None and written < (whole.cache_write_tokens or 0) else ()
    iterations = usage.get("iterations")
    if not isinstance(iterations, list) or not iterations:
        return AnthropicUsage((Line(whole, model),), units, odd, notes)
    lines = _iteration_lines(iterations, model)
    if lines is None:
        return AnthropicUsage((Line(whole, model),), units, odd=True, notes=notes)
    if not odd and _are_below(lines, whole):
        others = [line for line in lines if line.kind not in _OF_THE_MESSAGE]
        return AnthropicUsage((Line(whole, model), *others), units, odd=False, notes=(*notes, PASSES_BELOW_TOTAL))
    return AnthropicUsage(_with_reasoning(lines, whole.reasoning_tokens), units, odd=False, notes=notes)


def _tokens(counts: Counts) -> Tokens:
    fresh, read = counts.get("input_tokens"), counts.get("cache_read_input_tokens")
    short, long = (counts.get("cache_creation", f"ephemeral_{ttl}_input_tokens") for ttl in ("5m", "1h"))
    written = counts.get("cache_creation_input_tokens")
    if short is not None or long is not None:
        written = max(written or 0, (short or 0) + (long or 0))
    said = [count for count in (fresh, read, written) if count is not None]
    return Tokens(
        input_tokens=sum(said) if said else None,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=counts.get("output_tokens"),
    )


def _iteration_lines(iterations: list[Any], model: str | None) -> list[Line] | None:
    """A line for each pass; None if any of them cannot be read."""
    if len(iterations) > ITERATIONS_MAX or not all(isinstance(entry, dict) for entry in iterations):
        return None
    served_by_fallback = any(entry.get("type") == "fallback_message" for entry in iterations)
    lines = []
    for entry in iterations:
        counts = Counts(entry)
        tokens = _tokens(counts)
        if counts.odd or tokens.input_tokens is None or tokens.output_tokens is None:
            return None
        kind = _KINDS.get(str(entry.get("type", "message")), "other")
        named = cut_word(entry.get("model"), TEXT_MAX)
        if served_by_fallback and kind == "main" and tokens.output_tokens == 0:
            kind = "declined"
        if named is None:
            # A pass that names no model ran on the message's own; a declined hop ran on the one asked for.
            named = model if kind == "main" and not served_by_fallback else None
        lines.append(Line(tokens, named, kind))
    return lines


def _are_below(lines: list[Line], whole: Tokens) -> bool:
    """Whether the message's own passes say less, of the prompt or of the answer, than the top level, their sum."""
    own = [line.tokens for line in lines if line.kind in _OF_THE_MESSAGE]
    given, made = (sum(getattr(tokens, side) or 0 for tokens in own) for side in ("input_tokens", "output_tokens"))
    return given < (whole.input_tokens or 0) or made < (whole.output_tokens or 0)


def _with_reasoning(lines: list[Line], reasoning: int | None) -> tuple[Line, ...]:
    """Thinking is told for the message as a whole: it goes to its last pass."""
    at = max((i for i, line in enumerate(lines) if line.kind in ("main", "fallback")), default=0)
    tokens = msgspec.structs.replace(lines[at].tokens, reasoning_tokens=reasoning)
    lines[at] = msgspec.structs.replace(lines[at], tokens=tokens)
    return tuple(lines)
