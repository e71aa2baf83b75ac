"""A sidecar's share of what cannot be counted together comes with every answer of its ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.app import rate_sharing
from sidecar.app.rate_sharing import CountedLedger, RateSharing
from sidecar.contract.messages import RegisterRequest, SyncRequest
from sidecar.ledger.fleet import NOTE_EVERY_MS
from sidecar.storage.redis_options import RedisOptions
from sidecar.telemetry.metrics import Metrics
from tests.support.clock import FakeClock
from tests.support.ledger import Desk


async def test_its_share_follows_the_ledgers_word(tmp_path: Path) -> None:
    """With `register` and with every sync, as others come."""
    desk = Desk(tmp_path)
    told: list[tuple[int, int]] = []
    ledger = CountedLedger(desk.service, lambda sidecars, rank: told.append((sidecars, rank)), desk.clock)
    await ledger.register(RegisterRequest("s2", "s2-inc"))
    await desk.service.register(RegisterRequest("s1", "s1-inc"))
    desk.clock.advance(NOTE_EVERY_MS / 1000)
    await ledger.sync(SyncRequest("s2", "s2-inc", desk.clock.wall_ms()))
    assert told == [(1, 0), (2, 1)]
    desk.close()


async def test_who_has_nothing_to_say_is_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It registers again, which says nothing new, until it is stopped."""
    monkeypatch.setattr(rate_sharing, "SHARE_EVERY_S", 0.01)
    desk = Desk(tmp_path)
    told: list[tuple[int, int]] = []
    ledger = CountedLedger(desk.service, lambda *share: told.append(share), desk.clock)
    task = asyncio.create_task(ledger.keep_counted(RegisterRequest("s1", "s1-inc")))
    while not told:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told[0] == (1, 0)
    desk.close()


async def test_without_a_redis_nothing_of_it_is_loaded_or_shown() -> None:
    """Its figures are only there where it is: and the library is not imported for nothing."""
    metrics = Metrics()
    alone = RateSharing(FakeClock(), RedisOptions(), incarnation="i", metrics=metrics)
    await alone.run()
    await alone.close()
    text = metrics.render().decode()
    assert "spend_rate_sharers 1.0" in text
    assert "spend_redis" not in text
    shared = RateSharing(FakeClock(), RedisOptions("redis://127.0.0.1:1"), incarnation="i", metrics=metrics)
    assert "spend_redis_open 0.0" in metrics.render().decode()
    await shared.close()
