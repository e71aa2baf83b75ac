"""What a call's story is read from, and what is read where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.errors import NotFound
from sidecar.ledger.reading import Reader
from sidecar.ledger.usage_reading import FoundCall
from sidecar.ledger.views import ExplainView
from sidecar.ports import Row
from tests.support.ledger import RATES, Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """An embedded book."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


async def test_a_call_that_is_not_there_is_looked_for_as_long(desk: Desk) -> None:
    """S-34: where not every call is the asker's, another one is read in its place, and nothing of it is told."""
    await desk.service.add_customer("acme", "none", desk.act())
    for number in range(3):
        await desk.sync(*(desk.event(f"r{number}-{n}", Subject("acme"), 5) for n in range(4)))
    read: list[str] = []

    class Watching(Reader):
        def _explained(self, request_id: str, call: FoundCall, row: Row) -> ExplainView:
            read.append(call.read().facts.request_id)
            return super()._explained(request_id, call, row)

    reader = Watching(RATES, "usd")
    for evenly in (True, False):
        with pytest.raises(NotFound, match="nobody"):
            await desk.book.read("acme", lambda tx, evenly=evenly: reader.explain(tx, "nobody", "acme", evenly=evenly))  # type: ignore[misc]
        assert len(read) == 1
    view = await desk.book.read("acme", lambda tx: reader.explain(tx, "r1-2", "acme", evenly=True))
    assert (view.request_id, read[1:]) == ("r1-2", ["r1-2"])
    with pytest.raises(NotFound):
        await desk.service.explain("r1-2", "globex", evenly=True)
