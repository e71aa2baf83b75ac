"""Calls that may cost more than is held for them, and Ω, by how much all of them may (L0).

**Calls whose cost nothing bounds**, where the configuration lets them run (`unbounded: allow`). Such a call holds what
its bytes and its output limit bound, so it fits into every limit as any other does, and what it costs beyond that is
charged when it is known. So a hard limit may be passed by it: by no more than Ω, the excess of all open ones over their
holds, and that is said before it is spent: on the answer, in the metrics, with the decision. A single one is believed
to have used its model's whole window, and its longest answer, PASSES_MAX times; a provider's figure beyond that is not
charged (`settle`). What tools are billed by the piece is not in Ω.

**Calls whose hold grows with their answer** (`small_holds`). Such a call has a bound, and holds less. It is ended where
nothing more can be held, and its provider bills nothing after that; but where the provider makes an answer faster than
it can be read, whole before its first byte at worst, more than is held may be made by then. So what it lacks of its
bound is in Ω until it is settled, or its hold has grown to it. A call that is alone lacks nothing that could not still
be held: its output limit was lowered to what is left.

A call whose prompt is bounded by its model's window alone (a document, a file by its id) has a bound after all; that it
is found here and not with the others' is so that they need not look for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.pricing.ceilings import Ceiling, Unbounded, bound_of, price_ceiling, within_window
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.proxy.price import Priced
from sidecar.proxy.settle import PASSES_MAX

UNBOUNDED: Final = "unbounded"
"""On a charge of such a call."""

FEATURES_TOLD: Final = 4
"""Of what has no bound in a call, so many are written with its decision."""

LABELS: Final = ("currency",)
"""The labels of `OpenEnded.excess_by_currency`, for the metrics."""


class UnboundedCalls(StrEnum):
    """What becomes of a call that cannot be bounded."""

    DENY = "deny"
    ALLOW = "allow"  # held by what of it can be bounded; what it costs beyond that counts in Ω until it is settled


class LetIn(NamedTuple):
    """A call without a bound: its ceiling and price as far as they are bounded, and what in it is not."""

    ceiling: Ceiling
    priced: Priced
    features: tuple[str, ...]


class OpenEnded:
    """The policy, and the calls that run by it."""

    def __init__(self, policy: UnboundedCalls = UnboundedCalls.DENY) -> None:
        self.allows = policy is UnboundedCalls.ALLOW
        self._open: dict[str, tuple[str, int]] = {}
        self._growing: dict[str, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def growing(self) -> int:
        """Calls under way whose hold grows."""
        return len(self._growing)

    def let_in(self, ceiling: Ceiling, rates: RateBook, *, provider: str, at_ms: int) -> LetIn | None:
        """The part of a call that has a bound, priced; None: it may not run, or has no price that could be told.

        Where its model's window bounds the rest, that is in it, nothing is left, and no policy is asked.
        """
        card = rates.find(provider, ceiling.model, at_ms)
        currency = None if card is None else rates.currencies.get(card.currency)
        if card is None or currency is None:
            return None
        features: tuple[str, ...] = ()
        whole = within_window(ceiling, card)
        if whole is None:
            features = (*ceiling.unbounded, *((card.unbounded,) if card.unbounded else ()))
            if not self.allows or not features:
                return None
            whole, card = msgspec.structs.replace(ceiling, unbounded=()), msgspec.structs.replace(card, unbounded="")
        try:
            atoms = price_ceiling(whole, card, currency)
        except Unbounded:  # a tier, a place or a unit without a price
            return None
        if atoms > MAX_ATOMS:
            return None
        return LetIn(whole, Priced(card, currency, atoms), features[:FEATURES_TOLD])

    def opened(self, request_id: str, ceiling: Ceiling, priced: Priced) -> None:
        """One of them runs."""
        card = priced.card
        given = PASSES_MAX * max(card.context_window, ceiling.input_tokens)
        made = PASSES_MAX * max(card.max_output_tokens, ceiling.output_limit or 0) * ceiling.choices
        most = bound_of(ceiling, card, priced.currency).atoms(given, made)
        self._open[request_id] = priced.currency.code, max(0, most - priced.ceiling_atoms)

    def grows(self, request_id: str, currency: str, lacking_atoms: int) -> None:
        """One whose hold grows runs, or has grown: it lacks so much of its bound."""
        self._growing[request_id] = currency, lacking_atoms

    def closed(self, request_id: str) -> None:
        """It is settled: what it cost is counted where everything is."""
        self._open.pop(request_id, None)
        self._growing.pop(request_id, None)

    def excess_atoms(self, request_id: str) -> int:
        """What one that runs may cost beyond its hold."""
        return (self._open.get(request_id) or self._growing.get(request_id) or ("", 0))[1]

    def excess_by_currency(self) -> Iterator[tuple[tuple[str], int]]:
        """Ω of calls without a bound, in atoms of each currency."""
        return _sums(self._open)

    def growing_excess_by_currency(self) -> Iterator[tuple[tuple[str], int]]:
        """Ω of calls whose hold grows."""
        return _sums(self._growing)


def _sums(calls: dict[str, tuple[str, int]]) -> Iterator[tuple[tuple[str], int]]:
    sums: dict[str, int] = {}
    for code, atoms in calls.values():
        sums[code] = sums.get(code, 0) + atoms
    for code, atoms in sums.items():
        yield (code,), atoms
