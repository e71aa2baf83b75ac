"""Booking many calls at once comes to the same as booking each by itself (L12, L17, L29)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.contract.codec import encode
from sidecar.contract.messages import LeaseReport, RecordedPart, RecordedSync, UsageEvent
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.administration import NewBudget, NewGrant
from tests.support.ledger import Desk, usd

TEAM = parse_path("team:data")
SUBJECTS = (Subject("acme", TEAM, user="ada"), Subject("acme"), Subject("acme", parse_path("team:none")))


class Call(msgspec.Struct, frozen=True):
    """One call: who, for how much, how much of it each of two grants' leases paid, and what else is odd.

    `whole`: the first grant's lease paid for all of it, as nearly always.
    """

    subject: int
    charge: int | None
    whole: bool
    first: int
    second: int
    budgets: bool
    unknown: bool


CALLS = st.lists(
    st.builds(
        Call,
        subject=st.sampled_from([0, 0, 0, 1, 2]),
        charge=st.sampled_from([5, 5, 20, 40, 0, None, -1, 2**60]),
        whole=st.sampled_from([True, True, False]),
        first=st.sampled_from([0, 1, 5, 5, 40]),
        second=st.sampled_from([0, 0, 0, 5]),
        budgets=st.sampled_from([True, True, True, False]),
        unknown=st.sampled_from([False, False, False, False, True]),
    ),
    min_size=1,
    max_size=12,
)


async def history(desk: Desk, calls: Sequence[Call], wallet: str, *, together: bool, close: bool) -> list[object]:
    """Everything the book says in the end, the entries' numbers and hashes apart."""
    await desk.service.add_customer("acme", wallet, desk.act())
    await desk.service.add_nodes("acme/team:data", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(120), "day"), desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(30), "month", each="user", hard=False), desk.act())
    if wallet == "required":
        for amount in (60, 50):
            await desk.service.add_grant(NewGrant("acme", usd(amount)), desk.act())
    leases = [lease.lease_id for lease in (await desk.borrow(SUBJECTS[0], 70)).leases]
    budgets = tuple(one for one in leases if "budget:" in one)
    grants = [one for one in leases if "grant:" in one]
    if close:
        await desk.sync(reports=(LeaseReport(budgets[0], 0, closed=True),))
    events = [event_of(desk, number, call, budgets, grants) for number, call in enumerate(calls)]
    for some in [events] if together else [[one] for one in events]:
        part = RecordedPart("acme", tuple(msgspec.Raw(encode(one)) for one in some))
        (reply,) = (await desk.service.sync(RecordedSync("s1", "s1-inc", desk.clock.wall_ms(), (part,)))).parts
        assert (reply.error, reply.booked) == ("", True)
    assert await desk.problems() == ()
    usage, _ = await desk.service.usage(customer="acme", since_ms=0, after="", limit=1000)
    told = [msgspec.structs.replace(one, sequence=0) for one in usage]
    legs = [sorted(explained_legs(await desk.service.explain(one.request_id))) for one in usage]
    alerts, _ = await desk.service.entries("acme", after=0, kind="threshold_crossed", limit=99)
    return [
        await desk.service.balance("acme"),
        sorted(told, key=lambda one: one.request_id),
        legs,
        sorted({alert.key for alert in alerts}),
    ]


def event_of(desk: Desk, number: int, call: Call, budgets: tuple[str, ...], grants: Sequence[str]) -> UsageEvent:
    """A settled call as the wire would bring it."""
    if call.whole and call.charge is not None and 0 <= call.charge < 2**60:
        legs = zip(grants, (call.charge,), strict=False)
    else:
        legs = zip(grants, (call.first, call.second), strict=False)
    paid = tuple((lease, atoms) for lease, atoms in legs if atoms)
    leases = (budgets if call.budgets else ()) + (("s1-inc/budget:who:lifetime:",) if call.unknown else ())
    settled = desk.event(f"r{number:02}", SUBJECTS[call.subject], 0, leases=leases)
    return msgspec.structs.replace(settled, charge_atoms=call.charge, paid=paid)


def explained_legs(view: object) -> list[tuple[str, str, int]]:
    """What a call moved, but for the limits of its budgets: an entry of one call brings them up to date as well."""
    legs = getattr(view, "legs")  # noqa: B009
    return [(leg.account, leg.bucket, leg.atoms) for leg in legs]


@settings(max_examples=60, deadline=None)
@given(CALLS, st.sampled_from(["required", "none"]), st.booleans())
def test_together_or_one_by_one(calls: list[Call], wallet: str, close: bool) -> None:
    """Balances, debt, flags, what each call moved, alerts: all the same, whatever was odd about which of them."""

    async def both() -> tuple[list[object], list[object]]:
        found = []
        for together in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                desk = Desk(Path(folder))
                try:
                    found.append(await history(desk, calls, wallet, together=together, close=close))
                finally:
                    desk.close()
        return found[0], found[1]

    ours, theirs = asyncio.run(both())
    assert ours == theirs
