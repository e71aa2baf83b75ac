"""Two ledger processes on one book: what one does, those who listen at the other hear."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from sidecar.contract.messages import Change
from sidecar.errors import LedgerUnavailable
from sidecar.ledger import watching
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.service import LedgerService
from sidecar.ledger.watching import BookWatch
from tests.support.ledger import RATES, Desk


async def test_what_another_process_changes_is_heard_here(tmp_path: Path) -> None:
    """L35: a change, and a customer that is new; each once, and nothing of before."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    other = LedgerService(desk.book, desk.clock, desk.ids, RATES, LedgerOptions())
    heard: list[Change] = []
    other.subscribe(heard.append)
    watch = other.watch(desk.clock.monotonic)
    await watch.look_once()
    assert heard == []
    await desk.service.add_nodes("acme/team:data", desk.act())
    await desk.service.add_customer("umbrella", "none", desk.act())
    await watch.look_once()
    await watch.look_once()
    assert [change.customer for change in heard] == ["acme", "umbrella"]
    desk.close()


async def test_whoever_wakes_it_lets_it_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint shortens the wait, however many there are no more often than it may; what is told by it is marked so."""
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 3600)
    book, looks = {"acme": 1}, 0
    heard: list[tuple[Change, bool]] = []

    async def look() -> dict[str, int]:
        nonlocal looks
        looks += 1
        return dict(book)

    watch = BookWatch(look, lambda change: heard.append((change, watch.telling)), lambda: 0.0)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    book["acme"] = 2
    for _ in range(100):
        watch.wake()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if heard:
            break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert heard == [(Change("acme", 2), True)]
    assert not watch.telling
    assert looks <= 3


async def test_a_book_that_cannot_be_read_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what moved meanwhile is told then."""
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0)
    books: list[dict[str, int] | None] = [{"acme": 1}, None, {"acme": 2}]
    heard: list[Change] = []
    done = asyncio.Event()

    async def look() -> dict[str, int]:
        if not books:
            done.set()
            await asyncio.sleep(3600)
        book = books.pop(0)
        if book is None:
            raise LedgerUnavailable("away")
        return book

    task = asyncio.create_task(BookWatch(look, heard.append, lambda: 0.0).run())
    await done.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert heard == [Change("acme", 2)]
