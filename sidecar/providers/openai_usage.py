"""The usage object of OpenAI chat completions, and of the many servers that write one like it.

Cached, written and audio tokens stand inside `prompt_tokens`, reasoning inside `completion_tokens`;
the providers that count otherwise show it by a `total_tokens` that does not add up, and that one
check finds them all: xAI (reasoning beside the completion), Mistral (audio beside the prompt),
Gemini's compatible endpoint (thoughts nowhere but in the total).

Sources: openai/openai-python src/openai/types/completion_usage.py; docs.x.ai, docs.mistral.ai,
api-docs.deepseek.com, console.groq.com, openrouter.ai API references; checked 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import COUNT_MAX, TEXT_MAX, Counts, decode_object

UNATTRIBUTED: Final = "unattributed"
"""The total holds tokens that no counter names; they are taken as output."""

TOTAL_MISMATCH: Final = "total_mismatch"
"""The total is less than its parts; the parts are kept, being more."""

CACHE_EXCEEDS_INPUT: Final = "cache_exceeds_input"
"""More was cached than was sent (Grok on Azure says so); a charge takes no more than was sent."""

_UNIT_OBJECTS: Final = ("server_tool_use", "server_tool_use_details", "server_side_tool_usage_details")
_PROMPT_DETAILS: Final = (
    "prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details",
)  # fmt: skip
_COMPLETION_DETAILS: Final = (
    "completion_tokens_details", "output_tokens_details", "completion_token_details", "output_token_details",
)  # fmt: skip
_USD_TICKS: Final = Decimal(10) ** 10


class OpenAIUsage(NamedTuple):
    """One usage object, normalised. `odd`: the prompt's or the completion's count was none, or is missing."""

    tokens: Tokens
    units: dict[str, int]
    cost: str | None
    odd: bool
    notes: tuple[str, ...]


_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class _PromptDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _CompletionDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A usage object as OpenAI itself writes it, every count a count."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_PLAIN: Final = msgspec.json.Decoder(_Plain)
_NO_PROMPT_DETAILS: Final = _PromptDetails()
_NO_COMPLETION_DETAILS: Final = _CompletionDetails()


def read_plain_usage(raw: bytes | msgspec.Raw) -> Tokens | None:
    """The tokens of the most common usage object: OpenAI's own, in which everything adds up.

    None for any other, which `read_usage` reads; for this one it would give the same tokens, in
    ten times the time.
    """
    try:
        usage = _PLAIN.decode(raw)
    except (ValueError, RecursionError):
        return None
    prompt = usage.prompt_tokens_details or _NO_PROMPT_DETAILS
    completion = usage.completion_tokens_details or _NO_COMPLETION_DETAILS
    given, made, cached = usage.prompt_tokens, usage.completion_tokens, prompt.cached_tokens
    if given + made != usage.total_tokens or (cached is not None and cached > given):
        return None
    return Tokens(
        input_tokens=given,
        cache_read_tokens=cached,
        output_tokens=made,
        reasoning_tokens=completion.reasoning_tokens,
        input_audio_tokens=prompt.audio_tokens,
        output_audio_tokens=completion.audio_tokens,
        prediction_accepted_tokens=completion.accepted_prediction_tokens,
        prediction_rejected_tokens=completion.rejected_prediction_tokens,
    )


def read_usage(usage: dict[str, Any]) -> OpenAIUsage | None:
    """Normalise a usage object; None for one that says nothing (`{}`, as xAI's realtime sends)."""
    counts = Counts(usage)
    given = counts.first(("prompt_tokens",), ("input_tokens",))
    made = counts.first(("completion_tokens",), ("output_tokens",))
    total = counts.get("total_tokens")
    if given is None and made is None and total is None and not counts.odd:
        return None
    if made is None and given is not None and total is not None and not counts.odd:
        made = max(0, total - given)
    odd = counts.odd or given is None or made is None
    tokens = _tokens(counts, given, made)
    notes: list[str] = []
    if not odd and total is not None:
        tokens = _checked(tokens, total - tokens_sum(tokens), bool(usage.get("prompt_audio_seconds")), notes)
    cached = (tokens.cache_read_tokens or 0) + (tokens.cache_write_tokens or 0)
    if cached > (tokens.input_tokens or 0):
        notes.append(CACHE_EXCEEDS_INPUT)
    units: dict[str, int] = {}
    for key in _UNIT_OBJECTS:
        units |= counts.units(key)
    for key, unit in (("num_sources_used", "sources"), ("prompt_audio_seconds", "audio_seconds")):
        if isinstance(usage.get(key), int | float) and (count := counts.get(key)):
            units[unit] = count
    return OpenAIUsage(tokens, units, _cost(usage), odd, tuple(notes))


def output_of(raw: bytes | msgspec.Raw) -> int:
    """The output that a usage object counts; 0 where it counts none."""
    tokens = read_plain_usage(raw)
    if tokens is None:
        read = read_usage(decode_object(raw) or {})
        tokens = Tokens() if read is None or read.odd else read.tokens
    return tokens.output_tokens or 0


def tokens_sum(tokens: Tokens) -> int:
    """Input and output together; what is not said counts nothing."""
    return (tokens.input_tokens or 0) + (tokens.output_tokens or 0)


def _tokens(counts: Counts, given: int | None, made: int | None) -> Tokens:
    def prompt(*names: str) -> int | None:
        return counts.first(*((details, *names) for details in _PROMPT_DETAILS))

    def completion(name: str) -> int | None:
        return counts.first(*((details, name) for details in _COMPLETION_DETAILS))

    cached = prompt("cached_tokens")
    if cached is None:
        cached = counts.first(("prompt_cache_hit_tokens",), ("num_cached_tokens",), ("cached_tokens",))
    reasoning = completion("reasoning_tokens")
    return Tokens(
        input_tokens=given,
        cache_read_tokens=cached,
        cache_write_tokens=prompt("cache_write_tokens"),
        output_tokens=made,
        reasoning_tokens=counts.get("reasoning_tokens") if reasoning is None else reasoning,
        input_text_tokens=prompt("text_tokens"),
        input_audio_tokens=prompt("audio_tokens"),
        input_image_tokens=prompt("image_tokens"),
        input_video_tokens=prompt("video_tokens"),
        cache_read_audio_tokens=prompt("cached_tokens_details", "audio_tokens"),
        output_text_tokens=completion("text_tokens"),
        output_audio_tokens=completion("audio_tokens"),
        output_image_tokens=completion("image_tokens"),
        prediction_accepted_tokens=completion("accepted_prediction_tokens"),
        prediction_rejected_tokens=completion("rejected_prediction_tokens"),
    )


def _checked(tokens: Tokens, gap: int, has_audio: bool, notes: list[str]) -> Tokens:
    """The tokens with what only the total shows. `gap` is total − input − output."""
    given, made = tokens.input_tokens or 0, tokens.output_tokens or 0
    if gap < 0:
        notes.append(TOTAL_MISMATCH)
    if gap <= 0:
        return tokens
    if gap == tokens.reasoning_tokens:
        return msgspec.structs.replace(tokens, output_tokens=made + gap)
    if gap == tokens.input_audio_tokens or (has_audio and not tokens.input_audio_tokens):
        return msgspec.structs.replace(tokens, input_tokens=given + gap, input_audio_tokens=gap)
    notes.append(UNATTRIBUTED)
    return msgspec.structs.replace(tokens, output_tokens=made + gap, reasoning_tokens=tokens.reasoning_tokens or gap)


def _cost(usage: dict[str, Any]) -> str | None:
    """The provider's own figure, as "number usd": for reports, never for a charge."""
    cost = usage.get("cost")
    if isinstance(cost, dict):  # Perplexity
        cost = cost.get("total_cost")
    ticks = usage.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool) and abs(ticks) < 10**18:  # xAI: 1e-10 dollars
        return f"{Decimal(ticks) / _USD_TICKS} usd"
    if isinstance(cost, bool) or not isinstance(cost, int | float) or abs(cost) > 10**9:
        return None
    figure = Decimal(str(cost))
    details = usage.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    own_key = usage.get("is_byok") is True and isinstance(upstream, int | float) and abs(upstream) < 10**9
    return f"{figure + Decimal(str(upstream)) if own_key else figure} usd"


def breakdown_lines(breakdown: Any, whole: Tokens) -> tuple[Line, ...]:
    """Groq's compound systems: a line for each model that took part, where they add up to the whole.

    In streams every entry repeats the grand total; then there is one line, as without a breakdown.
    Kinds of tokens that have no price of their own stay with the whole.
    """
    models = breakdown.get("models") if isinstance(breakdown, dict) else None
    lines: list[Line] = []
    for entry in models[:64] if isinstance(models, list) else ():
        inner, model = (entry.get("usage"), entry.get("model")) if isinstance(entry, dict) else (None, None)
        read = read_usage(inner) if isinstance(inner, dict) else None
        if read is None or read.odd or not isinstance(model, str):
            return ()
        model = model[:TEXT_MAX]
        lines.append(Line(msgspec.structs.replace(read.tokens, reasoning_tokens=None), model, "part"))
    if not lines or not _adds_up(lines, whole):
        return ()
    first = msgspec.structs.replace(lines[0].tokens, reasoning_tokens=whole.reasoning_tokens)
    return (msgspec.structs.replace(lines[0], tokens=first), *lines[1:])


def _adds_up(lines: Iterable[Line], whole: Tokens) -> bool:
    given = made = 0
    for line in lines:
        given += line.tokens.input_tokens or 0
        made += line.tokens.output_tokens or 0
    return (given, made) == (whole.input_tokens, whole.output_tokens)
