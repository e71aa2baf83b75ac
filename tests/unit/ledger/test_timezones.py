"""A customer's periods on its own calendar: told, lent from, counted on, and changed with its time zone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Conflict, Rejected
from sidecar.ledger import timezones
from sidecar.ledger.administration import NewBudget
from tests.support.instants import ms
from tests.support.ledger import Desk, usd

ACME = Subject("acme")
NOW = "2026-11-24T12:00"
MINUTE_MS = 60_000


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A customer without a wallet and without a budget."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    yield desk
    desk.close()


async def set_budget(desk: Desk, per: str, limit: int = 1000, **more: object) -> str:
    """Its id."""
    fields: dict[str, object] = {"path": "acme", "limit": usd(limit), "per": per} | more
    return (await desk.service.set_budget(NewBudget(**fields), desk.act())).budget_id  # type: ignore[arg-type]


async def move_to(desk: Desk, zone: str) -> None:
    """Set the time zone."""
    await desk.service.set_timezone("acme", zone, desk.act())


async def used(desk: Desk) -> dict[str, dict[str, int]]:
    """What each budget's accounts have used in all their periods, by the period's key."""
    found: dict[str, dict[str, int]] = {}
    used = "SELECT account, consumed FROM accounts WHERE consumed > 0"
    rows = await desk.book.read("acme", lambda tx: tx.fetch(used))
    for row in rows:
        kind, _, rest = row["account"].partition(":")
        if kind == "budget":
            budget_id, _, rest = rest.partition(":")
            found.setdefault(budget_id, {})[rest.partition(":")[0]] = row["consumed"]
    return found


@pytest.mark.parametrize(
    ("per", "anchor", "zone", "starts", "ends"),
    [
        ("hour", "", "Asia/Kolkata", "2026-11-24T11:30", "2026-11-24T12:30"),
        ("day", "", "Asia/Kolkata", "2026-11-23T18:30", "2026-11-24T18:30"),
        ("day", "", "America/Los_Angeles", "2026-11-24T08:00", "2026-11-25T08:00"),
        ("week", "", "UTC", "2026-11-23", "2026-11-30"),
        ("week", "sunday", "Europe/Berlin", "2026-11-21T23:00", "2026-11-28T23:00"),
        ("month", "2026-01-31", "UTC", "2026-10-31", "2026-11-30"),
        ("quarter", "", "Asia/Tokyo", "2026-09-30T15:00", "2026-12-31T15:00"),
        ("year", "2025-04-06", "Europe/London", "2026-04-05T23:00", "2027-04-05T23:00"),
        ("anniversary", "", "UTC", "2026-11-24", "2026-12-24"),  # of the day on which it was added
        ("anniversary", "2026-01-31", "UTC", "2026-10-31", "2026-11-30"),
    ],
)
async def test_every_period_is_told_lent_from_and_counted_on(
    desk: Desk, per: str, anchor: str, zone: str, starts: str, ends: str
) -> None:
    """L37, L41: what people, a sidecar and the book say of one period is the same."""
    await move_to(desk, zone)
    await set_budget(desk, per, anchor=anchor)
    reply = await desk.borrow(ACME, 100)
    (lease,), (reading,) = reply.leases, reply.readings
    assert reading.resets_in_ms == ms(ends) - ms(NOW)
    assert lease.pays_for_ms == min(900_000, ms(ends) - ms(NOW))
    await desk.sync(desk.event("r1", ACME, 60, leases=(lease.lease_id,)))
    (view,) = await desk.service.budgets("acme")
    (child,) = view.children
    assert (child.starts_at_ms, child.resets_at_ms, child.used.atoms) == (ms(starts), ms(ends), 60)
    assert await desk.problems() == ()


async def test_calls_on_both_sides_of_a_local_midnight_count_in_their_own_days(desk: Desk) -> None:
    """L37, L38: of one batch and one hour (UTC) are two days in India; a late one still counts in its own."""
    await move_to(desk, "Asia/Kolkata")
    soft = await set_budget(desk, "day", hard=False)
    desk.clock.advance(7 * 3600)
    instants = {"a": "2026-11-24T18:29:59.999", "b": "2026-11-24T18:30", "c": "2026-11-24T18:45", "d": "2026-11-24"}
    atoms = {"a": 1, "b": 10, "c": 100, "d": 1000}
    events = [desk.event(one, ACME, atoms[one], admitted_at_ms=ms(at)) for one, at in instants.items()]
    await desk.sync(*events)
    assert await used(desk) == {soft: {"2026-11-23T1830Z": 1001, "2026-11-24T1830Z": 110}}
    assert await desk.problems() == ()


async def test_a_new_budget_counts_the_local_period_so_far(desk: Desk) -> None:
    """L31: of yesterday and today in India, today's."""
    await move_to(desk, "Asia/Kolkata")
    before, after = ms("2026-11-23T18:29:59"), ms("2026-11-23T18:30")
    await desk.sync(desk.event("a", ACME, 1, admitted_at_ms=before), desk.event("b", ACME, 10, admitted_at_ms=after))
    await set_budget(desk, "day")
    (view,) = await desk.service.budgets("acme")
    assert [child.used.atoms for child in view.children] == [10]


async def test_a_lease_ends_with_the_local_day_and_the_next_days_begins_there(desk: Desk) -> None:
    """L41: a minute before local midnight what is lent pays for a minute; tomorrow's lease starts then."""
    await move_to(desk, "Asia/Kolkata")
    await set_budget(desk, "day")
    desk.clock.advance((ms("2026-11-24T18:29") - ms(NOW)) / 1000)
    today = await desk.borrow(ACME, 1000)
    assert [lease.pays_for_ms for lease in today.leases] == [MINUTE_MS]
    ahead = await desk.ledger.resolve(msgspec.structs.replace(desk.request(ACME, 400), next_period=True))
    (lease,) = ahead.leases
    assert (lease.starts_in_ms, lease.granted_atoms >= 400) == (MINUTE_MS, True)
    assert "2026-11-24T1830Z" in lease.lease_id
    reply = await desk.sync(reports=(LeaseReport(lease.lease_id, 0),))
    assert [(one.starts_in_ms, one.pays_for_ms) for one in reply.parts[0].leases] == [(MINUTE_MS, 900_000)]
    desk.clock.advance(60)
    await desk.sync(desk.event("r1", ACME, 300, leases=(lease.lease_id,)))
    (view,) = await desk.service.budgets("acme")
    assert [(child.period, child.used.atoms) for child in view.children] == [("2026-11-24T1830Z", 300)]


async def test_another_time_zone_acts_from_the_next_period_on(desk: Desk) -> None:
    """L37: the running day ends as was told, and keeps its count; what comes late still counts in it."""
    hard, soft = await set_budget(desk, "day"), await set_budget(desk, "day", hard=False, match={"agent": "pipeline"})
    lent = await desk.borrow(ACME, 100)
    await desk.sync(desk.event("r1", ACME, 60, leases=(lent.leases[0].lease_id,)))
    view = await desk.service.set_timezone("acme", "Asia/Tokyo", desk.act())
    assert (view.timezone, view.timezone_set_at_ms) == ("Asia/Tokyo", desk.clock.wall_ms())
    (reading,) = (await desk.borrow(ACME, 100)).readings
    assert (reading.used_atoms, reading.resets_in_ms) == (60, ms("2026-11-25") - ms(NOW))
    desk.clock.advance(12 * 3600)
    (reading,) = (await desk.borrow(ACME, 100)).readings
    assert (reading.used_atoms, reading.resets_in_ms) == (0, 15 * 60 * MINUTE_MS)  # to midnight in Tokyo
    pipeline = Subject("acme", agent="pipeline")
    late, early = ms("2026-11-24T23:59:59"), ms("2026-11-25T00:00")
    await desk.sync(
        desk.event("r2", pipeline, 1, admitted_at_ms=late), desk.event("r3", pipeline, 2, admitted_at_ms=early)
    )
    assert await used(desk) == {hard: {"2026-11-24": 61, "2026-11-25": 2}, soft: {"2026-11-24": 1, "2026-11-25": 2}}
    entries, _ = await desk.service.entries("acme", after=0, kind="timezone_set", limit=9)
    assert [(entry.actor, entry.facts) for entry in entries] == [
        ("ada@example.com", {"reason": "", "timezone": "Asia/Tokyo"})
    ]
    assert await desk.problems() == ()


async def test_a_lease_lent_ahead_is_of_the_period_that_follows_whatever_the_time_zone(desk: Desk) -> None:
    """L39, L41: tomorrow's lease stands on the account that tomorrow has after the change too."""
    await set_budget(desk, "day")
    desk.clock.advance((ms("2026-11-24T23:59:30") - ms(NOW)) / 1000)
    await desk.borrow(ACME, 1)
    ahead = await desk.ledger.resolve(msgspec.structs.replace(desk.request(ACME, 700), next_period=True))
    (lease,) = ahead.leases
    await move_to(desk, "America/Los_Angeles")
    desk.clock.advance(60)
    other = await desk.borrow(ACME, 1000 - lease.granted_atoms + 1, sidecar="s2")
    assert other.leases == ()
    assert [(one.used_atoms, one.elsewhere_atoms) for one in other.readings] == [(0, lease.granted_atoms)]
    assert [one.resets_in_ms for one in other.readings] == [ms("2026-11-26T08:00") - desk.clock.wall_ms()]


async def test_before_the_first_budget_a_time_zone_acts_at_once(desk: Desk) -> None:
    """L37: no period was told yet, so that none has to be waited for."""
    await move_to(desk, "Asia/Tokyo")
    await move_to(desk, "Asia/Kolkata")
    await set_budget(desk, "day")
    (reading,) = (await desk.borrow(ACME, 1)).readings
    assert reading.resets_in_ms == ms("2026-11-24T18:30") - ms(NOW)


async def test_where_periods_begin_is_for_good(desk: Desk) -> None:
    """L37: what was counted is keyed by period; saying the same again, or nothing, changes the limit alone."""
    week = await set_budget(desk, "week", anchor="sunday")
    assert await set_budget(desk, "week", 5, anchor="sunday") == week
    assert await set_budget(desk, "week", 6) == week
    (view,) = await desk.service.budgets("acme")
    assert (view.anchor, view.limit.atoms) == ("sunday", 6)
    with pytest.raises(Conflict, match="counted from 'sunday'"):
        await set_budget(desk, "week", 7, anchor="monday")
    assert await set_budget(desk, "month") != week
    with pytest.raises(Conflict, match="calendar's own beginning"):
        await set_budget(desk, "month", anchor="2026-01-15")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("tokyo", "did you mean Asia/Tokyo?"),
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York"),
        ("../../etc/passwd", "an IANA time zone"),
        ("", "an IANA time zone"),
        ("localtime", "an IANA time zone"),
    ],
)
async def test_a_time_zone_that_is_none(desk: Desk, zone: str, expected: str) -> None:
    """Told with what was perhaps meant; nothing is changed."""
    with pytest.raises(Rejected) as refused:
        await move_to(desk, zone)
    assert expected in refused.value.problems["timezone"]
    assert [row.timezone for row in (await desk.service.customers(after="", limit=9))[0]] == ["UTC"]


@pytest.mark.parametrize(
    ("per", "anchor"),
    [
        ("day", "monday"),
        ("lifetime", "2026-01-01"),
        ("week", "2026-01-01"),
        ("month", "monday"),
        ("month", "2026-02-30"),
        ("month", "20260131"),
        ("year", "0001-01-01"),
        ("quarter", "9999-12-31"),
    ],
)
async def test_an_anchor_that_is_none(desk: Desk, per: str, anchor: str) -> None:
    """Each is refused by its field."""
    with pytest.raises(Rejected) as refused:
        await set_budget(desk, per, anchor=anchor)
    assert list(refused.value.problems) == ["anchor"]


async def test_time_zones_are_changed_a_bounded_number_of_times(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is looked at with every call, so that there cannot be any number; the same again is none."""
    monkeypatch.setattr(timezones, "MAX_CHANGES", 2)
    await set_budget(desk, "day")
    for zone in ("Asia/Tokyo", "Asia/Tokyo", "UTC", "UTC"):
        desk.clock.advance(1)
        await move_to(desk, zone)
    with pytest.raises(Rejected, match="at most 2 times"):
        await move_to(desk, "Europe/Berlin")
