"""Leases of sidecars that are not heard any more: listed, written off by their age, resolved by people (L46)."""

from __future__ import annotations

import logging
from functools import partial

import msgspec

from sidecar.ledger import learning
from sidecar.ledger.administration import Act, LeaseResolution
from sidecar.ledger.exposure import check_node, exposure
from sidecar.ledger.fleet_listing import list_sidecars
from sidecar.ledger.fleet_views import ExposureView, LeaseView, SidecarView
from sidecar.ledger.history_desk import HistoryDesk
from sidecar.ledger.ledger_clock import LedgerClock
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.quarantine import silent_leases
from sidecar.ledger.showing import Shower
from sidecar.ledger.views import SilentLeaseView
from sidecar.ledger.write_offs import customers_to_write_off, resolve_lease, unheard_leases, write_off
from sidecar.ports import Book, Ids, Transaction

logger = logging.getLogger(__name__)


class LeaseDesk(HistoryDesk):
    """The part of the ledger that is about what is out; each method is described in `administration.Administration`."""

    def __init__(self, book: Book, clock: LedgerClock, ids: Ids, show: Shower, options: LedgerOptions) -> None:
        super().__init__(book, clock, ids)
        self._show = show
        self._options = options

    async def silent_leases(self, customer: str = "") -> list[SilentLeaseView]:
        """Leases in quarantine."""

        async def work(tx: Transaction) -> list[SilentLeaseView]:
            return await silent_leases(tx, self._show, self._clock.now_ms(), customer)

        return await (self._book.read(customer, work) if customer else self._book.read_everyone(work))

    async def leases(self, customer: str = "") -> list[LeaseView]:
        """Leases whose holder is not heard."""

        async def work(tx: Transaction) -> list[LeaseView]:
            return await unheard_leases(tx, self._show, self._clock.now_ms(), customer)

        return await (self._book.read(customer, work) if customer else self._book.read_everyone(work))

    async def list_sidecars(self) -> list[SidecarView]:
        """The sidecars, and what each holds."""
        return await self._book.read_everyone(lambda tx: list_sidecars(tx, self._show, self._clock.now_ms()))

    async def exposure(
        self, customer: str, *, node: str = "", evenly: bool = False, after: str = "", limit: int = 100
    ) -> list[ExposureView]:
        """What can be spent of a customer without asking."""

        async def work(tx: Transaction) -> list[ExposureView]:
            now_ms = self._clock.now_ms()
            rows = await exposure(tx, self._show, now_ms, customer=customer, node=node, after=after, limit=limit)
            if not rows and not evenly:
                await check_node(tx, customer, node)
            since_ms = (await learning.look(tx)).since_ms
            return [msgspec.structs.replace(row, unknown_since_ms=since_ms) for row in rows] if since_ms else rows

        return await self._book.read(customer, work)

    async def resolve_lease(self, form: LeaseResolution, act: Act) -> LeaseView:
        """Say what became of one."""
        return await self._book.transact(
            form.customer, lambda tx: resolve_lease(tx, self._clock.now_ms(), form, act, self._show)
        )

    async def write_off_silent(self) -> int:
        """Move what has been out for the write-off age without a word to `unaccounted`; gives how many leases."""
        before_ms = self._clock.now_ms() - self._options.write_off_after_ms
        done = 0
        for customer in await self._book.read_everyone(lambda tx: customers_to_write_off(tx, before_ms)):
            done += await self._book.transact(customer, partial(self._write_off, customer))
        if done:
            logger.warning("leases_written_off", extra={"facts": {"leases": done}})
        return done

    async def _write_off(self, customer: str, tx: Transaction) -> int:
        return await write_off(tx, customer, self._clock.now_ms(), self._options.write_off_after_ms)
