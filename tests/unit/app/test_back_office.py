"""One start of a sidecar without a socket; what becomes of it when things go wrong is in `tests/scenarios`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from sidecar.app.back_office import BackOffice
from sidecar.app.system import RandomIds, SystemClock
from sidecar.contract.messages import RegisterRequest, SyncRequest
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.options import KeeperOptions
from sidecar.leases.table import Covered, Uncovered
from sidecar.ledger.administration import NewBudget
from sidecar.outbox.shipper import ShipperOptions
from sidecar.outbox.spool import SpoolOptions
from sidecar.ports import Ledger
from tests.support.ledger import Desk, usd
from tests.support.scripted_ledger import ScriptedLedger

OPTIONS = SpoolOptions(ballast_bytes=0)


def office_over(ledger: Ledger, data: Path, leases: KeeperOptions | None = None) -> BackOffice:
    data.mkdir()
    return BackOffice(
        data,
        ledger,
        clock=SystemClock(),
        ids=RandomIds(),
        outbox=OPTIONS,
        shipping=ShipperOptions(),
        leases=leases or KeeperOptions(),
    )


async def wanted(office: BackOffice) -> Covered | Uncovered:
    return await office.keeper.cover(Subject("acme"), model="m", provider="openai", need_atoms=5, currency="usd")


async def test_what_was_lent_goes_back_with_a_stop(tmp_path: Path) -> None:
    """L43, L46: after a stop in good order nothing is lent, and the start is known to be over."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    office = office_over(desk.ledger, tmp_path / "sidecar")
    await office.start()
    assert office.joined
    covered = await wanted(office)
    assert isinstance(covered, Covered)
    assert covered.held is not None
    office.table.release(covered.held)
    (child,) = (await desk.service.budgets("acme"))[0].children
    assert child.leased.atoms > 0
    await office.give_back()
    await office.close()
    (child,) = (await desk.service.budgets("acme"))[0].children
    assert (child.leased.atoms, child.used.atoms) == (0, 0)
    desk.close()


async def test_nothing_is_lent_before_the_ledger_has_answered(tmp_path: Path) -> None:
    """L50a: a start apart is there at once, and refuses until it is known."""
    ledger = ScriptedLedger(Desk(tmp_path).clock)
    ledger.away = True
    office = office_over(ledger, tmp_path / "sidecar")
    office.start_apart()
    refused = await wanted(office)
    assert isinstance(refused, Uncovered)
    assert refused.reason is Reason.LEDGER_UNAVAILABLE
    assert not office.joined
    await office.give_back()
    await office.close()


async def test_who_is_idle_brings_what_a_lost_book_lacks_as_soon_as_it_is_told(tmp_path: Path) -> None:
    """L50a: nobody is lent anything before it has; so it does not wait for its next word, which is an hour away."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    office = office_over(desk.ledger, tmp_path / "sidecar", replace(KeeperOptions(), refresh_every_s=3600.0))
    await office.start()
    await office.settle_up()
    before = (await desk.service.register(RegisterRequest("s9", "s9-inc"))).history_id
    now = (await desk.service.sync(SyncRequest("s9", "s9-inc", 0, history_id=before, heard=10**6))).history_id
    assert now != before
    async with asyncio.timeout(30):
        while [one.sidecar for one in (await desk.service.learning()).awaited] != ["s9"]:
            await asyncio.sleep(0.02)
    await office.give_back()
    await office.close()
    desk.close()
