"""What a sidecar that starts while the ledger is away can know: its customers' policies, left by others of the fleet.

A copy admits nothing. It lies where others may write, so its standing goes neither into the table nor among the
standings that the ledger gave; it only tells a refused caller which limits there are, and whether asking again can
help: a customer that has neither wallet nor hard budget is refused for that (L16a), all others until the ledger is
back (L47). The worst that a forged copy can do is therefore a wrong word in a refusal that would have come anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from sidecar.contract.warm_copies import read_copy, write_copy
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import CopiesUnavailable
from sidecar.leases.breaker import Breaker
from sidecar.leases.standings import Place, place_of
from sidecar.leases.table import LeaseTable
from sidecar.leases.verdicts import Covered, Keeper, Uncovered
from sidecar.ports import Clock, Copies

MAX_WRITTEN: Final = 16_384
"""Subjects of whom it is remembered what was written; of one that is forgotten it is written again."""

MAX_PENDING: Final = 1024
"""Copies that wait to be written; a further one is left for when its standing is next heard."""

REWRITE_S: Final = 300.0
"""An unchanged copy is written anew after so long, so that its age says how old it is."""

MAX_READ: Final = 1024
"""Subjects of whom it is remembered what was read."""

BELIEVE_S: Final = 5.0
"""What was read, or not there, stands for so long."""

MAX_READS: Final = 32
"""Under way at once; who comes then is answered without."""

DETAIL: Final = (
    "The ledger has not answered since this sidecar started, and has lent it nothing; the limits that are named come"
    " from a copy of this customer's policies."
)
"""What is said to a caller whose customer's policies are known by a copy."""

logger = logging.getLogger("sidecar.warm")


class WarmStandings:
    """Leaves copies of what the ledger said, and reads those that others left.

    Attributes:
        written: copies that were left since the start.
        read: copies that were found.
    """

    def __init__(self, copies: Copies, clock: Clock, *, breaker: Breaker) -> None:
        self.written = 0
        self.read = 0
        self._copies = copies
        self._clock = clock
        self._breaker = breaker
        self._noted: dict[Place, tuple[Standing, float]] = {}
        self._pending: dict[Place, tuple[Subject, Standing]] = {}
        self._wake = asyncio.Event()
        self._found: dict[Place, tuple[tuple[Standing, int] | None, float]] = {}
        self._reads = 0

    def note(self, subject: Subject, standing: Standing) -> None:
        """The ledger said this of a subject: leave a copy of it, by and by."""
        place = place_of(subject)
        if place not in self._pending and len(self._pending) >= MAX_PENDING:
            return
        former = self._noted.get(place)
        if former is not None and self._clock.monotonic() - former[1] < REWRITE_S and _same(former[0], standing):
            return
        self._pending[place] = subject, standing
        self._wake.set()

    async def run(self) -> None:
        """Write what was noted, until cancelled; what cannot be written now is left for the next time it is heard."""
        while True:
            await self._wake.wait()
            while self._pending:
                place = next(iter(self._pending))
                await self._write(place, *self._pending.pop(place))
            self._wake.clear()

    async def _write(self, place: Place, subject: Subject, standing: Standing) -> None:
        data = write_copy(subject, standing, now_ms=self._clock.wall_ms())
        if data is None or not self._breaker.allows(self._clock.monotonic()):
            return
        try:
            await self._copies.write(subject.customer, _name(subject), data)
        except CopiesUnavailable as problem:
            self._failed(problem)
            return
        self._breaker.worked()
        self.written += 1
        self._noted.pop(place, None)
        self._noted[place] = standing, self._clock.monotonic()
        if len(self._noted) > MAX_WRITTEN:
            del self._noted[next(iter(self._noted))]

    async def recall(self, subject: Subject) -> tuple[Standing, int] | None:
        """The copy of a subject's policies and its age in milliseconds; None: there is none to go by."""
        place, now = place_of(subject), self._clock.monotonic()
        found, until = self._found.get(place, (None, now))
        if now < until:
            return found
        if self._reads >= MAX_READS or not self._breaker.allows(now):
            return None
        self._reads += 1
        try:
            data = await self._copies.read(subject.customer, _name(subject))
        except CopiesUnavailable as problem:
            self._failed(problem)
            return None
        finally:
            self._reads -= 1
        self._breaker.worked()
        found = None if data is None else read_copy(data, subject, now_ms=self._clock.wall_ms())
        self.read += found is not None
        self._found.pop(place, None)
        self._found[place] = found, self._clock.monotonic() + BELIEVE_S
        if len(self._found) > MAX_READ:
            del self._found[next(iter(self._found))]
        return found

    def _failed(self, problem: CopiesUnavailable) -> None:
        if self._breaker.failed(self._clock.monotonic(), random.random()):
            logger.warning("copies_unavailable", extra={"facts": {"problem": str(problem)}})


class WarmKeeper:
    """The lease keeper; where it refuses because the ledger never answered since the start, copies tell of what.

    Args:
        keeper: the keeper itself, whose verdicts these are.
        warm: where copies are.
        has_heard: whether the ledger answered anything since the start; from then on no copy is read.
    """

    def __init__(self, keeper: Keeper, warm: WarmStandings, has_heard: Callable[[], bool]) -> None:
        self.standing = keeper.standing  # itself, for it is on every call's way
        self._keeper = keeper
        self._warm = warm
        self._has_heard = has_heard

    async def cover(
        self,
        subject: Subject,
        *,
        model: str,
        provider: str,
        need_atoms: int,
        currency: str,
        since: float | None = None,
    ) -> Covered | Uncovered:
        """As the keeper says; a refusal for want of the ledger says what is known by a copy, and stays a refusal."""
        verdict = await self._keeper.cover(
            subject, model=model, provider=provider, need_atoms=need_atoms, currency=currency, since=since
        )
        if isinstance(verdict, Covered) or verdict.reason is not Reason.LEDGER_UNAVAILABLE:
            return verdict
        if verdict.standing is not None or self._has_heard():
            return verdict
        found = await self._warm.recall(subject)
        if found is None or self._has_heard():
            return verdict
        return _told(verdict, subject, *found, model=model, provider=provider)


def _told(
    refusal: Uncovered, subject: Subject, standing: Standing, age_ms: int, *, model: str, provider: str
) -> Uncovered:
    """A refusal with what a copy tells. `standing` is left out of it: nothing more is decided by this one."""
    plan = LeaseTable().plan(standing, subject, model=model, provider=provider)  # a table that lends nothing to anyone
    consulted = plan.consulted(0.0)
    if not plan.limits:
        return Uncovered(Reason.NO_LIMIT_APPLIES, consulted=consulted, standing_age_ms=age_ms)
    return msgspec.structs.replace(refusal, detail=DETAIL, consulted=consulted, standing_age_ms=age_ms)


def _same(one: Standing, other: Standing) -> bool:
    """Whether a copy of one would be a copy of the other, but for its age."""
    return (one.plan, one.revision, one.path, one.budgets) == (other.plan, other.revision, other.path, other.budgets)


def _name(subject: Subject) -> str:
    """Under which a subject's copy lies; neither a path nor a user is to be read off it."""
    place = msgspec.msgpack.encode(place_of(subject))
    return sha256(place).hexdigest()[:32]
