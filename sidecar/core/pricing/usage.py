"""What a call used, in one form for every provider.

The inclusion rules differ between providers (cached tokens stand inside the prompt count at
one and beside it at another); here there is one rule. `input_tokens` is everything on the
prompt side *including* what was read from or written to a cache, `output_tokens` everything
generated *including* reasoning; the other counters are parts of those two. None means that
the provider did not say, 0 that it said zero: unknown is never zero (L5).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class UsageState(StrEnum):
    """How much a usage can be trusted."""

    FINAL = "final"  # the provider's own closing figures
    PARTIAL = "partial"  # the provider's figures up to a cut
    ESTIMATED = "estimated"  # counted by us from the bytes
    ABSENT = "absent"  # an answer without any figure
    ERROR = "error"  # the provider refused or failed, and said no figure


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counters of one model pass, in tokens."""

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    tool_input_tokens: int | None = None
    input_text_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    output_text_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    prediction_accepted_tokens: int | None = None
    prediction_rejected_tokens: int | None = None

    def plus(self, other: Tokens) -> Tokens:
        """Add counter by counter; a counter is None only where both are."""
        return Tokens(*(_sum(getattr(self, f), getattr(other, f)) for f in self.__struct_fields__))


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model pass with its own price. `model` is None where the provider did not name it.

    `kind`: main, compaction, advisor, fallback, declined.
    """

    tokens: Tokens
    model: str | None = None
    kind: str = "main"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one call used: its lines, its units outside tokens, and where the figures come from.

    `units` counts what is billed beside tokens (`web_search_requests` …). `tier` is the service
    tier that the provider says it served; `geo` where it served. `raw` is the provider's usage
    object, verbatim, for audit. `notes` are short machine words on what was odd
    (`meter_degraded`, `unattributed` …).
    """

    state: UsageState
    lines: tuple[Line, ...] = ()
    units: dict[str, int] = {}
    tier: str | None = None
    geo: str | None = None
    reported_cost: str | None = None
    provider_request_id: str | None = None
    raw: bytes = b""
    notes: tuple[str, ...] = ()

    def total(self) -> Tokens:
        """The sum over all lines; an empty `Tokens` where there is none."""
        whole = Tokens()
        for line in self.lines:
            whole = line.tokens if whole == Tokens() else whole.plus(line.tokens)
        return whole
