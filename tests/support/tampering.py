"""A book changed by somebody who may write it: entries rewritten, and the whole chain computed anew."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import asyncpg
import msgspec

from sidecar.core.credits.entries import GENESIS, Entry, body_of, chain, read_body
from sidecar.storage.postgres_sql import numbered

Rewrite = Callable[[list[Entry]], list[Entry]]
Rows = list[tuple[object, ...]]


class Hands(Protocol):
    """Run a statement on the book, with nothing in its way; gives its rows."""

    def __call__(self, sql: str, parameters: Sequence[object] = ()) -> Rows: ...


@contextmanager
def hands_on(book: Path | str) -> Iterator[Hands]:
    """A file, or a database by its URL: what is done there within a block stands after it."""
    if isinstance(book, Path):
        connection = sqlite3.connect(book)
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield lambda sql, parameters=(): connection.execute(sql, parameters).fetchall()
        connection.commit()
        connection.close()
        return
    with ThreadPoolExecutor(1) as thread:  # for who calls this has a loop of its own
        runner = thread.submit(asyncio.Runner).result()

        def run(sql: str, parameters: Sequence[object] = ()) -> Rows:
            rows = thread.submit(lambda: runner.run(shared.fetch(numbered(sql), *parameters))).result()
            return [tuple(row) for row in rows]

        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(book)

        shared = thread.submit(lambda: runner.run(connect())).result()
        run("SET session_replication_role = replica")  # so that no trigger is asked
        yield run
        thread.submit(lambda: runner.run(shared.close())).result()
        thread.submit(runner.close).result()


def rewrite(book: Path | str, customer: str, change: Rewrite) -> None:
    """Put other entries in place of a customer's, numbered and hashed as if they had always been there.

    Balances are not touched: change what moves nothing.
    """
    with hands_on(book) as run:
        _rewrite(run, customer, change)


def _rewrite(run: Hands, customer: str, change: Rewrite) -> None:
    rows = run("SELECT body, calls FROM entries WHERE customer = ? ORDER BY sequence", (customer,))
    before = [read_body(str(body)) for body, _ in rows]
    calls = {entry.sequence: stored for entry, (_, stored) in zip(before, rows, strict=True)}
    run("DELETE FROM entries WHERE customer = ?", (customer,))
    run("DELETE FROM acts WHERE customer = ?", (customer,))
    head = GENESIS
    after = change(list(before))
    for sequence, entry in enumerate(after, start=1):
        written = msgspec.structs.replace(entry, sequence=sequence)
        body = body_of(written)
        head = chain(head, body)
        run(
            "INSERT INTO entries (customer, sequence, kind, entry_key, recorded_at_ms, occurred_at_ms, hash, body,"
            " calls) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                customer,
                sequence,
                entry.kind,
                entry.key or None,
                entry.recorded_at_ms,
                entry.occurred_at_ms,
                head,
                body,
                calls[entry.sequence],
            ),
        )
        if "reason" in entry.facts:
            run(
                "INSERT INTO acts (customer, sequence, actor, recorded_at_ms) VALUES (?, ?, ?, ?)",
                (customer, sequence, entry.actor, entry.recorded_at_ms),
            )
        run("UPDATE calls SET sequence = ? WHERE customer = ? AND sequence = ?", (-sequence, customer, entry.sequence))
    run("UPDATE calls SET sequence = -sequence WHERE customer = ?", (customer,))
    run("UPDATE customers SET head_sequence = ?, head_hash = ? WHERE customer = ?", (len(after), head, customer))


def edited(entries: list[Entry]) -> list[Entry]:
    """The third last says something else."""
    entries[-3] = msgspec.structs.replace(entries[-3], facts={"paths": ["team:another"]})
    return entries


def deleted(entries: list[Entry]) -> list[Entry]:
    """The third last is gone."""
    del entries[-3]
    return entries


def inserted(entries: list[Entry]) -> list[Entry]:
    """One more, before the third last."""
    entries.insert(-3, msgspec.structs.replace(entries[-3], facts={"paths": ["team:another"]}))
    return entries


def reordered(entries: list[Entry]) -> list[Entry]:
    """The third and the fourth last have changed places."""
    entries[-4], entries[-3] = entries[-3], entries[-4]
    return entries


def truncated(entries: list[Entry]) -> list[Entry]:
    """The last two are gone."""
    return entries[:-2]


def forked(entries: list[Entry]) -> list[Entry]:
    """From the third last on another history, as long as the true one and one entry more."""
    others = [msgspec.structs.replace(entry, facts={"paths": ["team:other"]}) for entry in entries[-3:]]
    return [*entries[:-3], *others, others[-1]]


SIX = (edited, deleted, inserted, reordered, truncated, forked)
