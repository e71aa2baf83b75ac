"""A call that begins with less than its bound, and holds more as its answer comes (L0, L22).

Near a limit it is what open calls hold that refuses the next one, and most use a small part of it. Where a provider
stops billing when we hang up, a call need not hold its whole bound: it begins with its prompt and the shortest answer
that is worth giving, or with what nineteen of twenty such calls have cost at most, and its hold grows with what the
stream shows. Where no more can be held, the stream is ended.

That comes after counting the prompt and before shortening the answer. The output limit is lowered as well, but only
to what could be held if every open call gave back all of its hold: so a call that is alone ends where a shortened one
would.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import bound_of
from sidecar.leases.table import Uncovered
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.growing_streams import may_grow
from sidecar.proxy.clamp import FOR_MONEY, Clamp, Shortener, asked_first, held_open
from sidecar.proxy.price import Priced, affordable_output_tokens

GROW_TOKENS: Final = 256
"""A hold grows by so many output tokens at least, where there is so much; by half of what it covers if that is more."""


class Start(msgspec.Struct, frozen=True):
    """With how much a call begins: so many output tokens and its whole prompt are covered by so many atoms."""

    tokens: int
    atoms: int


def begun_small(
    facts: RequestFacts,
    clamp: Clamp | None,
    bound: Priced,
    uncovered: Uncovered,
    *,
    protocol: str,
    shorten: Shortener | None,
    floor_tokens: int,
    expected_atoms: int = 0,
) -> tuple[RequestFacts, Clamp | None, tuple[Start, ...]] | None:
    """A request that may begin where its whole bound does not fit, and what it may begin with, the most first.

    None: its hold cannot grow, or too little is left. Its provider is one that stops billing when we hang up, and no
    budget that applies forbids a shorter answer.

    Args:
        facts: of the request.
        clamp: how it was shortened already.
        bound: what it can cost as it is.
        uncovered: why it may not run.
        protocol: the dialect's name.
        shorten: lowers the output limit; None where it cannot be.
        floor_tokens: the shortest answer worth giving.
        expected_atoms: what nineteen of twenty such calls cost at most; 0 where that is not known.
    """
    left = uncovered.affordable_atoms
    if uncovered.reason not in FOR_MONEY or left is None or not may_grow(protocol, facts):
        return None
    limit = facts.ceiling.output_tokens(bound.card)
    if not floor_tokens < limit <= bound.card.max_output_tokens:
        return None
    most = affordable_output_tokens(facts.ceiling, bound, left + held_open(uncovered)) or 0
    if most < floor_tokens:
        return None
    shorter = shorten(facts, most) if shorten is not None and most < limit else None
    if shorter is not None:
        facts, clamp = shorter, Clamp(asked_first(facts, clamp))
    tokens = [floor_tokens]
    if expected_atoms <= left + held_open(uncovered):
        likely = min(affordable_output_tokens(facts.ceiling, bound, expected_atoms) or 0, limit, most)
        tokens = [likely, floor_tokens] if likely > floor_tokens else tokens
    price = bound_of(facts.ceiling, bound.card, bound.currency)
    return facts, clamp, tuple(Start(each, price.atoms(facts.ceiling.input_tokens, each)) for each in tokens)
