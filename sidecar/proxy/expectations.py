"""What a call of a model by one protocol is expected to cost: the cost that nineteen of twenty of the latest kept to.

The bound of a call is what it may cost, and a hard budget holds that; the expected cost is what people want to know
beforehand, and it is learned from what calls were settled at. It decides nothing: it is shown by `/spend/v1/check`,
`explain` and the metrics.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

LATEST: Final = 128
"""Charges of one kind of call that are remembered: as prices and habits change, so does what is expected."""

LEARNED_FROM: Final = 8
"""Fewer say nothing yet."""

KINDS_MAX: Final = 1024
"""Kinds of calls that are remembered, a megabyte of them; the one first seen longest ago goes first."""


class Kind(NamedTuple):
    """A kind of call: whose model, by which protocol, charged in which currency."""

    provider: str
    protocol: str
    model: str
    currency: str


class Expectations:
    """Learns from charges. To learn is a look into a dictionary and a number written; the rest is done when asked."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str, str], _Ring] = {}

    def learn(self, kind: tuple[str, str, str, str], charge_atoms: int) -> None:
        """Take in what a call of this `Kind` was charged, by its provider's own figures."""
        ring = self._kinds.get(kind)
        if ring is None:
            if len(self._kinds) >= KINDS_MAX:
                del self._kinds[next(iter(self._kinds))]
            ring = self._kinds[kind] = _Ring()
        charges, count = ring.charges, ring.count
        if count < LATEST:
            charges.append(charge_atoms)
        else:
            charges[count % LATEST] = charge_atoms
        ring.count = count + 1

    def expected_atoms(self, provider: str, model: str, currency: str, *, protocol: str = "") -> int | None:
        """What 95 of 100 calls cost at most; without a protocol, by the dearest of them. None: not enough is known."""
        if protocol:
            ring = self._kinds.get((provider, protocol, model, currency))
            return None if ring is None else ring.expected()
        return max(
            (
                atoms
                for kind, atoms in self.all()
                if (kind.provider, kind.model, kind.currency) == (provider, model, currency)
            ),
            default=None,
        )

    def all(self) -> Iterator[tuple[Kind, int]]:
        """Every kind of which enough is known, with what is expected of it in atoms."""
        for kind, ring in self._kinds.items():
            expected = ring.expected()
            if expected is not None:
                yield Kind(*kind), expected


LABELS: Final = Kind._fields
"""The labels of `Expectations.all`, for the metrics."""


class _Ring:
    """The latest charges of one kind of call, and how many there were."""

    __slots__ = ("charges", "count")

    def __init__(self) -> None:
        self.charges = array("q")
        self.count = 0

    def expected(self) -> int | None:
        """The least that 95 % of them do not pass; None: there are too few."""
        known = len(self.charges)
        return None if known < LEARNED_FROM else sorted(self.charges)[-(-known * 95 // 100) - 1]
