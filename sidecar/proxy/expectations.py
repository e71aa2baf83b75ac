"""What a call of a model by one protocol is expected to cost: the cost that nineteen of twenty of the latest kept to.

The bound of a call is what it may cost, and a hard budget holds that; the expected cost is what people want to know
beforehand, and it is learned from what calls were settled at. It is shown by `/spend/v1/check`, `explain` and the
metrics, and refuses nothing. A call whose hold grows begins with so much (`small_holds`), and of the streams of such
providers is learned how many tokens were billed of how many bytes: by that a stream is read on that waits for credit.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

LATEST: Final = 128
"""Charges of one kind of call that are remembered: as prices and habits change, so does what is expected."""

LEARNED_FROM: Final = 8
"""Fewer say nothing yet."""

KINDS_MAX: Final = 1024
"""Kinds of calls that are remembered, a megabyte of them; the one first seen longest ago goes first."""

OUTGROWN_S: Final = 3600.0
"""So long calls of a kind are held for whole after one whose answer outgrew its hold."""

DENSE_FROM_BYTES: Final = 200
"""Shorter answers are mostly what a stream does not show, its end and its frame."""

UNLEARNED_DENSITY: Final = 750
"""Tokens of a thousand bytes, where nothing is known yet: what dense data has at most; prose has 250 to 450."""


class Kind(NamedTuple):
    """A kind of call: whose model, by which protocol, charged in which currency."""

    provider: str
    protocol: str
    model: str
    currency: str


class Expectations:
    """Learns from charges. To learn is a look into a dictionary and a number written; the rest is done when asked."""

    __slots__ = ("_densities", "_kinds", "_outgrown")

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str, str], _Ring] = {}
        self._densities: dict[tuple[str, str, str, str], _Ring] = {}
        self._outgrown: dict[tuple[str, str, str, str], float] = {}

    def learn(self, kind: tuple[str, str, str, str], charge_atoms: int) -> None:
        """Take in what a call of this `Kind` was charged, by its provider's own figures."""
        ring = self._kinds.get(kind)
        if ring is None:
            ring = _new_ring(self._kinds, kind)
        ring.add(charge_atoms)

    def learn_density(self, kind: tuple[str, str, str, str], tokens: int, visible_bytes: int) -> None:
        """Take in how many output tokens were billed of a stream of so many visible bytes; a short one says little."""
        if visible_bytes >= DENSE_FROM_BYTES:
            ring = self._densities.get(kind) or _new_ring(self._densities, kind)
            ring.add(min(1000, -(-1000 * tokens // visible_bytes)))

    def tokens_per_1000_bytes(self, kind: tuple[str, str, str, str]) -> int:
        """The most output tokens that such a stream showed in a thousand bytes, one of the latest; as a guess, 750."""
        ring = self._densities.get(kind)
        return UNLEARNED_DENSITY if ring is None or len(ring.values) < LEARNED_FROM else max(ring.values)

    def outgrew(self, kind: tuple[str, str, str, str], now: float) -> None:
        """An answer of this `Kind` was made faster than its hold could grow: whole, or in one piece."""
        if kind not in self._outgrown and len(self._outgrown) >= KINDS_MAX:
            del self._outgrown[next(iter(self._outgrown))]
        self._outgrown[kind] = now

    def may_grow(self, kind: tuple[str, str, str, str], now: float) -> bool:
        """Whether a call of this `Kind` may begin with less than its bound: none outgrew its hold lately."""
        return now - self._outgrown.get(kind, -math.inf) > OUTGROWN_S

    def expected_atoms(self, provider: str, model: str, currency: str, *, protocol: str = "") -> int | None:
        """What 95 of 100 calls cost at most; without a protocol, by the dearest of them. None: not enough is known."""
        if protocol:
            return self.expected_of((provider, protocol, model, currency))
        return max(
            (
                atoms
                for kind, atoms in self.all()
                if (kind.provider, kind.model, kind.currency) == (provider, model, currency)
            ),
            default=None,
        )

    def expected_of(self, kind: tuple[str, str, str, str]) -> int | None:
        """The same of one `Kind`."""
        ring = self._kinds.get(kind)
        return None if ring is None else ring.expected()

    def all(self) -> Iterator[tuple[Kind, int]]:
        """Every kind of which enough is known, with what is expected of it in atoms."""
        for kind, ring in self._kinds.items():
            expected = ring.expected()
            if expected is not None:
                yield Kind(*kind), expected


LABELS: Final = Kind._fields
"""The labels of `Expectations.all`, for the metrics."""


def _new_ring(rings: dict[tuple[str, str, str, str], _Ring], kind: tuple[str, str, str, str]) -> _Ring:
    if len(rings) >= KINDS_MAX:
        del rings[next(iter(rings))]
    ring = rings[kind] = _Ring()
    return ring


class _Ring:
    """The latest values of one kind of call, and how many there were."""

    __slots__ = ("count", "values")

    def __init__(self) -> None:
        self.values = array("q")
        self.count = 0

    def add(self, value: int) -> None:
        """Remember it in place of the oldest."""
        count = self.count
        if count < LATEST:
            self.values.append(value)
        else:
            self.values[count % LATEST] = value
        self.count = count + 1

    def expected(self) -> int | None:
        """The least that 95 % of them do not pass; None: there are too few."""
        known = len(self.values)
        return None if known < LEARNED_FROM else sorted(self.values)[-(-known * 95 // 100) - 1]
