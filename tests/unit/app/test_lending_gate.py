"""Nothing is borrowed before the ledger knows of this start, or while it lacks calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.lending_gate import LendingGate
from sidecar.contract.messages import Change, RegisterRequest, SyncRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from tests.support.ledger import Desk


async def test_it_lends_only_while_it_is_open_and_nothing_is_replayed(tmp_path: Path) -> None:
    """L43, L50a, F-08: reports and changes pass at any time, a loan only then."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    replaying = True
    gate = LendingGate(desk.service, lambda: replaying)
    heard: list[Change] = []
    gate.subscribe(heard.append)
    request = desk.request(Subject("acme"), 0)
    assert (await gate.register(RegisterRequest("s1", "s1-inc"))).history_id
    assert (await gate.sync(SyncRequest("s1", "s1-inc", 0))).history_id
    with pytest.raises(LedgerUnavailable, match="since this start"):
        await gate.resolve(request)
    gate.open()
    with pytest.raises(LedgerUnavailable, match="lacks calls"):
        await gate.resolve(request)
    replaying = False
    assert (await gate.resolve(request)).standing is not None
    await desk.service.add_nodes("acme/team:data", desk.act())
    assert len(heard) == 1
    desk.close()
