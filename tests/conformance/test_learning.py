"""A book that has lost something lends nothing before every holder has told what it knows (L50a)."""

from __future__ import annotations

import logging

import msgspec
import pytest

from sidecar.contract.messages import (
    CustomerPart,
    LeaseReport,
    RegisterRequest,
    ResolveReply,
    SyncReply,
    SyncRequest,
    UsageEvent,
    lease_id,
)
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable, NotFound, StaleIncarnation
from sidecar.ledger.administration import LossAcceptance, NewBudget, NewGrant
from tests.support.ledger import Desk, usd

ACME = Subject("acme")
LIMIT = 100


class Holder:
    """A sidecar that keeps what it was told, as the real one does."""

    def __init__(self, desk: Desk, name: str) -> None:
        self._desk = desk
        self.name = name
        self.history_id = ""
        self.heard = 0

    async def register(self, *, caught_up: bool = False) -> None:
        request = RegisterRequest(
            self.name, f"{self.name}-inc", history_id=self.history_id, heard=self.heard, caught_up=caught_up
        )
        reply = await self._desk.ledger.register(request)
        self.history_id, self.heard = reply.history_id, reply.heard

    async def tell_all(self) -> None:
        """Hear which book it is, and say that it has everything."""
        await self.register()
        await self.register(caught_up=True)

    async def borrow(self, need: int) -> ResolveReply:
        request = self._desk.request(ACME, need, sidecar=self.name)
        return await self._desk.ledger.resolve(
            msgspec.structs.replace(request, history_id=self.history_id, heard=self.heard)
        )

    async def sync(
        self, *events: UsageEvent, reports: tuple[LeaseReport, ...] = (), caught_up: bool = True
    ) -> SyncReply:
        """`caught_up`: as who has told all that it keeps; else as who is still bringing it."""
        parts = (CustomerPart("acme", events, reports),) if events or reports else ()
        request = SyncRequest(
            self.name,
            f"{self.name}-inc",
            self._desk.clock.wall_ms(),
            parts,
            history_id=self.history_id if caught_up else "",
            heard=self.heard,
        )
        reply = await self._desk.ledger.sync(request)
        self.history_id, self.heard = reply.history_id, reply.heard
        return reply


async def fleet(desk: Desk, *names: str) -> list[Holder]:
    """Registered sidecars of a customer with one hard budget."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(LIMIT), "lifetime"), desk.act())
    holders = [Holder(desk, name) for name in names]
    for holder in holders:
        await holder.register(caught_up=True)
    return holders


async def account(desk: Desk) -> str:
    """The budget's account."""
    (budget,) = await desk.service.budgets("acme")
    return f"budget:{budget.budget_id}:lifetime:"


async def awaited(desk: Desk) -> list[str]:
    """Whom the ledger waits for."""
    return [one.sidecar for one in (await desk.service.learning()).awaited]


async def test_a_holder_that_was_told_more_proves_a_loss(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """L50a: the history is renewed by an entry, and nothing is lent to anybody; nothing that is lent is taken."""
    a, b = await fleet(desk, "a", "b")
    before = a.history_id
    lent = await b.borrow(10)
    assert (await desk.service.learning()).since_ms is None
    a.heard += 5  # of a span that this book has not
    with caplog.at_level(logging.ERROR):
        await a.sync()
    assert a.history_id != before
    view = await desk.service.learning()
    assert (view.history_id, view.since_ms is None) == (a.history_id, False)
    assert "a was given" in view.why
    assert await awaited(desk) == ["a", "b"]
    assert "book_has_lost_something" in caplog.text
    (entry,), _ = await desk.service.entries("_system", after=0, kind="history_fenced", limit=10)
    assert entry.facts["ended"] == [before]
    with pytest.raises(LedgerUnavailable, match="has lost something"):
        await a.borrow(10)
    with pytest.raises(StaleIncarnation, match="history is another"):
        await b.borrow(10)
    report = LeaseReport(lent.leases[0].lease_id, 0, want_atoms=50, granted_atoms=10)
    reply = await b.sync(reports=(report,), caught_up=False)
    (kept,) = reply.parts[0].leases
    assert (kept.granted_atoms, kept.pays_for_ms > 0) == (10, True)  # it goes on, and is not filled


async def test_it_lends_again_when_every_holder_has_told_all(desk: Desk) -> None:
    """L50a: not at a first word of each, nor in any number of rounds, nor after any time: when all are caught up."""
    a, b, c = await fleet(desk, "a", "b", "c")
    a.heard += 1
    await a.sync()
    for _ in range(3):
        for holder in (a, b, c):
            await holder.sync(caught_up=False)
            await holder.register()
            desk.clock.advance(24 * 3600)
    assert await awaited(desk) == ["a", "b", "c"]
    await a.tell_all()
    await b.tell_all()
    assert await awaited(desk) == ["c"]
    for holder in (a, b):
        with pytest.raises(LedgerUnavailable, match="has lost something"):
            await holder.borrow(1)
    await c.sync(desk.event("late", ACME, 30), caught_up=False)
    await c.tell_all()
    assert (await desk.service.learning()).since_ms is None
    assert (await b.borrow(70)).leases
    assert not (await a.borrow(1)).leases
    assert await desk.problems() == await desk.problems("_system") == ()


async def test_what_a_holder_was_lent_in_the_lost_span_is_kept_aside(desk: Desk) -> None:
    """L39, L42, L50a: `granted` is merged by maximum; the calls that come then are posted on it, in any order."""
    a, b = await fleet(desk, "a", "b")
    lease = lease_id("a-inc", await account(desk))
    a.heard += 1
    await a.sync()
    for _ in range(2):  # twice is once
        reply = await a.sync(reports=(LeaseReport(lease, 5, granted_atoms=60),), caught_up=False)
        assert not reply.parts[0].error
    (view,) = (await desk.service.budgets("acme"))[0].children
    assert (view.leased.atoms, view.used.atoms) == (55, 0)
    event = desk.event("r1", ACME, 20, leases=(lease,))
    await a.sync(event, caught_up=False)
    await a.tell_all()
    await b.tell_all()
    assert not (await b.borrow(46)).leases
    assert (await b.borrow(45)).leases
    await a.sync(reports=(LeaseReport(lease, 40, closed=True, granted_atoms=60),))
    (view,) = (await desk.service.budgets("acme"))[0].children
    assert (view.leased.atoms, view.used.atoms) == (45, 20)
    assert await desk.problems() == ()


async def test_a_lease_of_before_the_loss_grows_to_what_its_holder_was_told(desk: Desk) -> None:
    """L50a: the book has its first loan and not its second; the close that follows is exact."""
    a, b = await fleet(desk, "a", "b")
    lent = (await a.borrow(10)).leases[0]
    a.heard += 1
    await a.sync()
    await a.sync(
        desk.event("r1", ACME, 25, leases=(lent.lease_id,)),
        reports=(LeaseReport(lent.lease_id, 15, closed=True, granted_atoms=40),),
        caught_up=False,
    )
    (view,) = (await desk.service.budgets("acme"))[0].children
    assert (view.leased.atoms, view.used.atoms) == (0, 25)
    await a.tell_all()
    await b.tell_all()
    assert (await b.borrow(75)).leases
    assert await desk.problems() == ()


async def test_a_lease_that_was_closed_in_the_lost_span_holds_nothing(desk: Desk) -> None:
    """L46, L50a: a start that closes what the book never had is told so, and nothing is kept aside for it."""
    (a,) = await fleet(desk, "a")
    lease = lease_id("a-old", await account(desk))
    reply = await a.sync(reports=(LeaseReport(lease, 40, closed=True, granted_atoms=60),))
    assert "not known" in reply.parts[0].error
    assert (await desk.service.learning()).since_ms is None
    assert not (await desk.service.budgets("acme"))[0].children


async def test_a_lease_that_is_ahead_proves_a_loss(desk: Desk) -> None:
    """L50a: loans are not counted among the answers; the lease itself tells, and in the same message gets nothing."""
    a, b = await fleet(desk, "a", "b")
    lease = lease_id("a-inc", await account(desk))
    reply = await a.sync(reports=(LeaseReport(lease, 0, want_atoms=90, granted_atoms=20),))
    assert [one.granted_atoms for one in reply.parts[0].leases] == [20]
    assert await awaited(desk) == ["a", "b"]
    await a.tell_all()
    await b.tell_all()
    await a.sync(reports=(LeaseReport(lease, 0, granted_atoms=20),))
    assert (await desk.service.learning()).since_ms is None


async def test_of_a_grant_no_more_is_kept_aside_than_it_has(desk: Desk) -> None:
    """L6, L50a: what one holder says of it waits for what another gives back, and proves no further loss."""
    await desk.service.add_customer("acme", "required", desk.act())
    grant = await desk.service.add_grant(NewGrant("acme", usd(100)), desk.act())
    a, b = Holder(desk, "a"), Holder(desk, "b")
    for one in (a, b):
        await one.tell_all()
    lent = (await b.borrow(60)).leases[0]
    lease = lease_id("a-inc", f"grant:{grant.grant_id}")
    a.heard += 1
    await a.sync()
    await a.sync(reports=(LeaseReport(lease, 0, granted_atoms=70),), caught_up=False)
    (view,) = await desk.service.grants("acme")
    assert (view.available.atoms, view.leased.atoms) == (0, 100)
    await b.sync(reports=(LeaseReport(lent.lease_id, 60, granted_atoms=60),), caught_up=False)
    await a.tell_all()
    await b.tell_all()
    reply = await a.sync(reports=(LeaseReport(lease, 0, granted_atoms=70),))
    assert reply.parts[0].leases[0].granted_atoms == 70
    (view,) = await desk.service.grants("acme")
    assert (view.available.atoms, view.leased.atoms) == (30, 70)
    assert (await desk.service.learning()).since_ms is None
    assert await desk.problems() == ()


async def test_a_sync_for_another_history_is_told_so_and_nothing_else(desk: Desk) -> None:
    """L50a: its calls wait until their leases are told; a history that the book never had is a loss by itself."""
    (a,) = await fleet(desk, "a")
    known = a.history_id
    a.heard += 1
    await a.sync()
    await a.tell_all()
    late = Holder(desk, "late")
    late.history_id, late.heard = known, 3
    reply = await late.sync(desk.event("r1", ACME, 5))
    assert (reply.history_id, reply.parts[0].booked) == (a.history_id, False)
    assert not (await desk.service.usage(customer="acme", since_ms=0, after="", limit=9))[0]
    assert (await desk.service.learning()).since_ms is None
    late.history_id = "history_of_another_book"
    await late.register()
    assert late.history_id not in (known, a.history_id)
    assert await awaited(desk) == ["a", "late"]


async def test_an_operator_gives_up_a_holder_by_name(desk: Desk) -> None:
    """L50a: --accept-loss is an act with an actor; the others are waited for still."""
    a, _b, _c = await fleet(desk, "a", "b", "c")
    a.heard += 1
    await a.sync()
    await a.tell_all()
    with pytest.raises(NotFound, match="nobody"):
        await desk.service.accept_loss(LossAcceptance("it is gone", "nobody"), desk.act())
    act = desk.act()
    for _ in range(2):
        view = await desk.service.accept_loss(LossAcceptance("its machine is gone", "b"), act)
        assert [one.sidecar for one in view.awaited] == ["c"]
    with pytest.raises(LedgerUnavailable):
        await a.borrow(1)
    view = await desk.service.accept_loss(LossAcceptance("so is c's"), desk.act())
    assert view.since_ms is None
    assert (await a.borrow(1)).leases
    accepted, _ = await desk.service.entries("_system", after=0, kind="loss_accepted", limit=10)
    assert [(one.actor, one.facts["sidecars"]) for one in accepted] == [
        ("ada@example.com", ["b"]),
        ("ada@example.com", ["c"]),
    ]
    acts, _ = await desk.service.audit(customer="_system", actor="", since_ms=0, until_ms=2**62, after="", limit=100)
    listed = [(one.actor, one.reason) for one in acts if one.kind == "loss_accepted"]
    assert listed == [("ada@example.com", "its machine is gone"), ("ada@example.com", "so is c's")]
    assert await desk.problems("_system") == ()


async def test_who_ends_without_having_told_is_waited_for(desk: Desk) -> None:
    """L50a: its outbox has what the book lacks: its next start brings it, and any start of it will do."""
    a, b = await fleet(desk, "a", "b")
    a.heard += 1
    await a.sync()
    await a.tell_all()
    await desk.ledger.sync(
        SyncRequest("b", "b-inc", desk.clock.wall_ms(), ended=True, all_booked=True, history_id=b.history_id)
    )
    assert await awaited(desk) == ["b"]
    again = RegisterRequest("b", "b-next", history_id=b.history_id, heard=b.heard)
    reply = await desk.ledger.register(again)
    assert await awaited(desk) == ["b"]
    await desk.ledger.register(
        RegisterRequest("b", "b-next", history_id=reply.history_id, heard=reply.heard, caught_up=True)
    )
    assert await awaited(desk) == []
