"""Near a limit: what open calls hold is out of reach, and nothing else is, however many sidecars there are (L44)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from tests.support.holders import Holder
from tests.support.ledger import Desk, usd

ADA = Subject("acme", user="ada")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger with an empty book."""
    found = Desk(tmp_path)
    yield found
    found.close()


async def test_what_a_lost_sidecar_held_stays_spent(desk: Desk) -> None:
    """F-32, L39, L46: its volume is gone with it: nobody else is ever lent that, and it is shown who held it."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(1000), "lifetime"), desk.act())
    lost, other = Holder(desk, "lost"), Holder(desk, "other")
    open_call = await lost.hold(100, ADA)
    held = sum(lease.granted for lease in lost.table.leases())
    assert held >= 100
    del open_call, lost
    desk.clock.advance(3600)
    spent = 0
    while await other.spend(10, ADA) is not None:
        spent += 10
        desk.clock.advance(1)
    assert 1000 - held - 10 < spent <= 1000 - held
    (silent,) = await desk.service.silent_leases()
    assert (silent.sidecar, silent.held.atoms) == ("lost", held)
    await other.tick()
    assert await desk.problems() == ()
