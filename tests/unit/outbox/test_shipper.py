"""The shipper: everything reaches the ledger, is booked once, and nothing that is refused is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sidecar.contract.messages import MAX_EVENTS_PER_SYNC, AnyPart, LeaseReport, PartReply, RegisterRequest
from sidecar.errors import LedgerUnavailable
from sidecar.outbox.cursor import Cursor
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.shipper import MAX_REFUSALS, Shipper, ShipperOptions
from sidecar.outbox.spool import Spool, SpoolOptions
from tests.support.calls import admission, event
from tests.support.clock import FakeClock
from tests.support.scripted_ledger import AccountBook, CustomerBook, Lent, ScriptedLedger

QUICK = ShipperOptions(ship_every_s=0.01, sync_timeout_s=1.0, min_backoff_s=0.001, max_backoff_s=0.002)
BUDGET = "budget:b:lifetime:"


class Depot:
    """A spool, a ledger and the shipper between them."""

    def __init__(self, directory: Path, ledger: ScriptedLedger | None = None, incarnation: str = "i1") -> None:
        self.clock = FakeClock()
        self.ledger = ledger or ScriptedLedger(self.clock)
        for name in ("acme", "other"):
            book = CustomerBook(accounts={BUDGET: AccountBook(10**6, leases={f"i1/{BUDGET}": Lent(10**6)})})
            self.ledger.customers.setdefault(name, book)
        options = SpoolOptions(ballast_bytes=0, segment_bytes=64 * 1024)
        self.spool: Spool = open_spool(directory, self.clock, options, sidecar="s", incarnation=incarnation).spool
        self.shipper = Shipper(self.ledger, self.spool, self.clock, QUICK)

    def call(self, name: str, charge: int = 1, customer: str = "acme") -> None:
        admitted = admission(name, 10, customer=customer, budgets=(f"i1/{BUDGET}",))
        self.spool.admit(admitted)
        self.spool.settle(event(admitted, charge))

    def die(self) -> None:
        self.spool._lock.release()


class Reports:
    """`LeaseReports` of one lease."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[LeaseReport]] = {"acme": [LeaseReport(f"i1/{BUDGET}", 7)]}
        self.answers: list[tuple[AnyPart, PartReply, float]] = []
        self.misses = 0

    def declare(self) -> None:
        self.declared = 0

    @property
    def is_declared(self) -> bool:
        return True

    @property
    def has_due(self) -> bool:
        return bool(self.waiting)

    def revision(self, customer: str) -> int:
        return len(customer)

    def due(self) -> Mapping[str, Sequence[LeaseReport]]:
        due, self.waiting = self.waiting, {}
        return due

    def heard(self, part: AnyPart, reply: PartReply, sent_at: float) -> None:
        self.answers.append((part, reply, sent_at))

    def missed(self) -> None:
        self.misses += 1


async def test_everything_is_booked_in_bounded_batches(tmp_path: Path) -> None:
    """More than one sync may carry, over several segments; afterwards nothing waits."""
    depot = Depot(tmp_path)
    count = 2 * MAX_EVENTS_PER_SYNC + 10
    for number in range(count):
        depot.call(f"r{number}", customer="acme" if number % 2 else "other")
    assert depot.shipper.depth == count
    depot.clock.advance(3.0)
    assert depot.shipper.age_s == 3.0
    assert await depot.shipper.flush(10.0)
    assert len(depot.ledger.booked) == count
    assert [sum(len(part.events) for part in sync.parts) for sync in depot.ledger.syncs] == [512, 512, 10]
    assert (depot.shipper.depth, depot.shipper.age_s) == (0, 0.0)
    assert depot.shipper.booked_before == depot.clock.monotonic()
    assert depot.spool.number > 3


async def test_each_message_says_how_the_sidecar_is(tmp_path: Path) -> None:
    """Its version, and what waits in the outbox as the message goes out, that of the message among it."""
    depot = Depot(tmp_path)
    shipper = Shipper(depot.ledger, depot.spool, depot.clock, QUICK, software="1.2.3")
    for number in range(3):
        depot.call(f"r{number}")
    depot.clock.advance(2.5)
    await shipper.register()
    assert await shipper.flush(10.0)
    shipper.beat()
    await shipper.sync_once()
    said = [depot.ledger.registers[-1].state, *(sync.state for sync in depot.ledger.syncs)]
    assert [(one.software, one.outbox_calls, one.outbox_age_ms) for one in said if one is not None] == [
        ("1.2.3", 3, 2500),
        ("1.2.3", 3, 2500),
        ("1.2.3", 0, 0),
    ]
    assert all(one is not None and one.outbox_bytes == depot.spool.total_bytes > 0 for one in said)


async def test_a_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    """L29: sent twice, booked once."""
    depot = Depot(tmp_path)
    depot.call("r1", 5)
    depot.ledger.lose_replies = 2
    assert await depot.shipper.flush(10.0)
    assert len(depot.ledger.syncs) == 3
    assert depot.ledger.customers["acme"].accounts[BUDGET].used == 5


async def test_a_restart_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    """What was acknowledged is not sent again; what was not, is, and only that counts as waiting."""
    depot = Depot(tmp_path)
    for number in range(3):
        depot.call(f"r{number}")
    assert await depot.shipper.flush(10.0)
    depot.call("r3")
    depot.die()
    again = Depot(tmp_path, depot.ledger, "i2")
    assert again.shipper.depth == 1
    assert await again.shipper.flush(10.0)
    assert [e.admission.request_id for e in depot.ledger.syncs[-1].parts[0].events] == ["r3"]


@pytest.mark.parametrize("contents", [None, b"", b"{", b'{"position": 3}'])
async def test_a_lost_cursor_sends_everything_again(tmp_path: Path, contents: bytes | None) -> None:
    """L29: the ledger books each once, whatever became of the cursor's file."""
    depot = Depot(tmp_path)
    depot.call("r0", 5)
    assert await depot.shipper.flush(10.0)
    depot.die()
    path = tmp_path / "cursor.json"
    if contents is None:
        path.unlink()
    else:
        path.write_bytes(contents)
    again = Depot(tmp_path, depot.ledger, "i2")
    assert again.shipper.depth == 1
    assert await again.shipper.flush(10.0)
    assert depot.ledger.customers["acme"].accounts[BUDGET].used == 5


async def test_a_replaced_book_gets_everything_that_is_kept(tmp_path: Path) -> None:
    """L50a: another history is another book; it books what it lacks."""
    depot = Depot(tmp_path)
    for number in range(5):
        depot.call(f"r{number}")
    assert await depot.shipper.flush(10.0)
    depot.ledger.booked.clear()
    depot.ledger.history_id = "history_2"
    depot.call("r5")
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {f"r{number}" for number in range(6)}
    assert depot.shipper.depth == 0


@pytest.mark.parametrize("at_start", [True, False])
async def test_a_book_put_back_gets_everything_that_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, at_start: bool
) -> None:
    """L50a, F-18, F-06: an earlier copy has the same history, and has heard less of us than it once told."""
    depot = Depot(tmp_path)
    depot.call("r0")
    assert await depot.shipper.flush(10.0)
    backup = depot.ledger.heard
    for number in range(1, 5):
        depot.call(f"r{number}")
        assert await depot.shipper.flush(10.0)
    assert not depot.shipper.is_replaying
    depot.ledger.booked = {"r0": depot.ledger.booked["r0"]}
    depot.ledger.heard = backup
    if at_start:
        depot.die()
        depot = Depot(tmp_path, depot.ledger, "i2")
        depot.shipper.registered(await depot.ledger.register(RegisterRequest("s", "i2")))
        assert depot.shipper.is_replaying
        assert depot.shipper.depth == 5
    else:
        depot.call("r5")
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) >= {f"r{number}" for number in range(5)}
    assert not depot.shipper.is_replaying
    assert depot.shipper.depth == 0
    assert caplog.text.count("book_rolled_back") == 1


async def test_a_replay_is_not_forgotten(tmp_path: Path) -> None:
    """L50a: a start in the middle of it goes on with it, though the book now looks as it did at the last one."""
    depot = Depot(tmp_path)
    for number in range(2):
        depot.call(f"r{number}")
        assert await depot.shipper.flush(10.0)
    depot.die()
    depot.ledger.booked.clear()
    depot.ledger.heard = 0
    for incarnation in ("i2", "i3"):
        depot = Depot(tmp_path, depot.ledger, incarnation)
        depot.shipper.registered(await depot.ledger.register(RegisterRequest("s", incarnation)))
        assert depot.shipper.is_replaying
        depot.die()
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r0", "r1"}
    depot.die()
    assert not Depot(tmp_path, depot.ledger, "i4").shipper.is_replaying


async def test_a_replay_does_not_wait_for_what_is_refused(tmp_path: Path) -> None:
    """L50a: a book from before a customer was made books the others; what it does not know is kept aside."""
    depot = Depot(tmp_path)
    for name in ("r0", "bad", "r1"):
        depot.call(name, customer="other" if name == "bad" else "acme")
        assert await depot.shipper.flush(10.0)
    depot.die()
    depot.ledger.booked.clear()
    depot.ledger.heard = 0
    depot.ledger.refuse_events = "bad"
    again = Depot(tmp_path, depot.ledger, "i2")
    again.shipper.registered(await depot.ledger.register(RegisterRequest("s", "i2")))
    before = len(depot.ledger.syncs)
    assert await again.shipper.flush(10.0)
    assert len(depot.ledger.syncs) == before + 1
    assert set(depot.ledger.booked) == {"r0", "r1"}
    assert again.shipper.refused == 1
    assert not again.shipper.is_replaying


async def test_a_start_is_no_replay(tmp_path: Path) -> None:
    """The same book has heard more than it told: nothing is sent twice, and nobody is alarmed."""
    depot = Depot(tmp_path)
    depot.call("r0")
    assert await depot.shipper.flush(10.0)
    assert await depot.shipper.end()
    depot.die()
    again = Depot(tmp_path, depot.ledger, "i2")
    again.shipper.registered(await depot.ledger.register(RegisterRequest("s", "i2")))
    assert not again.shipper.is_replaying
    before = len(depot.ledger.syncs)
    assert await again.shipper.flush(10.0)
    assert len(depot.ledger.syncs) == before


async def test_refused_events_concern_their_own_incarnation(tmp_path: Path) -> None:
    """What is kept aside withholds the leases that it may be on, and no others; what cannot be read, all."""
    depot = Depot(tmp_path)
    depot.call("bad")
    depot.ledger.refuse_events = "bad"
    assert await depot.shipper.flush(10.0)
    assert depot.shipper.has_refused("i1")
    assert not depot.shipper.has_refused("i2")
    (tmp_path / "refused" / "1-x.seg").write_bytes(b"damage")
    assert depot.shipper.has_refused("i2")


async def test_an_empty_folder_withholds_nothing(tmp_path: Path) -> None:
    """What was once refused and is dealt with keeps no lease."""
    (tmp_path / "refused").mkdir()
    depot = Depot(tmp_path)
    assert not depot.shipper.has_refused("i1")
    assert await depot.shipper.end()
    assert depot.ledger.syncs[-1].all_booked


async def test_what_the_ledger_will_not_book_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost and nothing waits behind it for ever: bounded tries, then a file of its own, loudly."""
    depot = Depot(tmp_path)
    depot.call("r1")
    depot.call("bad", customer="other")
    depot.ledger.refuse_events = "bad"
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r1"}
    assert len(depot.ledger.syncs) == MAX_REFUSALS
    assert depot.shipper.refused == 1
    assert "events_put_aside" in caplog.text
    aside = list((tmp_path / "refused").iterdir())
    assert len(aside) == 1
    assert b"bad" in aside[0].read_bytes()
    depot.call("r2")
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r1", "r2"}


async def test_reports_travel_with_the_events(tmp_path: Path) -> None:
    """One part per customer, and its answer goes to the keeper with the instant of sending."""
    depot, reports = Depot(tmp_path), Reports()
    depot.shipper.attach(reports)
    depot.call("r1")
    assert await depot.shipper.flush(10.0)
    assert len(depot.ledger.syncs) == 1
    (part,) = depot.ledger.syncs[0].parts
    assert (len(part.events), part.leases) == (1, (LeaseReport(f"i1/{BUDGET}", 7),))
    assert [(one.customer, reply.booked, at) for one, reply, at in reports.answers] == [("acme", True, 1000.0)]
    assert depot.ledger.customers["acme"].accounts[BUDGET].leases[f"i1/{BUDGET}"].returned == 7


async def test_an_outage_is_told_and_survived(tmp_path: Path) -> None:
    """Flushing fails in time, the records stay, and go out once the ledger is back."""
    depot, reports = Depot(tmp_path), Reports()
    depot.shipper.attach(reports)
    depot.call("r1")
    depot.ledger.away = True
    assert not await depot.shipper.flush(0.02)
    assert reports.misses > 0
    with pytest.raises(LedgerUnavailable):
        await depot.shipper.sync_once()
    assert depot.shipper.depth == 1
    depot.ledger.away = False
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r1"}


async def test_it_ships_by_itself(tmp_path: Path) -> None:
    """A settlement goes out a moment after it was written; a wake-up sends reports at once; outages are retried."""
    depot, reports = Depot(tmp_path), Reports()
    running = asyncio.create_task(depot.shipper.run())
    async with asyncio.timeout(10):
        depot.call("r1")
        while "r1" not in depot.ledger.booked:
            await asyncio.sleep(0.001)
        depot.ledger.away = True
        depot.call("r2")
        while len(depot.ledger.syncs) < 4:
            await asyncio.sleep(0.001)
        depot.ledger.away = False
        while "r2" not in depot.ledger.booked:
            await asyncio.sleep(0.001)
        depot.shipper.attach(reports)
        depot.shipper.wake()
        while not reports.answers:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_end_of_an_incarnation_is_told(tmp_path: Path) -> None:
    """L43: after it, nothing is lent to it."""
    depot = Depot(tmp_path)
    assert await depot.shipper.end()
    assert depot.ledger.ended == ["i1"]
    depot.ledger.away = True
    assert not await depot.shipper.end()


async def test_damage_between_records_does_not_stop_shipping(tmp_path: Path) -> None:
    """F-43: the good records before and behind it go out."""
    depot = Depot(tmp_path)
    depot.call("r0")
    at = depot.spool.size
    depot.call("r1")
    end = depot.spool.size
    depot.call("r2")
    path = tmp_path / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[(at + end) // 2 : (at + end) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    assert await depot.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r0", "r2"}
    assert Cursor(tmp_path).position.offset == depot.spool.size


async def test_what_waits_in_full_batches_is_not_held_back(tmp_path: Path) -> None:
    """Gathering is for a batch that could still grow: a backlog of several goes out without a pause between."""
    depot = Depot(tmp_path)
    slow = ShipperOptions(ship_every_s=60.0, sync_timeout_s=1.0)
    depot.shipper = Shipper(depot.ledger, depot.spool, depot.clock, slow)
    for number in range(2 * MAX_EVENTS_PER_SYNC + 1):
        depot.call(f"r{number}")
    running = asyncio.create_task(depot.shipper.run())
    async with asyncio.timeout(10):
        depot.shipper.wake()
        while depot.shipper.depth:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(depot.ledger.booked) == 2 * MAX_EVENTS_PER_SYNC + 1


async def test_what_settles_while_the_ledger_answers_is_shipped_by_itself(tmp_path: Path) -> None:
    """The one that finds others under way wakes nobody; it must not wait for a refresh that may never come."""
    depot = Depot(tmp_path)
    running = asyncio.create_task(depot.shipper.run())
    async with asyncio.timeout(10):
        for number in range(3):
            depot.ledger.gate = asyncio.Event()
            depot.call(f"first{number}")
            syncs = len(depot.ledger.syncs)
            while len(depot.ledger.syncs) == syncs:
                await asyncio.sleep(0.001)
            depot.call(f"meanwhile{number}")
            assert depot.shipper.depth == 2
            depot.ledger.gate.set()
            while f"meanwhile{number}" not in depot.ledger.booked:
                await asyncio.sleep(0.001)
            while depot.shipper.depth:
                await asyncio.sleep(0.001)
    assert depot.shipper.age_s == 0.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_count_that_is_wrong_does_not_put_the_sender_to_sleep(tmp_path: Path) -> None:
    """What is counted as waiting and is not there ends with the next look; the next settlement wakes the sender."""
    depot = Depot(tmp_path)
    depot.call("r1")
    depot.shipper.depth += 1
    assert await depot.shipper.flush(10.0)
    assert (depot.shipper.depth, depot.shipper.age_s) == (0, 0.0)
    depot.shipper._count_waiting(3)
    assert not await depot.shipper.sync_once()
    assert (depot.shipper.depth, depot.shipper.age_s) == (0, 0.0)
    running = asyncio.create_task(depot.shipper.run())
    async with asyncio.timeout(10):
        await asyncio.sleep(0.02)
        depot.call("r2")
        while "r2" not in depot.ledger.booked:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_sends_as_much_and_as_soon_as_the_ledger_asks_for(tmp_path: Path) -> None:
    """F-59: settlements keep the window and the pause; what is wanted or given back goes at once."""
    depot, reports = Depot(tmp_path), Reports()
    for number in range(100):
        depot.call(f"r{number}")
    depot.shipper.attach(reports)
    depot.ledger.window_events, depot.ledger.pause_ms = 30, 4000
    reports.waiting = {}
    depot.shipper._window = 10  # the first sync of all is of any size: not here
    assert await depot.shipper.sync_once(paced=True)
    assert len(depot.ledger.booked) == 10
    for _ in range(3):
        assert await depot.shipper.sync_once(paced=True)
    assert len(depot.ledger.syncs) == 1
    reports.waiting = {"acme": [LeaseReport(f"i1/{BUDGET}", 7)]}
    assert await depot.shipper.sync_once(paced=True)
    assert [len(part.events) for sync in depot.ledger.syncs for part in sync.parts] == [10, 0]
    assert (depot.shipper.depth, len(reports.answers)) == (90, 2)
    depot.clock.advance(6.0)
    assert await depot.shipper.sync_once(paced=True)
    assert len(depot.ledger.booked) == 40
    assert await depot.shipper.flush(10.0)  # a stop does not wait
    assert (len(depot.ledger.booked), depot.shipper.depth) == (100, 0)


async def test_a_window_that_makes_no_sense_stops_nothing(tmp_path: Path) -> None:
    """F-05: less than one settlement, a pause without end."""
    depot = Depot(tmp_path)
    depot.ledger.window_events, depot.ledger.pause_ms = -7, 10**15
    for number in range(3):
        depot.call(f"r{number}")
    depot.shipper._window = 1
    for _ in range(3):
        await depot.shipper.sync_once(paced=True)
        depot.clock.advance(15.0)
    assert len(depot.ledger.booked) == 3
