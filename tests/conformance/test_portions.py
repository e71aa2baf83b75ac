"""What one customer brings while others ask, cut into portions: on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sidecar.contract.codec import encode
from sidecar.contract.messages import (
    CustomerPart,
    LeaseReport,
    RecordedPart,
    RecordedSync,
    RegisterRequest,
    SyncReply,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ledger import portions
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.reconcile import Applied, apply_part
from sidecar.ports import Transaction
from tests.support.ledger import Desk, usd

ACME, UMBRELLA = Subject("acme"), Subject("umbrella")
CALLS = 23


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of five calls; who asked once is there for long."""
    monkeypatch.setattr(portions, "MAX_CALLS", 5)
    monkeypatch.setattr(portions, "OTHERS_FOR_S", 60.0)


async def borrowed(desk: Desk, *, crowded: bool = True) -> str:
    """Two customers with a budget each, who ask at once if it is to be `crowded`; gives acme's lease."""
    for customer in ("acme", "umbrella"):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_budget(NewBudget(customer, usd(1000), "month"), desk.act())
    await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    if crowded:
        reply, _ = await asyncio.gather(desk.borrow(ACME, 500), desk.borrow(UMBRELLA, 1))
    else:
        reply = await desk.borrow(ACME, 500)
    return reply.leases[0].lease_id


def events(desk: Desk, lease: str, count: int = CALLS, *, name: str = "r") -> tuple[UsageEvent, ...]:
    """Settled calls of ten each."""
    return tuple(desk.event(f"{name}{number}", ACME, 10, leases=(lease,)) for number in range(count))


async def entries(desk: Desk, kind: str) -> int:
    """How many entries of a kind acme's book has."""
    found, _ = await desk.service.entries("acme", after=0, kind=kind, limit=1000)
    return len(found)


async def used(desk: Desk) -> int:
    """What is booked on acme's budget, in atoms."""

    async def read(tx: Transaction) -> int:
        sql = "SELECT consumed FROM accounts WHERE customer = ? AND account LIKE 'budget:%'"
        (row,) = await tx.fetch(sql, ("acme",))
        consumed: int = row["consumed"]
        return consumed

    return await desk.book.read("acme", read)


@pytest.mark.parametrize("crowded", [True, False])
async def test_a_large_part_is_several_transactions_while_others_ask(desk: Desk, crowded: bool) -> None:
    """S-35, L29, L42: each call once, what came back and what is wanted with the last; alone it is one transaction."""
    lease = await borrowed(desk, crowded=crowded)
    report = LeaseReport(lease, 100, want_atoms=50, tally_atoms=230)
    for _ in range(2):  # the second is a repetition
        (part,) = (await desk.sync(*events(desk, lease), reports=(report,))).parts
        assert (part.error, part.booked) == ("", True)
        assert [one.lease_id for one in part.leases] == [lease]
    assert await entries(desk, "usage") == (5 if crowded else 1)
    assert await entries(desk, "returned") == 1
    assert await used(desk) == 230
    assert await desk.problems() == ()


async def test_several_syncs_of_a_customer_at_once_are_all_booked(desk: Desk) -> None:
    """S-35, L29: they wait for one another, and not one call is lost or booked twice."""
    lease = await borrowed(desk)
    many = [events(desk, lease, 12, name=f"{number}-") for number in range(6)]
    replies = await asyncio.gather(*(desk.sync(*some) for some in [*many, *many]))
    assert all(part.booked and not part.error for reply in replies for part in reply.parts)
    assert await used(desk) == 6 * 12 * 10
    assert await desk.problems() == ()


async def test_what_makes_no_sense_is_told_of_every_portion(desk: Desk) -> None:
    """S-35: the events that are none are counted, the others are booked."""
    lease = await borrowed(desk)
    raws = [msgspec.Raw(encode(one)) for one in events(desk, lease, 12)]
    raws[1] = raws[7] = msgspec.Raw(b"\xc0")
    request = RecordedSync("s1", "s1-inc", desk.clock.wall_ms(), (RecordedPart("acme", tuple(raws)),))
    (part,) = (await desk.service.sync(request)).parts
    assert (part.error, part.booked) == ("1 events make no sense; 1 events make no sense", True)
    assert await used(desk) == 100


async def test_a_portion_with_others_calls_ends_its_part(desk: Desk) -> None:
    """S-31, S-35: what came before it stays booked, as it would by a sync of its own; nothing behind it is."""
    lease = await borrowed(desk)
    calls = list(events(desk, lease, 12))
    calls[7] = desk.event("strange", UMBRELLA, 10)
    request = SyncRequest("s1", "s1-inc", desk.clock.wall_ms(), (CustomerPart("acme", tuple(calls)),))
    (part,) = (await desk.ledger.sync(request)).parts
    assert (part.booked, "other customers" in part.error) == (False, True)
    assert await used(desk) == 50


async def test_a_loss_that_a_first_portion_proves_is_remembered_by_the_last(desk: Desk) -> None:
    """L50a, S-35: nothing more is lent by the sync that shows what the book has lost, and its history ends."""
    lease = await borrowed(desk)
    history = (await desk.ledger.register(RegisterRequest("s1", "s1-inc"))).history_id
    report = LeaseReport(lease, 0, want_atoms=50, granted_atoms=900)
    part = CustomerPart("acme", events(desk, lease), (report,))
    reply: SyncReply = await desk.ledger.sync(
        SyncRequest("s1", "s1-inc", desk.clock.wall_ms(), (part,), history_id=history)
    )
    (told,) = reply.parts[0].leases
    assert told.granted_atoms == 900
    assert reply.history_id != history


async def test_a_lease_is_closed_with_the_last_portion(desk: Desk) -> None:
    """L42, S-35: not one of the calls that come with its close is late for it."""
    lease = await borrowed(desk)
    await desk.sync(*events(desk, lease), reports=(LeaseReport(lease, 270, closed=True, tally_atoms=230),))
    for number in (0, CALLS - 1):
        assert (await desk.service.explain(f"r{number}")).flags == ()
    assert await desk.problems() == ()


async def test_an_incarnation_ends_behind_its_last_portion(desk: Desk) -> None:
    """L43, S-35: all of its calls are booked before what is left of its leases is free."""
    lease = await borrowed(desk)
    reply = await desk.sync(*events(desk, lease), ended=True, all_booked=True)
    assert reply.parts[0].booked
    assert await used(desk) == 230
    assert await desk.problems() == ()


async def test_a_sync_is_not_counted_before_its_last_portion(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """L50a, S-35: where the book fails in the middle, its sender asks again as if nothing had been heard."""
    lease = await borrowed(desk)

    async def failing(*args: Any, is_last: bool, **more: Any) -> Applied:
        if is_last:
            raise LedgerUnavailable("the book cannot now")
        return await apply_part(*args, is_last=is_last, **more)

    async def heard() -> list[str]:
        rows = await desk.book.read_everyone(
            lambda tx: tx.fetch("SELECT value FROM meta WHERE name = ?", ("heard:s1",))
        )
        return [row["value"] for row in rows]

    before = await heard()
    monkeypatch.setattr("sidecar.ledger.service.apply_part", failing)
    with pytest.raises(LedgerUnavailable):
        await desk.sync(*events(desk, lease))
    assert (await heard(), await used(desk)) == (before, 200)
    monkeypatch.setattr("sidecar.ledger.service.apply_part", apply_part)
    assert (await desk.sync(*events(desk, lease))).parts[0].booked
    assert await used(desk) == 230
