"""What every ledger must do for a sidecar, whichever way it is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import msgspec
import pytest

from sidecar.contract.messages import (
    Change,
    CustomerPart,
    Holding,
    LeaseReport,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    SyncReply,
    SyncRequest,
    lease_account,
)
from sidecar.core.credits.burn_order import burn_key
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.tenancy import Node, Subject, parse_path
from sidecar.core.governance.virtual_keys import key_digest, write_key
from sidecar.errors import Conflict, Rejected, StaleIncarnation, WireFormatError
from sidecar.ledger import budget_accounts
from sidecar.ledger.administration import GrantVoid, NewBudget, NewGrant, NewKey
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.parts import Part, grant_place
from sidecar.ledger.service import LedgerService
from sidecar.ledger.views import BudgetView, ClockView
from tests.support.ledger import RATES, Desk, usd

ACME = Subject("acme")
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what comes by itself; where there is no network it is there already."""
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def counted(desk: Desk, limit: int = 100, **fields: object) -> BudgetView:
    """A customer without a wallet and with one hard monthly budget."""
    await desk.service.add_customer("acme", "none", desk.act())
    return await desk.service.set_budget(budget(limit, **fields), desk.act())


def budget(limit: int, **fields: object) -> NewBudget:
    """A hard monthly budget of the customer, but for the fields given."""
    base: dict[str, object] = {"path": "acme", "limit": usd(limit), "per": "month"}
    return NewBudget(**(base | fields))  # type: ignore[arg-type]


def granted(reply: ResolveReply | SyncReply) -> dict[str, int]:
    """Total granted, by account."""
    leases = reply.leases if isinstance(reply, ResolveReply) else reply.parts[0].leases
    return {lease_account(lease.lease_id): lease.granted_atoms for lease in leases}


async def test_who_is_unknown_is_told_so(desk: Desk) -> None:
    """L33: customers and path nodes must exist; the answer names what does not."""
    reply = await desk.borrow(ACME, 1)
    assert (reply.refusal, reply.standing) == (Reason.CUSTOMER_UNKNOWN.value, None)
    assert "acme" in reply.detail
    await counted(desk)
    reply = await desk.borrow(Subject("acme", parse_path("team:data")), 1)
    assert (reply.refusal, reply.leases) == (Reason.CUSTOMER_UNKNOWN.value, ())
    assert "team:data" in reply.detail


async def test_a_path_is_filled_in_or_refused(desk: Desk) -> None:
    """L30: earlier parts are ancestors; what is left out is filled in, what contradicts the tree is refused."""
    await counted(desk)
    await desk.service.add_nodes("acme/department:a/team:data", desk.act())
    await desk.service.add_nodes("acme/department:b", desk.act())
    reply = await desk.borrow(Subject("acme", parse_path("team:data")), 1)
    assert reply.standing is not None
    assert reply.standing.path == (Node("department", "a"), Node("team", "data"))
    for path in ("department:b/team:data", "team:data/department:a"):
        assert (await desk.borrow(Subject("acme", parse_path(path)), 1)).refusal == Reason.SUBJECT_CONFLICT.value


async def test_a_standing_holds_all_budgets_of_the_path(desk: Desk) -> None:
    """L30: the customer's, each path node's and the user's, whatever they match; nobody else's."""
    await counted(desk)
    await desk.service.add_nodes("acme/team:data", desk.act())
    await desk.service.add_nodes("acme/team:sales", desk.act())
    for path, match in (
        ("acme/team:data", {}),
        ("acme/user:ada", {}),
        ("acme/team:sales", {}),
        ("acme", {"model": "o3"}),
    ):
        await desk.service.set_budget(budget(100, path=path, match=match), desk.act())
    reply = await desk.borrow(Subject("acme", parse_path("team:data"), user="ada"), 0)
    assert reply.standing is not None
    assert reply.leases == ()
    assert [b.owner("acme") for b in reply.standing.budgets] == ["acme", "acme", "acme/team:data", "acme/user:ada"]


async def test_nothing_is_lent_above_the_limit(desk: Desk) -> None:
    """L39: spent and lent together stay within the limit; a denial takes nothing."""
    await counted(desk, 100)
    first = await desk.borrow(ACME, 60)
    assert list(granted(first).values()) == [60]
    denied = await desk.borrow(ACME, 41, sidecar="s2")
    assert (denied.leases, denied.refusal) == ((), "")
    assert (denied.readings[0].unlent_atoms, denied.readings[0].elsewhere_atoms) == (40, 60)
    assert list(granted(await desk.borrow(ACME, 40, sidecar="s2")).values()) == [40]
    assert await desk.problems() == ()


async def test_of_a_hundred_at_once_five_pass(desk: Desk) -> None:
    """L39: a hundred concurrent requests against credit for five; exactly five are lent to."""
    await counted(desk, 50)
    replies = await asyncio.gather(*(desk.borrow(ACME, 10, sidecar=f"s{n}") for n in range(100)))
    assert sum(bool(reply.leases) for reply in replies) == 5
    assert await desk.problems() == ()


async def test_an_unseen_child_gets_no_more_than_its_own_budget(desk: Desk) -> None:
    """L33: concurrent first requests of a new session, on many sidecars, share one budget; new ones are bounded."""
    await counted(desk, 30, each="session")
    job = Subject("acme", session="job-1")
    replies = await asyncio.gather(*(desk.borrow(job, 10, sidecar=f"s{n}") for n in range(9)))
    assert sum(bool(reply.leases) for reply in replies) == 3
    others = [await desk.borrow(Subject("acme", session=f"job-{n}"), 10) for n in range(2, 6)]
    assert [reply.refusal for reply in others] == ["", "", "too_many_subjects", "too_many_subjects"]
    desk.clock.advance(3601)
    assert (await desk.borrow(Subject("acme", session="job-9"), 10)).leases


async def test_all_accounts_or_none(desk: Desk) -> None:
    """L21, L39: where one budget is short, none is lent from, and the reading says which."""
    await counted(desk, 100)
    await desk.service.set_budget(budget(5, match={"model": "gpt*"}), desk.act())
    reply = await desk.borrow(ACME, 10)
    assert reply.leases == ()
    assert [reading.unlent_atoms for reading in reply.readings] == [100, 5]
    assert [reading.escrow_atoms for reading in reply.readings] == [0, 0]
    assert (await desk.borrow(ACME, 10, model="o3")).leases


async def test_a_holding_is_counted_on(desk: Desk) -> None:
    """L42: only what the asker lacks is lent, and never less than what waits."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 30)).leases[0]
    request = desk.request(ACME, 50)
    more = await desk.ledger.resolve(msgspec.structs.replace(request, holdings=(Holding(lease.lease_id, 20),)))
    assert more.leases[0].granted_atoms == 60  # 30 − 10 held + 30 = 50 to spend


async def test_grants_are_lent_in_burn_order(desk: Desk) -> None:
    """L11, L16: the one that expires first is lent to its end before the next; each says if it has more."""
    await desk.service.add_customer("acme", "required", desk.act())
    now = desk.clock.wall_ms()
    late = await desk.service.add_grant(NewGrant("acme", usd(100), expires_at_ms=now + 9 * HOUR_MS), desk.act())
    soon = await desk.service.add_grant(NewGrant("acme", usd(100), expires_at_ms=now + HOUR_MS // 6), desk.act())
    reply = await desk.borrow(ACME, 120)
    assert granted(reply) == {f"grant:{soon.grant_id}": 100, f"grant:{late.grant_id}": 20}
    assert [lease.has_more for lease in reply.leases] == [False, True]
    assert [lease.pays_for_ms for lease in reply.leases] == [600_000, 900_000]
    assert (await desk.borrow(ACME, 81, sidecar="s2")).leases == ()
    assert await desk.problems() == ()


async def test_a_grant_pays_from_its_first_instant_to_before_its_last(desk: Desk) -> None:
    """L10, L13, L3, F-61: outside of it nothing is lent; what was lent stays chargeable; the rest expires."""
    await desk.service.add_customer("acme", "required", desk.act())
    now = desk.clock.wall_ms()
    grant = await desk.service.add_grant(
        NewGrant("acme", usd(100), effective_at_ms=now + 1000, expires_at_ms=now + 2000), desk.act()
    )
    early = await desk.borrow(ACME, 10)
    assert early.leases == ()
    assert early.standing is not None
    assert early.standing.fresh_for_ms == 1000
    desk.clock.advance(1)
    lease = (await desk.borrow(ACME, 10)).leases[0]
    assert lease.pays_for_ms == 1000
    desk.clock.advance(1)
    assert (await desk.borrow(ACME, 1)).leases == ()
    await desk.sync(
        desk.event("r1", ACME, 4, paid=((lease.lease_id, 4),)), reports=(LeaseReport(lease.lease_id, 6, closed=True),)
    )
    shown = (await desk.service.grants("acme"))[0]
    assert (shown.consumed.atoms, shown.expired.atoms, shown.available.atoms, shown.leased.atoms) == (4, 96, 0, 0)
    expired = (await desk.service.entries("acme", after=0, kind="grant_expired", limit=9))[0]
    assert [entry.occurred_at_ms for entry in expired] == [now + 2000]
    assert grant.grant_id in expired[0].key
    assert await desk.problems() == ()


async def test_an_event_is_booked_once(desk: Desk) -> None:
    """L29, F-45: repeated in one message, in another, or after a failure, it counts once."""
    view = await counted(desk)
    lease = (await desk.borrow(ACME, 20)).leases[0]
    event = desk.event("r1", ACME, 15, leases=(lease.lease_id,))
    for _ in range(3):
        reply = await desk.sync(event, event)
        assert (reply.parts[0].error, reply.parts[0].booked) == ("", True)
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (15, 5, 80)
    assert view.children == ()
    assert len((await desk.service.usage(customer="acme", since_ms=0, after="", limit=9))[0]) == 1


async def test_totals_only_grow(desk: Desk) -> None:
    """L42, F-45, F-46: a report that was overtaken or repeated changes nothing; a closed lease is not lent on again."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 40)).leases[0].lease_id
    for returned in (10, 30, 10, 30):
        await desk.sync(reports=(LeaseReport(lease, returned),))
    assert (await desk.service.budgets("acme"))[0].children[0].leased.atoms == 10
    await desk.sync(reports=(LeaseReport(lease, 35, closed=True),))
    await desk.sync(reports=(LeaseReport(lease, 30, want_atoms=50),))
    assert (await desk.service.budgets("acme"))[0].children[0].leased.atoms == 5
    assert (await desk.borrow(ACME, 10)).leases == ()
    late = await desk.sync(desk.event("r1", ACME, 5, leases=(lease,)))
    assert late.parts[0].error == ""
    assert (await desk.service.explain("r1")).flags == ("late",)
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (5, 0, 95)


async def test_a_close_frees_what_its_holder_never_heard_of(desk: Desk) -> None:
    """L42: lent by an answer that came too late, or not at all; what is charged and on its way stays kept."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 40)).leases[0].lease_id
    await desk.borrow(ACME, 60)  # the question was stuck on its way, and nobody waits for the answer any more
    closing = LeaseReport(lease, 25, closed=True, tally_atoms=15)
    for _ in range(2):
        await desk.sync(desk.event("r1", ACME, 5, leases=(lease,)), reports=(closing,))
        child = (await desk.service.budgets("acme"))[0].children[0]
        assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (5, 10, 85)
    await desk.sync(desk.event("r2", ACME, 10, leases=(lease,)))
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (15, 0, 85)
    assert await desk.problems() == ()


async def test_a_report_on_an_unknown_lease_loses_nothing_else(desk: Desk) -> None:
    """L29, L42: it is told as an error; the events and reports beside it are applied."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 40)).leases[0].lease_id
    reports = (LeaseReport("nobody/budget:x:lifetime:", 1), LeaseReport(lease, 10))
    part = (await desk.sync(desk.event("r1", ACME, 5, leases=(lease,)), reports=reports)).parts[0]
    assert "nobody/" in part.error
    assert part.booked
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms) == (5, 25)
    stranger = await desk.sync(reports=(LeaseReport(lease, 20),), sidecar="s2")
    assert stranger.parts[0].error


async def test_what_a_sidecar_wants_it_gets_within_bounds(desk: Desk) -> None:
    """L44: a wish is sized to what remains; near the limit it is not an error, only small."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 20)).leases[0].lease_id
    reply = await desk.sync(reports=(LeaseReport(lease, 0, want_atoms=1000),))
    assert list(granted(reply).values()) == [40]  # a quarter of the 80 that remain
    assert reply.parts[0].error == ""
    assert await desk.problems() == ()


async def test_who_waits_has_others_recalled(desk: Desk) -> None:
    """L45: what a request found too little of is asked back from those that hold it."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 90)).leases[0].lease_id
    assert not (await desk.sync(reports=(LeaseReport(lease, 0),))).parts[0].leases[0].recall
    assert (await desk.borrow(ACME, 20, sidecar="s2")).leases == ()
    renewed = (await desk.sync(reports=(LeaseReport(lease, 0, want_atoms=10),))).parts[0].leases[0]
    assert (renewed.recall, renewed.granted_atoms) == (True, 90)
    await desk.sync(reports=(LeaseReport(lease, 50),))
    assert (await desk.borrow(ACME, 20, sidecar="s2")).leases


async def test_only_a_live_incarnation_borrows(desk: Desk) -> None:
    """L43: unregistered or ended, it gets nothing; what it reports still counts."""
    await counted(desk, 100)
    with pytest.raises(StaleIncarnation):
        await desk.ledger.resolve(desk.request(ACME, 1))
    lease = (await desk.borrow(ACME, 20)).leases[0].lease_id
    await desk.sync(ended=True)
    with pytest.raises(StaleIncarnation):
        await desk.ledger.resolve(desk.request(ACME, 1))
    reply = await desk.sync(
        desk.event("r1", ACME, 5, leases=(lease,)), reports=(LeaseReport(lease, 10, want_atoms=50),)
    )
    assert granted(reply) == {}
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms) == (5, 5)


async def test_an_incarnation_whose_calls_are_booked_keeps_nothing(desk: Desk) -> None:
    """L42, L43: what is not posted on its leases is free, known to it or not; not while calls may be missing."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 20)).leases[0].lease_id
    await desk.sync(desk.event("r1", ACME, 5, leases=(lease,)))
    await desk.sync(ended=True)
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms) == (5, 15)
    for _ in range(2):
        await desk.sync(ended=True, all_booked=True)
        child = (await desk.service.budgets("acme"))[0].children[0]
        assert (child.used.atoms, child.leased.atoms) == (5, 0)
    assert await desk.problems() == ()


async def test_a_lease_for_the_next_period_is_lent_ahead(desk: Desk) -> None:
    """L41: shortly before it begins, with the time until then; it is another account."""
    await counted(desk, 100, per="hour")
    await desk.service.set_budget(budget(100), desk.act())
    request = desk.request(ACME, 10)
    ahead = msgspec.structs.replace(request, next_period=True)
    await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    desk.clock.advance(3600 - 61)
    assert (await desk.ledger.resolve(ahead)).leases == ()
    desk.clock.advance(31)
    (lease,) = (await desk.ledger.resolve(ahead)).leases
    assert (lease.starts_in_ms, lease.pays_for_ms) == (30_000, 900_000)
    assert "T13Z" in lease.lease_id
    assert await desk.problems() == ()


async def test_a_budget_set_later_counts_what_its_period_has_seen(desk: Desk) -> None:
    """L31: for every child; calls admitted before it and settled after are counted too."""
    await desk.service.add_customer("acme", "none", desk.act())
    ada, bob = Subject("acme", user="ada"), Subject("acme", user="bob")
    month_ago = desk.clock.wall_ms() - 40 * 24 * HOUR_MS
    await desk.sync(desk.event("r1", ada, 10), desk.event("r2", bob, 20), desk.event("r3", ada, 5))
    await desk.sync(desk.event("r0", ada, 500, admitted_at_ms=month_ago))
    await desk.service.set_budget(budget(100, each="user"), desk.act())
    await desk.sync(desk.event("r4", ada, 1))
    (view,) = await desk.service.budgets("acme")
    assert {child.child: child.used.atoms for child in view.children} == {"ada": 16, "bob": 20}
    assert (await desk.borrow(ada, 85)).leases == ()
    assert (await desk.borrow(ada, 84)).leases
    assert await desk.problems() == ()


async def test_soft_budgets_are_counted_and_never_lent(desk: Desk) -> None:
    """L36a, L53: they refuse nothing; crossing the threshold is an entry, once a period."""
    await counted(desk, 100)
    await desk.service.set_budget(budget(10, hard=False, per="day"), desk.act())
    reply = await desk.borrow(ACME, 20)
    assert len(reply.leases) == 1
    lease = (reply.leases[0].lease_id,)
    await desk.sync(desk.event("r1", ACME, 9, leases=lease))
    await desk.sync(desk.event("r2", ACME, 9, leases=lease), desk.event("r3", ACME, 1, leases=lease))
    crossed = (await desk.service.entries("acme", after=0, kind="threshold_crossed", limit=9))[0]
    assert [entry.facts["used_atoms"] for entry in crossed] == [19]
    soft = (await desk.service.budgets("acme"))[1]
    assert (soft.children[0].used.atoms, soft.children[0].remaining.atoms) == (19, 0)
    assert await desk.problems() == ()


async def crossings(desk: Desk) -> list[tuple[object, object]]:
    """Of the customer's budgets so far: what was used, of which limit."""
    found = (await desk.service.entries("acme", after=0, kind="threshold_crossed", limit=99))[0]
    return [(entry.facts["used_atoms"], entry.facts["limit_atoms"]) for entry in found]


async def test_a_raised_limit_is_crossed_anew(desk: Desk) -> None:
    """L53: re-armed by an edit, and once more only; lifting it out of reach and back tells it again."""
    await counted(desk, 100, hard=False, per="lifetime")
    await desk.sync(desk.event("r1", ACME, 100))
    assert await crossings(desk) == [(100, 100)]
    await desk.service.set_budget(budget(1000, hard=False, per="lifetime"), desk.act())
    await desk.sync(desk.event("r2", ACME, 899))
    assert await crossings(desk) == [(100, 100)]
    await desk.sync(desk.event("r3", ACME, 1))
    await desk.sync(desk.event("r4", ACME, 1))
    assert await crossings(desk) == [(100, 100), (1000, 1000)]
    for limit in (5000, 50):
        await desk.service.set_budget(budget(limit, hard=False, per="lifetime"), desk.act())
    assert (await crossings(desk))[2:] == [(1001, 50)]
    assert await desk.problems() == ()


async def test_a_lowered_limit_is_crossed_by_the_act(desk: Desk) -> None:
    """L53: in the act's own transaction, for each child above it and no other; lowering it again tells nothing new."""
    await counted(desk, 1000, hard=False, each="user")
    for user, used in (("ada", 500), ("bob", 99), ("eve", 100)):
        await desk.sync(desk.event(f"r-{user}", Subject("acme", user=user), used))
    assert await crossings(desk) == []
    for limit in (100, 99, 60):
        await desk.service.set_budget(budget(limit, hard=False, each="user"), desk.act())
    found = (await desk.service.entries("acme", after=0, kind="", limit=99))[0]
    kinds = [(entry.kind, entry.facts.get("used_atoms")) for entry in found if entry.kind != "usage"][2:]
    crossed = "threshold_crossed"
    assert kinds == [
        *[("budget_set", None), (crossed, 500), (crossed, 100)],
        *[("budget_set", None), (crossed, 99), ("budget_set", None)],
    ]
    await desk.sync(desk.event("late", Subject("acme", user="ada"), 1))
    assert len(await crossings(desk)) == 3


async def test_an_act_writes_so_many_alerts_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """L53: the others come with their next call."""
    monkeypatch.setattr(budget_accounts, "MAX_ALERTED_BY_EDIT", 1)
    await counted(desk, 1000, hard=False, each="user")
    for user in ("ada", "bob"):
        await desk.sync(desk.event(f"r-{user}", Subject("acme", user=user), 500))
    await desk.service.set_budget(budget(100, hard=False, each="user"), desk.act())
    assert await crossings(desk) == [(500, 100)]
    for user in ("ada", "bob"):
        await desk.sync(desk.event(f"s-{user}", Subject("acme", user=user), 1))
    assert await crossings(desk) == [(500, 100), (501, 100)]


async def test_an_excess_comes_from_the_lease_then_what_is_free_then_debt(desk: Desk) -> None:
    """L17: usage is always recorded; debt stops lending until a paid grant repays it first."""
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(100)), desk.act())
    lease = (await desk.borrow(ACME, 40)).leases[0].lease_id
    await desk.sync(desk.event("r1", ACME, 60, paid=((lease, 50),)))
    grant = (await desk.service.grants("acme"))[0]
    assert (grant.consumed.atoms, grant.available.atoms, grant.leased.atoms) == (60, 40, 0)
    await desk.sync(desk.event("r2", ACME, 70))
    assert (await desk.service.balance("acme")).debt[0].atoms == 30
    assert (await desk.borrow(ACME, 1)).refusal == Reason.DEBT_LIMIT.value
    await desk.service.add_grant(NewGrant("acme", usd(50), category="promotional"), desk.act())
    assert (await desk.borrow(ACME, 1)).refusal == Reason.DEBT_LIMIT.value
    await desk.service.add_grant(NewGrant("acme", usd(40)), desk.act())
    balance = await desk.service.balance("acme")
    assert (balance.debt[0].atoms, balance.available[0].atoms, balance.consumed[0].atoms) == (0, 60, 130)
    assert (await desk.borrow(ACME, 60)).leases
    assert await desk.problems() == ()


async def test_an_unpriced_call_is_on_record_and_moves_nothing(desk: Desk) -> None:
    """L5: no price is not a price of zero: the charge is null."""
    await counted(desk)
    await desk.sync(desk.event("r1", ACME, None))
    ((row,), _) = await desk.service.usage(customer="", since_ms=0, after="", limit=9)
    assert row.charge is None
    assert row.usage["input_tokens"] == 100
    assert row.usage["reasoning_tokens"] is None
    assert (await desk.service.explain("r1")).entry.legs == ()  # type: ignore[union-attr]


async def test_time_does_not_go_back(desk: Desk) -> None:
    """L38, L3, F-35: a wall clock set back does not move a customer's; occurred is counted back from recorded."""
    await counted(desk)
    start = desk.clock.wall_ms()
    await desk.sync(desk.event("r1", ACME, 1, admitted_at_ms=start - 5000))
    desk.clock.set_wall(start - HOUR_MS)
    await desk.sync(desk.event("r2", ACME, 1))
    rows, _ = await desk.service.usage(customer="acme", since_ms=0, after="", limit=9)
    assert [(row.recorded_at_ms - start, row.occurred_at_ms - start) for row in rows] == [(0, -5000), (0, 0)]


async def test_a_small_step_back_does_not_move_a_customers_time(desk: Desk) -> None:
    """L38: the clock is believed, and the customer's book still does not go back."""
    await counted(desk)
    start = desk.clock.wall_ms()
    await desk.sync(desk.event("r1", ACME, 1))
    desk.clock.set_wall(start - MINUTE_MS)
    await desk.sync(desk.event("r2", ACME, 1))
    assert desk.service.clock_jump_ms == 0
    rows, _ = await desk.service.usage(customer="acme", since_ms=0, after="", limit=9)
    assert [row.recorded_at_ms - start for row in rows] == [0, 0]


@pytest.mark.parametrize("days", [1, 40])
async def test_a_jump_of_the_clock_begins_no_period_and_ends_no_grant(
    desk: Desk, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    """L38, F-16: time goes on as it passes until the wall clock is back; then a day is a day again."""
    await counted(desk, 100, per="day")
    await desk.service.add_customer("bob", "required", desk.act())
    ten_days = desk.clock.wall_ms() + 10 * DAY_MS
    await desk.service.add_grant(NewGrant("bob", usd(100), "usd", expires_at_ms=ten_days), desk.act())
    first = await desk.borrow(ACME, 100)
    await desk.sync(desk.event("r1", ACME, 100, leases=(first.leases[0].lease_id,)))
    for jump in (days * DAY_MS, 2 * days * DAY_MS):
        right = desk.clock.wall_ms()
        desk.clock.set_wall(right + jump)
        assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
        assert (await desk.borrow(Subject("bob"), 1)).leases != ()
        assert desk.service.clock_jump_ms == jump
        desk.clock.set_wall(right)
        assert (await desk.borrow(ACME, 1, sidecar="s3")).leases == ()
        assert desk.service.clock_jump_ms == 0
        desk.clock.advance(1.0)
    assert caplog.text.count("clock_jumped") == 2
    desk.clock.advance(DAY_MS / 1000)
    assert (await desk.borrow(ACME, 1)).leases != ()


async def test_a_jump_back_does_not_stop_time(desk: Desk) -> None:
    """L38, F-16: a clock set to 1970 begins the next day when a day has passed, not in fifty years."""
    await counted(desk, 100, per="day")
    first = await desk.borrow(ACME, 100)
    await desk.sync(desk.event("r1", ACME, 100, leases=(first.leases[0].lease_id,)))
    desk.clock.set_wall(0)
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
    desk.clock.advance(DAY_MS / 1000)
    assert granted(await desk.borrow(ACME, 1, sidecar="s2")) != {}
    assert await desk.problems() == ()


async def test_a_jump_can_be_accepted(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """L38: somebody says that the clock is right; the next period begins at once, and the log says who said so."""
    await counted(desk, 100, per="day")
    first = await desk.borrow(ACME, 100)
    await desk.sync(desk.event("r1", ACME, 100, leases=(first.leases[0].lease_id,)))
    before = desk.clock.wall_ms()
    desk.clock.set_wall(before + DAY_MS)
    assert await desk.service.clock() == ClockView(before, DAY_MS)
    assert await desk.service.accept_clock(desk.act()) == ClockView(before + DAY_MS, 0)
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases != ()
    assert "clock_accepted" in caplog.text


async def test_a_new_process_believes_the_clock(desk: Desk) -> None:
    """L38: a restart is how somebody says that the clock is right."""
    await counted(desk, 100, per="day")
    first = await desk.borrow(ACME, 100)
    await desk.sync(desk.event("r1", ACME, 100, leases=(first.leases[0].lease_id,)))
    desk.clock.set_wall(desk.clock.wall_ms() + DAY_MS)
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
    desk.ledger = LedgerService(desk.book, desk.clock, desk.ids, RATES, LedgerOptions())
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases != ()


async def test_changes_are_heard(desk: Desk) -> None:
    """L35: what changes a policy is heard, in process before the act's caller is answered; nothing after stopping."""
    heard: list[Change] = []
    stop = desk.ledger.subscribe(heard.append)
    await counted(desk, 100)
    await until(lambda: len(heard) >= 2 or desk.ledger is desk.service)
    assert [change.customer for change in heard] == ["acme", "acme"]
    assert heard[0].revision < heard[1].revision
    await desk.sync(desk.event("r1", ACME, 1))
    stop()
    await desk.service.set_budget(budget(90), desk.act())
    assert len(heard) == 2


async def test_another_version_is_refused_by_name(desk: Desk) -> None:
    """A peer that speaks a version we do not know hears both."""
    with pytest.raises(WireFormatError, match="version 99"):
        await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0, version=99))


async def test_a_history_has_one_name(desk: Desk) -> None:
    """L50a: every answer that names the book's history names the same."""
    first = await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    assert first.history_id
    assert (await desk.ledger.register(RegisterRequest("s2", "s2-inc"))).history_id == first.history_id
    assert (await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0))).history_id == first.history_id


async def test_a_book_counts_what_it_hears_of_each(desk: Desk) -> None:
    """L50a: whoever keeps the greatest count knows a copy that was put back by its lower one."""
    first = await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    later = [await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0)) for _ in range(3)]
    assert [first.heard, *(reply.heard for reply in later)] == [1, 2, 3, 4]
    assert (await desk.ledger.sync(SyncRequest("s2", "s2-inc", 0))).heard == 1
    assert (await desk.ledger.register(RegisterRequest("s1", "s1-inc-2"))).heard == 5


async def test_one_failing_customer_loses_no_other(desk: Desk) -> None:
    """A part for a customer nobody knows is an error of its own; the parts beside it are booked, in order."""
    await counted(desk)
    parts = tuple(
        CustomerPart(name, (desk.event(f"r-{name}", Subject(name), 1),)) for name in ("ghost", "acme", "other")
    )
    reply = await desk.ledger.sync(SyncRequest("s1", "s1-inc", desk.clock.wall_ms(), parts))
    assert [(part.customer, part.booked, bool(part.error)) for part in reply.parts] == [
        ("ghost", False, True),
        ("acme", True, False),
        ("other", False, True),
    ]
    foreign = CustomerPart("acme", (desk.event("r2", Subject("other"), 1),))
    assert (await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0, (foreign,)))).parts[0].error


async def test_an_impossible_charge_is_on_record_without_one(desk: Desk) -> None:
    """L1, L29: what is no amount moves nothing, and still cannot stop the outbox."""
    await counted(desk)
    part = (await desk.sync(desk.event("r1", ACME, -5), desk.event("r2", ACME, 2**62))).parts[0]
    assert (part.error, part.booked) == ("", True)
    for request_id in ("r1", "r2"):
        explained = await desk.service.explain(request_id)
        assert (explained.charge, explained.flags) == (None, ("charge_refused",))
    assert await desk.problems() == ()


async def test_a_lease_of_another_sidecar_is_not_charged(desk: Desk) -> None:
    """L39: a sidecar spends only what was lent to itself; what it claims beyond is counted all the same."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 40)).leases[0].lease_id
    await desk.sync(desk.event("r1", ACME, 30, leases=(lease,)), sidecar="s2")
    child = (await desk.service.budgets("acme"))[0].children[0]
    assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (30, 40, 30)
    assert (await desk.service.explain("r1")).flags == ("lease_unknown",)


async def test_lowering_a_limit_stops_lending_and_recalls(desk: Desk) -> None:
    """L39, F-62: what is lent stays lent until it comes back; nothing more is meanwhile. Raising it lends again."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 80)).leases[0].lease_id
    view = await desk.service.set_budget(budget(50), desk.act())
    assert (view.version, view.limit.atoms) == (2, 50)
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
    (renewed,) = (await desk.sync(reports=(LeaseReport(lease, 0, want_atoms=5),))).parts[0].leases
    assert (renewed.granted_atoms, renewed.recall) == (80, True)
    await desk.service.set_budget(budget(200), desk.act())
    assert (await desk.borrow(ACME, 120, sidecar="s2")).leases
    assert await desk.problems() == ()


async def test_a_customer_added_again_keeps_its_wallet(desk: Desk) -> None:
    """Where no wallet is named, the one that is there is meant; another one is a conflict, not a change."""
    assert (await desk.service.add_customer("acme", "none", desk.act())).wallet == "none"
    assert (await desk.service.add_customer("acme", "", desk.act())).wallet == "none"
    with pytest.raises(Conflict):
        await desk.service.add_customer("acme", "required", desk.act())
    assert (await desk.service.add_customer("beta", "", desk.act())).wallet == "required"


async def test_a_user_is_no_node(desk: Desk) -> None:
    """L30: users are taken as they come; one made as a node could never be named in a path."""
    await desk.service.add_customer("acme", "none", desk.act())
    with pytest.raises(Rejected, match="user"):
        await desk.service.add_nodes("acme/user:ada", desk.act())
    await desk.service.set_budget(NewBudget("acme/user:ada", usd(5), "day"), desk.act())


async def test_a_virtual_key_names_its_subject_until_it_is_revoked(desk: Desk) -> None:
    """S-13: by its digest; an unknown one and a revoked one are not told apart, and a change tells of each."""
    heard: list[Change] = []
    stop = desk.ledger.subscribe(heard.append)
    await counted(desk)
    await desk.service.add_nodes("acme/team:data", desk.act())
    digest = key_digest(write_key(b"k" * 32))
    ask = ResolveKeyRequest("s1", digest)
    assert await desk.ledger.resolve_key(ask) == ResolveKeyReply()
    made = await desk.service.add_key(NewKey("acme/team:data/user:ada", digest.hex()), desk.act())
    reply = await desk.ledger.resolve_key(ask)
    assert (reply.subject, reply.key_id) == (Subject("acme", parse_path("team:data"), user="ada"), made.key_id)
    await until(lambda: Change("acme", reply.revision) in heard)
    (listed,), _ = await desk.service.keys("acme", after=0, limit=9)
    assert listed.last_used_on  # it was asked for: that is its first use
    assert listed == msgspec.structs.replace(made, last_used_on=listed.last_used_on)
    await desk.service.revoke_key("acme", made.key_id, desk.act())
    await until(lambda: any(change.revision > reply.revision for change in heard))
    assert await desk.ledger.resolve_key(ask) == ResolveKeyReply()
    with pytest.raises(WireFormatError):
        await desk.ledger.resolve_key(ResolveKeyRequest("s1", b"short"))
    stop()


async def test_lists_come_in_parts(desk: Desk) -> None:
    """Nodes and budgets behind one that is named, in the order of the whole list, read no further than is asked."""
    service = desk.service
    await service.add_customer("acme", "none", desk.act())
    for path in ("acme/team:b", "acme/department:a/team:d", "acme/team:c", "acme/department:a/team:e"):
        await service.add_nodes(path, desk.act())
        for per in ("day", "month"):
            await service.set_budget(NewBudget(path, "5", per), desk.act())
    await service.set_budget(NewBudget("acme", "9", "day"), desk.act())
    nodes, budgets = await service.nodes("acme"), await service.budgets("acme")
    assert (len(nodes), len(budgets)) == (5, 9)
    for first in range(len(nodes)):
        assert await service.nodes("acme", Part(nodes[first].path, 2)) == nodes[first + 1 : first + 3]
    for first in range(len(budgets)):
        assert await service.budgets("acme", Part(budgets[first].budget_id, 3)) == budgets[first + 1 : first + 4]
    assert await service.budgets("acme", Part("", 4)) == budgets[:4]
    with pytest.raises(Rejected) as refused:
        await service.budgets("acme", Part("bud_gone", 4))
    assert refused.value.code == "invalid_cursor"


async def test_a_list_of_grants_comes_in_parts_though_they_are_spent_meanwhile(desk: Desk) -> None:
    """L11: the parts are the list in burn order, ended ones last; none is left out because another was used up."""
    service = desk.service
    await service.add_customer("acme", "required", desk.act())
    now = desk.clock.wall_ms()
    for priority, category, ends in product((1, 0), ("paid", "promotional"), (None, now + 60_000, now + 60_000)):
        lot = NewGrant("acme", usd(5), category=category, priority=priority, expires_at_ms=ends)
        await service.add_grant(lot, desk.act())
    whole = await service.grants("acme")
    entries, _ = await service.entries("acme", after=0, kind="grant_issued", limit=100)
    issued = [msgspec.convert(entry.facts, Grant) for entry in entries]
    assert [view.grant_id for view in whole] == [grant.grant_id for grant in sorted(issued, key=burn_key)]
    for first in range(len(whole)):
        assert await service.grants("acme", Part(grant_place(whole[first]), 3)) == whole[first + 1 : first + 4]
    assert await service.grants("acme", Part("", 4)) == whole[:4]

    place = grant_place(whole[3])
    await service.void_grant(GrantVoid("acme", whole[3].grant_id, "a test"), desk.act())
    *paying, last = await service.grants("acme", Part(place))
    assert [view.grant_id for view in paying] == [view.grant_id for view in whole[4:]]
    assert (last.grant_id, last.voided) == (whole[3].grant_id, True)
    assert await service.grants("acme", Part(grant_place(last))) == []
    desk.clock.advance(60)
    names = [view.grant_id for view in await service.grants("acme")]
    kept = [view.grant_id for view in whole if view.expires_at_ms is None and view.grant_id != last.grant_id]
    assert names[: len(kept)] == kept
    assert sorted(names) == sorted(view.grant_id for view in whole)
    with pytest.raises(Rejected) as refused:
        await service.grants("acme", Part("pays:grt_gone"))
    assert refused.value.code == "invalid_cursor"
