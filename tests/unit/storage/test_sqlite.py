"""The embedded book: what shares a commit stands or falls for itself, and each asker hears its own."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from sidecar.errors import LedgerUnavailable
from sidecar.ports import Transaction
from sidecar.storage.sqlite import MAX_GROUP, open_book


async def test_each_of_many_at_once_hears_its_own(tmp_path: Path) -> None:
    """Of several groups, one in three fails: only its own writes are gone, and only its asker is told."""
    book = open_book(tmp_path / "book.db")
    count = 3 * MAX_GROUP

    async def write(tx: Transaction, number: int) -> int:
        await tx.execute("INSERT INTO meta (name, value) VALUES (?, 'x')", (f"n{number}",))
        if number % 3 == 0:
            raise ValueError(number)
        return number

    try:
        works = [book.transact("acme", partial(write, number=n)) for n in range(count)]
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        for number, came in enumerate(outcomes):
            if number % 3 == 0:
                assert isinstance(came, ValueError)
                assert came.args == (number,)
            else:
                assert came == number
        rows = await book.read("acme", lambda tx: tx.fetch("SELECT name FROM meta"))
        assert {row["name"] for row in rows} == {f"n{n}" for n in range(count) if n % 3}
    finally:
        book.close()


async def test_who_has_gone_keeps_nobody_from_hearing(tmp_path: Path) -> None:
    """A cancelled asker's work may still run; the answers of the others in its group arrive."""
    book = open_book(tmp_path / "book.db")

    async def three(tx: Transaction) -> int:
        rows = await tx.fetch("SELECT 3 AS n")
        answer: int = rows[0]["n"]
        return answer

    try:
        tasks = [asyncio.create_task(book.transact("acme", three)) for _ in range(MAX_GROUP)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert await asyncio.gather(*tasks[1:]) == [3] * (MAX_GROUP - 1)
    finally:
        book.close()


async def test_a_full_disk_is_told_and_costs_nothing_that_is_booked(tmp_path: Path) -> None:
    """F-13: what does not fit is refused whole, reads go on, and with room it goes on writing."""
    book = open_book(tmp_path / "book.db")

    async def keep(tx: Transaction, number: int) -> None:
        await tx.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (f"n{number}", "x" * 3000))

    async def kept() -> int:
        rows = await book.read("acme", lambda tx: tx.fetch("SELECT count(*) AS n FROM meta WHERE name LIKE 'n%'"))
        return int(rows[0]["n"])

    try:
        await book.transact("acme", partial(keep, number=0))
        await book.transact("acme", lambda tx: tx.execute("PRAGMA max_page_count = 1"))  # of those that there are
        refused = 0
        for number in range(1, 20):
            try:
                await book.transact("acme", partial(keep, number=number))
            except LedgerUnavailable:
                refused += 1
        assert refused > 10
        assert await kept() == 20 - refused
        await book.transact("acme", lambda tx: tx.execute("PRAGMA max_page_count = 1000000"))
        await book.transact("acme", partial(keep, number=99))
        assert await kept() == 21 - refused
    finally:
        book.close()
