"""What a call is charged once it is over (L4, L5, L25).

The provider's own closing figures are charged exactly. Everything short of them is an unknown
outcome: the provider may have worked, and will bill, although we saw no end of it. Then the
charge is the larger of what was measured and a floor, and the floor is the whole hold: unknown
is never zero. Only two outcomes are known to be free: a request that never left, and one that
the provider refused without saying any usage.

What a status says of the work. Only Azure's documentation speaks of billing; the others give the
cause, and what was refused for its form, key, credit, size or rate was not begun:

| answer | cause | charged |
| --- | --- | --- |
| 400 401 402 403 404 405 413 415 422 429 498 | the request was not taken | nothing |
| one of these, and the error shows work | Azure's content filter (billed), Groq's failed generation | the floor |
| 500 503 529, the body a provider's own error | it failed before an answer, or has no room | nothing |
| 500 503 529, any other body | may be a page's that stands before the provider | the floor |
| any other: 408 409 499 502 504 520-524 | somebody gave up waiting; the provider may be at work | the floor |

Sources, 2026-11: console.groq.com/docs/errors, openrouter.ai/docs/errors, and for Azure
learn.microsoft.com/azure/ai-services/openai how-to/manage-costs and concepts/content-filter;
OpenAI's and Anthropic's error tables as others quote them; RFC 9110 for 405 and 415.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS, Currency
from sidecar.core.pricing.ceilings import Ceiling, Unbounded, price_ceiling
from sidecar.core.pricing.rate_cards import RateBook, RateCard, charge
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import Ending
from sidecar.providers.metering import METER_DEGRADED, OUTPUT_UNSEEN, REFUSED_AFTER_WORK

ESTIMATED: Final = "estimated"
"""On a charge that is not the provider's own figure: evidence can correct it."""

OVERRUN: Final = "overrun"
"""On a charge above its hold."""

UNPRICED: Final = "unpriced"
"""On usage of a model without a price: it has no charge at all."""

PARTLY_UNPRICED: Final = "partly_unpriced"
"""On a charge with kinds of usage that no rate covered."""

CUT_AT_LIMIT: Final = "cut_at_limit"
"""On a stream that we ended where nothing more could be held for it: no more is charged than was held."""

NOT_BILLED: Final = "not_billed"
"""On a call that did not happen: never sent, or refused by the provider."""

IMPLAUSIBLE: Final = "implausible_usage"
"""On a charge whose figures no call of this model can have had; the hold stands in for them until somebody looks."""

PASSES_MAX: Final = 16
"""So many times a model's window and its longest answer are believed of one call: tools and retries make passes."""

UNITS_MAX: Final = 100_000
"""Units beside tokens (searches, seconds of sound) that are believed of one call: a day has 86,400 seconds."""


REFUSALS: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429, 498})
"""Statuses by which a request was not taken, whoever says so; see the table above."""

FAILURES: Final = frozenset({500, 503, 529})
"""Statuses by which a provider failed before it generated, if the answer is an error of its own."""

HUNG_UP: Final = frozenset({Ending.ABANDONED, Ending.TIMED_OUT, Ending.LIMITED})
"""Endings of our own making: we closed the connection while the provider was at work."""


class Prices(msgspec.Struct, frozen=True):
    """The prices a call was admitted by; they are kept to its end, whatever is published meanwhile (L21).

    `stops_billing` is the upstream's entry, which needs a source and a day: it bills nothing that
    it generates after we hang up. `may_reason`: the model may bill what its stream does not show.
    """

    ceiling: Ceiling
    card: RateCard
    currency: Currency
    book: RateBook
    at_ms: int
    stops_billing: bool = False
    may_reason: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """What to charge of a hold. `charge_atoms` None: the model has no price. What is left is given back."""

    charge_atoms: int | None
    usage: Usage
    flags: tuple[str, ...] = ()


def settle(held_atoms: int, prices: Prices | None, usage: Usage, *, ending: Ending, status: int) -> Settlement:
    """Decide what a call is charged.

    Args:
        held_atoms: what was held for it.
        prices: None for a model without a price.
        usage: the reading, for an answer that ended so.
        ending: how the answer ended.
        status: the provider's; 0 if no head came.

    Returns:
        The charge. A usage whose state is final is charged exactly; any other answer that may be
        billed at least its floor, flagged `estimated`.

    Raises:
        ValueError: a negative hold.
    """
    if held_atoms < 0:
        raise ValueError(f"a hold cannot be negative: {held_atoms}")
    told = usage.state in {UsageState.FINAL, UsageState.PARTIAL} and bool(usage.lines or usage.units)
    refused = is_refusal(status, usage)
    if ending is Ending.UNSENT or (refused and not told):
        return Settlement(0, usage, (NOT_BILLED,))
    if prices is None:
        return Settlement(None, usage, (UNPRICED,) if usage.state is UsageState.FINAL else (UNPRICED, ESTIMATED))

    flags: list[str] = []
    final = told and usage.state is UsageState.FINAL
    priced = charge(usage, prices.card, prices.currency, others=prices.book, at_ms=prices.at_ms)
    atoms = priced.atoms
    if atoms > held_atoms and (atoms > MAX_ATOMS or _is_beyond_the_model(usage, prices)):
        atoms, final = held_atoms, False
        flags.append(IMPLAUSIBLE)
    if priced.unpriced:
        flags.append(PARTLY_UNPRICED)
        atoms, final = max(atoms, held_atoms), False
    if not final:
        flags.append(ESTIMATED)
        if not (told and refused):
            atoms = max(atoms, floor_atoms(held_atoms, prices, usage, ending))
    if ending is Ending.LIMITED:
        flags.append(CUT_AT_LIMIT)
        atoms = atoms if final else min(atoms, held_atoms)  # its last event was read, and went no further
    if atoms > held_atoms:
        flags.append(OVERRUN)
    return Settlement(atoms, usage, tuple(flags))


def _is_beyond_the_model(usage: Usage, prices: Prices) -> bool:
    """Whether no call of this model can have used so much: a provider is believed, but not anything (S-04)."""
    whole, card, ceiling = usage.total(), prices.card, prices.ceiling
    longest = max(card.max_output_tokens, ceiling.output_limit or 0) * ceiling.choices
    return (
        (whole.input_tokens or 0) > PASSES_MAX * max(card.context_window, ceiling.input_tokens)
        or (whole.output_tokens or 0) > PASSES_MAX * longest
        or any(count > UNITS_MAX for count in usage.units.values())
    )


def is_refusal(status: int, usage: Usage) -> bool:
    """Whether an answer with this status is the provider's word that it did no work; see the table above."""
    if REFUSED_AFTER_WORK in usage.notes:
        return False
    return status in REFUSALS or (status in FAILURES and usage.state is UsageState.ERROR)


def floor_atoms(held_atoms: int, prices: Prices, usage: Usage, ending: Ending) -> int:
    """The least that an answer without closing figures is charged (L25).

    The whole hold; unless we hung up on a provider known to stop billing then, and what it had
    made could be counted: then the input's bound plus that. It could not where a part of the answer
    was not read, nor where the answer is no stream: that is generated whole before its first byte.
    Where the provider's own connection broke nobody hung up: what it bills then is not what its
    entry speaks of.
    """
    counted = usage.total().output_tokens
    if METER_DEGRADED in usage.notes or OUTPUT_UNSEEN in usage.notes:
        return held_atoms
    if not prices.stops_billing or prices.may_reason or ending not in HUNG_UP or counted is None:
        return held_atoms
    made = msgspec.structs.replace(prices.ceiling, output_limit=counted, choices=1)
    try:
        return min(held_atoms, price_ceiling(made, prices.card, prices.currency))
    except Unbounded:  # admitted all the same: then the hold is the only bound there is
        return held_atoms
