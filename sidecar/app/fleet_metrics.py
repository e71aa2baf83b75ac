"""The sidecars of a ledger as Prometheus sees them: read from the book when somebody scrapes, and not more often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from sidecar.ledger.fleet_views import SidecarView
from sidecar.ledger.views import Money
from sidecar.ports import Clock
from sidecar.telemetry.metrics import Metrics

READ_EVERY_S: Final = 5.0
"""However many scrape, the book is asked no more often."""

READ_TIMEOUT_S: Final = 5.0
"""A scrape waits no longer for the book."""

OF_ONE: Final = ("sidecar",)
OF_A_CURRENCY: Final = ("sidecar", "currency")

logger = logging.getLogger(__name__)

Series = Iterable[tuple[tuple[str, ...], float]]


class FleetMetrics:
    """Gauges of each sidecar. While the book cannot be read none is shown: an old value would look like a new one."""

    def __init__(self, listing: Callable[[], Awaitable[Sequence[SidecarView]]], clock: Clock, metrics: Metrics) -> None:
        """`listing` gives the sidecars, `metrics` shows them: at most MAX_SERIES of each gauge, the first by name."""
        self._listing = listing
        self._clock = clock
        self._rows: Sequence[SidecarView] = ()
        self._read_at = float("-inf")
        self._one_reader = asyncio.Lock()
        prefix = "spend_ledger_sidecar"
        metrics.family(f"{prefix}_info", "1 for each sidecar, with its version.", ("sidecar", "version"), self._info)
        metrics.family(f"{prefix}_silent_seconds", "Since it was last heard.", OF_ONE, self._silent_s)
        metrics.family(
            f"{prefix}_outbox_calls", "Settled there and not booked yet, as it said.", OF_ONE,
            lambda: self._said(lambda row: row.outbox_calls),
        )  # fmt: skip
        metrics.family(
            f"{prefix}_outbox_age_seconds", "Age of the oldest of these, as it said.", OF_ONE,
            lambda: self._said(lambda row: None if row.outbox_age_ms is None else row.outbox_age_ms / 1000),
        )  # fmt: skip
        metrics.family(
            f"{prefix}_outbox_bytes", "Its outbox on disk, as it said.", OF_ONE,
            lambda: self._said(lambda row: row.outbox_bytes),
        )  # fmt: skip
        for name, help_text, part in (
            ("held", "Lent to it and neither booked nor given back.", lambda row: row.holds),
            ("quarantined", "Of that, what it may not spend before it is heard.", lambda row: row.quarantined),
            ("unbooked", "Charged there by its own count, and not in the book.", lambda row: row.unbooked),
            ("overbooked", "In the book beyond its own count; if that lasts, a fault.", lambda row: row.overbooked),
        ):
            metrics.family(f"{prefix}_{name}_atoms", help_text, OF_A_CURRENCY, self._amounts(part))

    async def refresh(self) -> None:
        """Read the book, unless that was done a moment ago. Never raises."""
        async with self._one_reader:
            if self._clock.monotonic() - self._read_at < READ_EVERY_S:
                return
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    self._rows = await self._listing()
            except Exception as problem:  # whatever it is, the other metrics are shown
                self._rows = ()
                logger.warning("fleet_not_read", extra={"facts": {"problem": str(problem) or type(problem).__name__}})
            self._read_at = self._clock.monotonic()

    def _info(self) -> Series:
        return [((row.sidecar, row.software or "unknown"), 1) for row in self._rows]

    def _silent_s(self) -> Series:
        now_ms = self._clock.wall_ms()
        heard = [(row.sidecar, row.heard_at_ms) for row in self._rows if row.heard_at_ms is not None]
        return [((sidecar,), max(0, now_ms - at_ms) / 1000) for sidecar, at_ms in heard]

    def _said(self, value: Callable[[SidecarView], float | None]) -> Series:
        said = [(row.sidecar, value(row)) for row in self._rows]
        return [((sidecar,), number) for sidecar, number in said if number is not None]

    def _amounts(self, part: Callable[[SidecarView], Sequence[Money]]) -> Callable[[], Series]:
        """By currency; 0 where a sidecar is known and has nothing of it, so that an alarm ends."""
        return lambda: [
            ((row.sidecar, currency), sum(one.atoms for one in part(row) if one.currency == currency))
            for row in self._rows
            for currency in sorted({one.currency for one in (*row.holds, *row.unbooked, *row.overbooked)})
        ]
