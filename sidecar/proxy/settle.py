"""What a call is charged once it is over (L4, L5, L25).

The provider's own closing figures are charged exactly. Everything short of them is an unknown
outcome: the provider may have worked, and will bill, although we saw no end of it. Then the
charge is the larger of what was measured and a floor, and the floor is the whole hold: unknown
is never zero. Only two outcomes are known to be free: a request that never left, and one that
the provider refused without saying any usage.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS, Currency
from sidecar.core.pricing.ceilings import Ceiling, Unbounded, price_ceiling
from sidecar.core.pricing.rate_cards import RateBook, RateCard, charge
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import Ending

ESTIMATED: Final = "estimated"
"""On a charge that is not the provider's own figure: evidence can correct it."""

OVERRUN: Final = "overrun"
"""On a charge above its hold."""

UNPRICED: Final = "unpriced"
"""On usage of a model without a price: it has no charge at all."""

PARTLY_UNPRICED: Final = "partly_unpriced"
"""On a charge with kinds of usage that no rate covered."""

NOT_BILLED: Final = "not_billed"
"""On a call that did not happen: never sent, or refused by the provider."""

IMPLAUSIBLE: Final = "implausible_usage"
"""On a charge whose figures would have passed every bound of an amount; the hold stands in for them."""


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
    if ending is Ending.UNSENT or (status >= 400 and not told):
        return Settlement(0, usage, (NOT_BILLED,))
    if prices is None:
        return Settlement(None, usage, (UNPRICED,) if usage.state is UsageState.FINAL else (UNPRICED, ESTIMATED))

    flags: list[str] = []
    final = told and usage.state is UsageState.FINAL
    priced = charge(usage, prices.card, prices.currency, others=prices.book, at_ms=prices.at_ms)
    atoms = priced.atoms
    if atoms > MAX_ATOMS:
        atoms, final = held_atoms, False
        flags.append(IMPLAUSIBLE)
    if priced.unpriced:
        flags.append(PARTLY_UNPRICED)
        atoms, final = max(atoms, held_atoms), False
    if not final:
        flags.append(ESTIMATED)
        if not (told and status >= 400):
            atoms = max(atoms, floor_atoms(held_atoms, prices, usage, ending))
    if atoms > held_atoms:
        flags.append(OVERRUN)
    return Settlement(atoms, usage, tuple(flags))


def floor_atoms(held_atoms: int, prices: Prices, usage: Usage, ending: Ending) -> int:
    """The least that an answer without closing figures is charged (L25).

    The whole hold; unless we hung up on a provider known to stop billing then, and what it had
    made could be counted: then the input's bound plus that.
    """
    counted = usage.total().output_tokens
    if not prices.stops_billing or prices.may_reason or ending is Ending.COMPLETE or counted is None:
        return held_atoms
    made = msgspec.structs.replace(prices.ceiling, output_limit=counted, choices=1)
    try:
        return min(held_atoms, price_ceiling(made, prices.card, prices.currency))
    except Unbounded:  # admitted all the same: then the hold is the only bound there is
        return held_atoms
