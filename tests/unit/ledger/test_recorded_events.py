"""Of what was recorded, the ledger reads what it needs; what makes no sense loses nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.contract.codec import encode
from sidecar.contract.messages import CustomerPart, RecordedPart, RecordedSync
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.recorded_events import read_events, read_leases
from tests.support.calls import admission, event
from tests.support.ledger import Desk

GOOD = event(admission("r1", 5, budgets=("i/budget:b:lifetime:",)), 5)
BAD = (b"\xc0", b"\x80", encode(GOOD)[:-1], b"\xc1")


def test_recorded_or_not_it_is_read_alike() -> None:
    """The same events, from bytes and from messages; the same id twice is one."""
    raw = msgspec.Raw(encode(GOOD))
    ours, theirs = read_events(RecordedPart("acme", (raw, raw))), read_events(CustomerPart("acme", (GOOD, GOOD)))
    assert [call.raw for call in ours.calls] == [call.raw for call in theirs.calls] == [raw]
    (call,) = ours.calls
    assert (call.event.admission.request_id, call.event.charge_atoms) == ("r1", 5)
    assert read_leases(bytes(call.event.admission.budget_leases)) == GOOD.admission.budget_leases
    assert (ours.customers, ours.unreadable) == ({"acme"}, 0)


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_event_is_counted(bad: bytes) -> None:
    """Wherever it stands among others."""
    good, other = msgspec.Raw(encode(GOOD)), msgspec.Raw(encode(event(admission("r2"), 1)))
    found = read_events(RecordedPart("acme", (msgspec.Raw(bad), good, msgspec.Raw(bad), other)))
    assert ([call.event.admission.request_id for call in found.calls], found.unreadable) == (["r1", "r2"], 2)


async def test_the_others_are_booked_and_it_is_told(tmp_path: Path) -> None:
    """L29: nothing else is lost, and nothing is asked for again."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    good = msgspec.Raw(encode(desk.event("r1", Subject("acme"), 5)))
    part = RecordedPart("acme", (msgspec.Raw(b"\xc0"), good))
    (reply,) = (await desk.service.sync(RecordedSync("s1", "s1-inc", desk.clock.wall_ms(), (part,)))).parts
    assert (reply.booked, reply.error) == (True, "1 events make no sense")
    assert [row.request_id for row in (await desk.service.usage(customer="", since_ms=0, after="", limit=9))[0]] == [
        "r1"
    ]
    assert await desk.problems() == ()
    desk.close()
