"""The sidecars of a ledger as a scrape shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sidecar.app.fleet_metrics import READ_EVERY_S, FleetMetrics
from sidecar.core.credits.amounts import Currency
from sidecar.errors import LedgerUnavailable
from sidecar.ledger.fleet_views import SidecarView
from sidecar.ledger.views import Money, money
from sidecar.telemetry.metrics import Metrics
from tests.support.clock import FakeClock


def usd(atoms: int) -> tuple[Money, ...]:
    return (money(atoms, Currency("usd", 9)),)


class Listing:
    """A ledger's, that counts how often it is asked."""

    def __init__(self, *rows: SidecarView) -> None:
        self.rows = rows
        self.asked = 0
        self.failure: Exception | None = None

    async def __call__(self) -> Sequence[SidecarView]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return self.rows


async def test_each_sidecar_has_its_gauges() -> None:
    """Version, silence, outbox, what it holds, and its drift either way; what is not said is not shown as 0."""
    clock, metrics = FakeClock(), Metrics()
    listing = Listing(
        SidecarView(
            "pod-a", clock.wall_ms() - 12_000, 3, usd(30), 1, usd(6), software="1.2.3", outbox_calls=7,
            outbox_age_ms=1500, outbox_bytes=2048, unbooked=usd(5), overbooked=usd(2),
        ),
        SidecarView("pod-b", None, 1, usd(4)),
    )  # fmt: skip
    await FleetMetrics(listing, clock, metrics).refresh()
    shown = metrics.render().decode().splitlines()
    for line in (
        'spend_ledger_sidecar_info{sidecar="pod-a",version="1.2.3"} 1.0',
        'spend_ledger_sidecar_info{sidecar="pod-b",version="unknown"} 1.0',
        'spend_ledger_sidecar_silent_seconds{sidecar="pod-a"} 12.0',
        'spend_ledger_sidecar_outbox_calls{sidecar="pod-a"} 7.0',
        'spend_ledger_sidecar_outbox_age_seconds{sidecar="pod-a"} 1.5',
        'spend_ledger_sidecar_outbox_bytes{sidecar="pod-a"} 2048.0',
        'spend_ledger_sidecar_held_atoms{currency="usd",sidecar="pod-a"} 30.0',
        'spend_ledger_sidecar_quarantined_atoms{currency="usd",sidecar="pod-a"} 6.0',
        'spend_ledger_sidecar_unbooked_atoms{currency="usd",sidecar="pod-a"} 5.0',
        'spend_ledger_sidecar_overbooked_atoms{currency="usd",sidecar="pod-a"} 2.0',
        'spend_ledger_sidecar_overbooked_atoms{currency="usd",sidecar="pod-b"} 0.0',
    ):
        assert line in shown
    assert not [line for line in shown if "outbox" in line and "pod-b" in line]


async def test_scrapes_ask_the_book_once_in_a_while() -> None:
    """However many scrape at once; and a book that cannot be read shows no sidecar, and fails no scrape."""
    clock, metrics = FakeClock(), Metrics()
    listing = Listing(SidecarView("pod-a", clock.wall_ms(), 3, usd(30)))
    fleet = FleetMetrics(listing, clock, metrics)
    await asyncio.gather(*(fleet.refresh() for _ in range(20)))
    assert listing.asked == 1
    listing.failure = LedgerUnavailable("the database is away")
    clock.advance(READ_EVERY_S)
    await asyncio.gather(*(fleet.refresh() for _ in range(20)))
    assert listing.asked == 2
    assert b"pod-a" not in metrics.render()
    listing.failure = None
    clock.advance(READ_EVERY_S)
    await fleet.refresh()
    assert b"pod-a" in metrics.render()
