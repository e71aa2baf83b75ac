"""Shortening an answer so that it fits: the request's own output limit is lowered to what is left.

Most applications send no output limit, so the most that their call can cost is the model's longest answer,
which near a limit never fits although what they really use would. Refused for money, such a call is
therefore tried again with less output. The order is: ask the ledger for more, wait for open calls to end
(both `Keeper.cover`), then shorten, then deny. Waiting goes first, since an answer a quarter of a second
late is worth more than one that is cut; and for a moment only, since most open calls take longer.

Who shortens takes all that is left only where no call is open, and at its first try. Else it takes half, so
that a crowd that arrives at once shares what is there and the last of it is not held by the first. Where open
calls hold all of it, a share of what they may give back is waited for. All tries together wait no longer than
one, and where enough was left a moment ago the answer is `budget_in_flight`: others were quicker, that is all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sidecar.core.governance.decisions import Reason
from sidecar.leases.table import Uncovered
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.price import Priced, affordable_output_tokens

CLAMP_FLOOR_TOKENS: Final = 256
"""An answer is not shortened below this, unless the settings say otherwise."""

MAX_CLAMPS: Final = 4
"""How often one call is shortened: what was left may be gone when it comes to take it."""

SHARES: Final = 8
"""Of what open calls hold, who waits for it asks for this part."""

FOR_GOOD: Final = frozenset({Reason.REQUEST_EXCEEDS_BUDGET, Reason.BUDGET_EXCEEDED, Reason.CREDITS_EXHAUSTED})
"""Refusals for money that waiting does not end."""

FOR_MONEY: Final = FOR_GOOD | {Reason.BUDGET_IN_FLIGHT}
"""All refusals for money."""

Shortener = Callable[[RequestFacts, int], RequestFacts | None]
"""A request's facts with an output limit of so many tokens, its body too; None where it cannot have that."""


class Clamp(msgspec.Struct, frozen=True):
    """How a call was shortened. `asked` is the output limit that it came with, None for none; `times` how often."""

    asked: int | None
    times: int = 1


def asked_first(facts: RequestFacts, clamp: Clamp | None) -> int | None:
    """The output limit that a call came with, before it was shortened at all; None for none."""
    return facts.ceiling.output_limit if clamp is None else clamp.asked


def held_open(uncovered: Uncovered) -> int:
    """Atoms that open calls hold of what stood in a call's way, and may give back."""
    return 0 if uncovered.binding is None else uncovered.binding.held or 0


def shortened(
    facts: RequestFacts,
    clamp: Clamp | None,
    bound: Priced,
    uncovered: Uncovered,
    *,
    shorten: Shortener,
    may_clamp: bool,
    floor_tokens: int,
) -> tuple[RequestFacts, Clamp] | None:
    """A request that may fit where this one did not; None: it is not to be shortened, or not enough is left.

    Args:
        facts: of the request.
        clamp: how it was shortened already.
        bound: what it can cost as it is.
        uncovered: why it may not run.
        shorten: lowers the output limit.
        may_clamp: no budget that applies forbids it.
        floor_tokens: the least that an answer may be shortened to.
    """
    times = 0 if clamp is None else clamp.times
    if uncovered.reason not in FOR_MONEY or uncovered.affordable_atoms is None or not may_clamp or times >= MAX_CLAMPS:
        return None
    limit = facts.ceiling.longest(bound.card)
    if limit > bound.card.max_output_tokens:  # no such answer exists: a mistake, which is not to pass for a wish
        return None
    for tokens in _to_try(facts, bound, uncovered, uncovered.affordable_atoms, floor_tokens, alone=not times):
        shorter = shorten(facts, tokens) if tokens < limit else None
        if shorter is not None:
            return shorter, Clamp(asked_first(facts, clamp), times + 1)
    return None


def _to_try(
    facts: RequestFacts,
    bound: Priced,
    uncovered: Uncovered,
    affordable_atoms: int,
    floor_tokens: int,
    *,
    alone: bool,
) -> tuple[int, ...]:
    """Output limits that may fit, the one to be tried first in front."""
    most = affordable_output_tokens(facts.ceiling, bound, affordable_atoms) or 0
    held = held_open(uncovered)
    if not held and alone:
        return (most,) if most >= floor_tokens else ()
    if most >= floor_tokens:
        return (max(floor_tokens, most // 2), most)
    later = affordable_output_tokens(facts.ceiling, bound, affordable_atoms + held) or 0
    return (max(floor_tokens, later // SHARES),) if later >= floor_tokens else ()
