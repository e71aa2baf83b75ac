"""Nothing is borrowed before the ledger knows of this start, or while it lacks calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.lending_gate import LendingGate
from sidecar.contract.messages import Change, RegisterReply, RegisterRequest, SyncRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable, StaleIncarnation
from tests.support.ledger import Desk

ME = RegisterRequest("s1", "s1-inc")


class Known:
    """An `Acquaintance` that a test scripts."""

    def __init__(self, desk: Desk) -> None:
        self.claim = ("", 0)
        self.asked = 0
        self._desk = desk

    async def register(self) -> RegisterReply:
        self.asked += 1
        return await self._desk.service.register(ME)


async def test_it_lends_only_while_it_is_open_and_nothing_is_replayed(tmp_path: Path) -> None:
    """L43, L50a, F-08: reports and changes pass at any time, a loan only then."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    known = Known(desk)
    gate = LendingGate(desk.service, known)
    heard: list[Change] = []
    gate.subscribe(heard.append)
    request = desk.request(Subject("acme"), 0)
    assert (await gate.sync(SyncRequest("s1", "s1-inc", 0))).history_id
    for ask in (gate.resolve(request), gate.register(ME)):
        with pytest.raises(LedgerUnavailable, match="since this start"):
            await ask
    gate.open()
    with pytest.raises(LedgerUnavailable, match="lacks calls"):
        await gate.resolve(request)
    reply = await desk.service.register(ME)
    known.claim = (reply.history_id, reply.heard)
    assert (await gate.resolve(request)).standing is not None
    await desk.service.add_nodes("acme/team:data", desk.act())
    assert len(heard) == 1
    desk.close()


async def test_it_registers_again_only_where_the_ledger_does_not_know_us(tmp_path: Path) -> None:
    """L50a: a book of another history is asked to know us first, and what it answers is held against what we know."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    reply = await desk.service.register(ME)
    known = Known(desk)
    known.claim = (reply.history_id, reply.heard)
    gate = LendingGate(desk.service, known)
    gate.open()
    assert (await gate.register(ME)).history_id == reply.history_id
    assert known.asked == 0
    known.claim = ("history_of_before", 1)
    with pytest.raises(StaleIncarnation, match="history is another"):
        await gate.resolve(desk.request(Subject("acme"), 1))
    assert (await gate.register(ME)).history_id == reply.history_id
    await gate.register(ME)
    assert known.asked == 1
    desk.close()
