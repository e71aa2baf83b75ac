"""A ledger that is away is asked by one question at a time, after pauses that grow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.app.one_probe import FAILURES_IN_A_ROW, OneProbe, ProbeOptions
from sidecar.contract.messages import AnySync, RegisterRequest, ResolveKeyRequest, SyncReply, SyncRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable, StaleIncarnation
from tests.support.clock import FakeClock
from tests.support.holders import Cuttable
from tests.support.ledger import Desk
from tests.support.scripted_ledger import ScriptedLedger


async def in_vain(question: Callable[[], Awaitable[object]], times: int) -> None:
    """Ask, and be told that there is no answer."""
    for _ in range(times):
        with pytest.raises(LedgerUnavailable):
            await question()


async def test_a_storm_of_questions_is_one_probe_for_each_pause(tmp_path: Path) -> None:
    """F-04: whoever asks, and however often, in an hour at most a probe for each half of the longest pause."""
    desk = Desk(tmp_path)
    wire = Cuttable(desk.service)
    probe = OneProbe(wire, desk.clock, ProbeOptions(min_pause_s=0.5, max_pause_s=4.0))
    questions: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: probe.register(RegisterRequest("s1", "s1-inc")),
        lambda: probe.resolve(desk.request(Subject("acme"), 1)),
        lambda: probe.resolve_key(ResolveKeyRequest("s1", bytes(32))),
        lambda: probe.sync(SyncRequest("s1", "s1-inc", 0)),
    )
    for question in questions:
        await question()
    wire.away, wire.asked = True, 0
    for _ in range(3600):
        for question in questions:
            await in_vain(question, 3)
        desk.clock.advance(1.0)
    assert 900 <= probe.probes <= 1800
    assert wire.asked == FAILURES_IN_A_ROW + probe.probes
    wire.away = False
    desk.clock.advance(4.0)
    for question in questions:  # back at once, for everybody
        await question()
    assert not probe.is_away
    desk.close()


async def test_one_at_a_time() -> None:
    """F-04: while a probe waits for its answer, nobody else asks, and nobody waits with it; it may be cancelled."""
    clock = FakeClock()
    ledger = ScriptedLedger(clock)
    probe = OneProbe(ledger, clock)
    ledger.away = True
    request = RegisterRequest("s1", "s1-inc")
    await in_vain(lambda: probe.register(request), FAILURES_IN_A_ROW)
    ledger.away, ledger.gate = False, asyncio.Event()
    clock.advance(1.0)
    sync = asyncio.create_task(probe.sync(SyncRequest("s1", "s1-inc", 0)))
    await asyncio.sleep(0)
    await in_vain(lambda: probe.register(request), 10)
    assert (len(ledger.syncs), ledger.registered) == (1, [])
    sync.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sync
    await in_vain(lambda: probe.register(request), 1)  # that was in vain too: a pause, and a longer one
    clock.advance(2.0)
    assert (await probe.register(request)).history_id


async def test_a_no_is_an_answer() -> None:
    """L43: an incarnation that has ended is told so however often it asks."""

    class Refusing(ScriptedLedger):
        async def sync(self, request: AnySync) -> SyncReply:
            await super().sync(request)
            raise StaleIncarnation("it has ended")

    clock = FakeClock()
    ledger = Refusing(clock)
    probe = OneProbe(ledger, clock)
    for _ in range(10):
        with pytest.raises(StaleIncarnation):
            await probe.sync(SyncRequest("s1", "s1-inc", 0))
    assert len(ledger.syncs) == 10


async def test_fleets_do_not_chime() -> None:
    """F-59: two hundred that were cut off at the same instant come back one by one."""
    clock = FakeClock()
    ledger = ScriptedLedger(clock)
    fleet = [OneProbe(ledger, clock) for _ in range(200)]
    ledger.away = True
    request = RegisterRequest("s1", "s1-inc")
    came: list[int] = []
    random.seed(59)
    for tick in range(400):
        for probe in fleet:
            before = probe.probes
            await in_vain(lambda probe=probe: probe.register(request), FAILURES_IN_A_ROW if not tick else 1)  # type: ignore[misc]
            came += [tick] * (probe.probes - before)
        clock.advance(0.05)
    late = [tick for tick in came if 200 <= tick < 280]  # pauses are two to four seconds by now: 40 to 80 ticks
    assert len(late) > 150
    assert max(late.count(tick) for tick in set(late)) <= 20
