"""The ledgers that must agree: on each engine, and reached in each way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sidecar.ledger.options import LedgerOptions
from tests.support.engines import POSTGRES, SQLITE, STUMBLING, book_on
from tests.support.http_ledger import connected, served
from tests.support.ledger import Desk, OverTheWire

WAYS = ["in process", "over the wire", "over HTTP"]


@pytest.fixture(
    params=[(SQLITE, way) for way in WAYS] + [(POSTGRES, WAYS[0]), (POSTGRES, WAYS[2]), (STUMBLING, WAYS[0])],
    ids=lambda param: f"{param[0]}, {param[1]}",
)
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A ledger with an empty book."""
    engine, way = request.param
    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(book_on(engine, tmp_path))
        desk = Desk(book, LedgerOptions(max_new_children_per_hour=3))
        if way == "over the wire":
            desk.ledger = OverTheWire(desk.service)
        elif way == "over HTTP":
            address = await stack.enter_async_context(served(desk.service))
            desk.ledger = await stack.enter_async_context(connected(address))
        yield desk
