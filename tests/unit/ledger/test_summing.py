"""Sums of settled calls: nothing is lost or counted twice, however they are cut into pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.errors import NotFound, Rejected
from sidecar.ledger import summing
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.quarantine import SLACK_MS
from sidecar.ledger.summing import COUNTERS, GROUPINGS
from sidecar.ledger.views import SumView
from tests.support.instants import ms
from tests.support.ledger import Desk

DAY_MS = 86_400_000
PATH = parse_path("department:analytics/team:data")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger of its own."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


async def everything(desk: Desk, by: str, customer: str = "", since_ms: int = 0) -> list[SumView]:
    """All pages' rows."""
    rows: list[SumView] = []
    cursor = ""
    while True:
        page, cursor = await desk.service.sums(by=by, customer=customer, since_ms=since_ms, after=cursor)
        rows += page
        if not cursor:
            return rows


async def trade(desk: Desk) -> int:
    """Some calls of two customers over three days; gives the atoms charged in all."""
    for customer in ("acme", "globex"):
        await desk.service.add_customer(customer, "none", desk.act())
    await desk.service.add_nodes("acme/department:analytics/team:data", desk.act())
    charged = 0
    for number in range(30):
        subject = Subject("acme", PATH if number % 3 else (), user="ada" if number % 2 else "", session=f"s{number}")
        atoms = 1000 + number
        await desk.sync(desk.event(f"a{number}", subject, atoms, model=("gpt-4o", "gpt-4o-mini")[number % 2]))
        await desk.sync(desk.event(f"g{number}", Subject("globex"), atoms))
        charged += 2 * atoms
        desk.clock.advance(2 * 3600)
    at_once = [desk.event(f"b{number}", Subject("acme"), 7) for number in range(9)]
    await desk.sync(*at_once, desk.event("unpriced", Subject("acme"), None))
    return charged + 9 * 7


@pytest.mark.parametrize("by", [*GROUPINGS, "node:department"])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_sums_add_up_to_the_atom(desk: Desk, monkeypatch: pytest.MonkeyPatch, by: str, size: int) -> None:
    """Whatever is summed by and however long a page is: the same calls, the same atoms, the same tokens."""
    charged = await trade(desk)
    monkeypatch.setattr(summing, "MAX_CALLS_PER_PAGE", size)
    rows = await everything(desk, by)
    assert sum(row.calls for row in rows) == 70
    assert sum(row.charge.atoms for row in rows if row.charge is not None) == charged
    assert sum(row.usage["input_tokens"] or 0 for row in rows) == 70 * 100
    assert sum(row.usage["output_tokens"] or 0 for row in rows) == 70 * 20
    assert {name for row in rows for name, count in row.usage.items() if count is None} == {
        "cache_write_tokens",
        "reasoning_tokens",
    }
    assert set(rows[0].usage) == set(COUNTERS)


async def test_groups(desk: Desk) -> None:
    """A call counts under its own day, team, model; one that has none, under null; an unknown charge apart."""
    await trade(desk)
    teams = {(row.group, row.charge is None): row.calls for row in await everything(desk, "team", "acme")}
    assert teams == {("data", False): 20, (None, False): 19, (None, True): 1}
    assert {row.group for row in await everything(desk, "node:department")} == {"analytics", None}
    assert {row.group for row in await everything(desk, "node:project")} == {None}
    days = {row.group: row.calls for row in await everything(desk, "day", "globex")}
    assert days == {"2026-11-24": 6, "2026-11-25": 12, "2026-11-26": 12}
    hours = {row.group: row.calls for row in await everything(desk, "hour", "globex")}
    assert hours["2026-11-24T12Z"] == hours["2026-11-26T22Z"] == 1
    assert {row.group: row.calls for row in await everything(desk, "customer")}["globex"] == 30


async def test_a_day_is_that_of_the_admission(desk: Desk) -> None:
    """As budgets count it: a call admitted before midnight and booked after it is of the day before."""
    await desk.service.add_customer("acme", "none", desk.act())
    admitted_at_ms = desk.clock.wall_ms()
    desk.clock.advance(13 * 3600)
    await desk.sync(desk.event("late", Subject("acme"), 5, admitted_at_ms=admitted_at_ms))
    assert [row.group for row in await everything(desk, "day")] == ["2026-11-24"]
    assert [row.group for row in await everything(desk, "hour")] == ["2026-11-24T12Z"]


@pytest.mark.parametrize("size", [1, 7])
async def test_one_customers_calls_over_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Each of them once, also those that were booked at the same instant, and nobody else's."""
    await trade(desk)
    monkeypatch.setattr(summing, "MAX_CALLS_PER_PAGE", size)
    assert sum(row.calls for row in await everything(desk, "session", "acme")) == 40
    assert sum(row.calls for row in await everything(desk, "session", "globex")) == 30
    since_ms = desk.clock.wall_ms()
    assert sum(row.calls for row in await everything(desk, "session", "acme", since_ms)) == 10


async def test_only_what_was_recorded_since(desk: Desk) -> None:
    """As the list of calls has it."""
    await trade(desk)
    since_ms = desk.clock.wall_ms() - DAY_MS
    listed, _ = await desk.service.usage(customer="", since_ms=since_ms, after="", limit=1000)
    assert 0 < len(listed) < 70
    assert sum(row.calls for row in await everything(desk, "hour", since_ms=since_ms)) == len(listed)


async def test_time_is_told_by_each_customers_clocks(desk: Desk) -> None:
    """L37: half past six in the evening (UTC) is tomorrow in Kolkata, and still today for the other customer."""
    for customer, zone in (("acme", "Asia/Kolkata"), ("globex", "UTC")):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_timezone(customer, zone, desk.act())
    desk.clock.advance(6.5 * 3600)
    await desk.sync(desk.event("a", Subject("acme"), 1))
    await desk.sync(desk.event("g", Subject("globex"), 1))
    assert {row.group for row in await everything(desk, "day")} == {"2026-11-25", "2026-11-24"}
    assert [row.group for row in await everything(desk, "hour", "acme")] == ["2026-11-25T00+0530"]
    assert [row.group for row in await everything(desk, "hour", "globex")] == ["2026-11-24T18Z"]
    assert [row.group for row in await everything(desk, "month", "globex")] == ["2026-11"]


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_only_what_was_admitted_in_the_period_that_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """L37: by the customer's calendar and by admission, however late it was booked, and over all pages."""
    monkeypatch.setattr(summing, "MAX_CALLS_PER_PAGE", size)
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_timezone("acme", "Asia/Kolkata", desk.act())
    admitted = ["2026-11-24T18:29", "2026-11-24T18:30", "2026-10-31T18:29", "2026-10-31T18:30", "2026-09-30T18:30"]
    desk.clock.advance(7 * 3600)
    for number, instant in enumerate(admitted):
        event = desk.event(f"r{number}", Subject("acme", PATH), 10**number, admitted_at_ms=ms(instant))
        await desk.sync(event)
    found: dict[str, int] = {}
    for this in summing.THIS:
        cursor = ""
        while True:
            page, cursor = await desk.service.sums(by="team", customer="acme", since_ms=0, after=cursor, this=this)
            found[this] = found.get(this, 0) + sum(row.charge.atoms for row in page if row.charge is not None)
            if not cursor:
                break
    assert found == {"hour": 10, "day": 10, "week": 11, "month": 1011, "quarter": 11_111, "year": 11_111}
    for wrong in ({"this": "fortnight", "customer": "acme"}, {"this": "month", "customer": ""}):
        with pytest.raises(Rejected):
            await desk.service.sums(by="team", since_ms=0, after="", **wrong)


async def test_what_cannot_be_asked(desk: Desk) -> None:
    """A grouping, a cursor and a customer that are none."""
    await desk.service.add_customer("acme", "none", desk.act())
    for by in ("", "request_id", "node:", "node:Team", "facts", "project", "__class__"):
        with pytest.raises(Rejected, match="expected one of"):
            await everything(desk, by)
    for cursor in ("x", "1:2", "1:2:", ":::", "9" * 40 + ":1:acme"):
        with pytest.raises(Rejected, match="earlier page"):
            await desk.service.sums(by="day", customer="", since_ms=0, after=cursor)
    with pytest.raises(NotFound):
        await everything(desk, "day", "nobody")


async def test_a_page_ends_before_a_sum_grows_beyond_any_amount(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers stay such that every reader of JSON can keep them; the pages still hold every call once."""
    charged = await trade(desk)
    monkeypatch.setattr(summing, "MAX_ATOMS", 5000)
    rows = await everything(desk, "provider")
    assert max(row.charge.atoms for row in rows if row.charge is not None) <= 5000
    assert sum(row.charge.atoms for row in rows if row.charge is not None) == charged
    assert sum(row.calls for row in rows) == 70


async def test_leases_of_a_silent_holder(tmp_path: Path) -> None:
    """L46: what a holder that fell silent has of a budget is told until it gives it back."""
    desk = Desk(tmp_path, LedgerOptions(valid_for_ms=60_000))
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", "1", "lifetime"), desk.act())
    reply = await desk.borrow(Subject("acme"), 1000)
    lease = reply.leases[0]
    assert await desk.service.silent_leases() == []
    desk.clock.advance(60 + SLACK_MS / 1000)
    assert await desk.service.silent_leases() == []  # no later than it may be
    desk.clock.advance(0.001)
    (silent,) = await desk.service.silent_leases()
    assert (silent.customer, silent.lease_id, silent.sidecar) == ("acme", lease.lease_id, "s1")
    assert silent.held.atoms == lease.granted_atoms
    await desk.sync(reports=(LeaseReport(lease.lease_id, lease.granted_atoms, closed=True),))
    assert await desk.service.silent_leases() == []
    desk.close()
