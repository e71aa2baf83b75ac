"""Sidecars' keepers in this process, over a real ledger and a pretend clock: each can be cut off from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sidecar.contract.messages import (
    Admission,
    AnySync,
    Change,
    CustomerPart,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.governance.decisions import Decision, Source
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.errors import LedgerUnavailable
from sidecar.leases.keeper import Keeper
from sidecar.leases.options import KeeperOptions
from sidecar.leases.table import Covered, Held, LeaseTable, Uncovered
from sidecar.ports import Ledger
from tests.support.ledger import MODEL, PROVIDER, Desk


class Cuttable:
    """A ledger that can be away. `asked` counts the questions that were put to it, also in vain."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.away = False
        self.asked = 0

    def _ask(self) -> Ledger:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable("cut off")
        return self._ledger

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger."""
        return await self._ask().register(request)

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger."""
        return await self._ask().resolve(request)

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """As the ledger."""
        return await self._ask().resolve_key(request)

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger."""
        return await self._ask().sync(request)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """As the ledger, while it can be reached."""
        return self._ledger.subscribe(lambda change: None if self.away else listener(change))


class Holder:
    """One sidecar: it decides calls, settles them, and brings its reports and settlements to the ledger.

    It is its own courier and notebook. `true_atoms` is what its calls really cost.
    """

    def __init__(self, desk: Desk, name: str, *, settle_wait_s: float = 0.05) -> None:
        self.desk = desk
        self.name = name
        self.wire = Cuttable(desk.service)
        self.table = LeaseTable()
        self.events: list[UsageEvent] = []
        self.true_atoms = 0
        self.booked_before = 0.0
        self.is_woken = False
        self._calls = 0
        self.keeper = Keeper(
            self.wire, self.table, desk.clock, notes=self, courier=self, sidecar=name, incarnation=f"{name}-inc",
            options=replace(KeeperOptions(), settle_wait_s=settle_wait_s),
        )  # fmt: skip
        self.stop = self.wire.subscribe(self.keeper.changed)

    def note_lease(self, customer: str, lease_id: str, granted_atoms: int, spent_atoms: int) -> None:
        """Nothing is kept."""

    def note_ended(self, lease_id: str) -> None:
        """Nothing is kept."""

    def wake(self) -> None:
        """There is something to report now; whoever drives it sees to that, or asks in time."""
        self.is_woken = True

    async def flush(self, timeout_s: float) -> bool:
        """One sync after the other, until nothing is left to say; False if the ledger is away."""
        self.is_woken = False
        while self.keeper.has_due or self.events:
            due, events = self.keeper.due(), self.events[:512]
            customers = dict.fromkeys([*due, *(event.admission.subject.customer for event in events)])
            parts = tuple(
                CustomerPart(
                    name,
                    tuple(event for event in events if event.admission.subject.customer == name),
                    tuple(due.get(name, ())),
                )
                for name in customers
            )
            sent_at = self.desk.clock.monotonic()
            request = SyncRequest(self.name, f"{self.name}-inc", self.desk.clock.wall_ms(), parts)
            try:
                reply = await self.wire.sync(request)
            except LedgerUnavailable:
                self.keeper.missed()
                return False
            del self.events[: len(events)]
            for part, answer in zip(parts, reply.parts, strict=True):
                assert answer.booked, answer.error
                self.keeper.heard(part, answer, sent_at)
        self.booked_before = self.desk.clock.monotonic()
        return True

    async def hold(self, need: int, subject: Subject) -> Covered | Uncovered:
        """As the corridor does: from the table, else through the keeper."""
        known = self.keeper.standing(subject)
        if known is not None:
            now = self.desk.clock.monotonic()
            held = self.table.take(known.standing, subject, model=MODEL, provider=PROVIDER, atoms=need, now=now)
            if isinstance(held, Held):
                return Covered(known.standing, known.standing_age_ms, held)
        return await self.keeper.cover(subject, model=MODEL, provider=PROVIDER, need_atoms=need, currency="usd")

    def settle(self, covered: Covered, charge: int) -> str:
        """Settle a call and keep its event for the next sync; gives its id."""
        held = covered.held
        assert held is not None
        split = self.table.settle(held, charge)
        self._calls += 1
        self.true_atoms += charge
        request_id = f"{self.name}-{self._calls}"
        decision = Decision(covered.source, held.atoms, 0, 0, "p@1", "card", "sha")
        admission = Admission(
            request_id, held.plan.placed, PROVIDER, "chat", MODEL, self.desk.clock.wall_ms(), "usd", held.atoms,
            decision, held.budget_leases, held.slices,
        )  # fmt: skip
        usage = Usage(UsageState.FINAL)
        self.events.append(UsageEvent(admission, 1, 200, "complete", usage, charge, split.legs, split.excess))
        return request_id

    async def spend(self, atoms: int, subject: Subject) -> Source | None:
        """A call that costs what it holds: where its spending power came from; None: it was denied."""
        covered = await self.hold(atoms, subject)
        if isinstance(covered, Uncovered):
            return None
        self.settle(covered, atoms)
        return covered.source

    async def tick(self) -> bool:
        """A refresh and what it has to say; False if the ledger did not hear."""
        await self.keeper.refresh()
        return await self.flush(1.0)
