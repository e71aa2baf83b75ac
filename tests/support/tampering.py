"""A book changed by somebody who may write its file: entries rewritten, and the whole chain computed anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidecar.core.credits.entries import GENESIS, Entry, body_of, chain, read_body

Rewrite = Callable[[list[Entry]], list[Entry]]


def rewrite(book: Path, customer: str, change: Rewrite) -> None:
    """Put other entries in place of a customer's, numbered and hashed as if they had always been there.

    Balances are not touched: change what moves nothing.
    """
    connection = sqlite3.connect(book)
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    rows = connection.execute(
        "SELECT body, calls FROM entries WHERE customer = ? ORDER BY sequence", (customer,)
    ).fetchall()
    before = [read_body(body) for body, _ in rows]
    calls = {entry.sequence: stored for entry, (_, stored) in zip(before, rows, strict=True)}
    connection.execute("DELETE FROM entries WHERE customer = ?", (customer,))
    connection.execute("DELETE FROM acts WHERE customer = ?", (customer,))
    head = GENESIS
    after = change(list(before))
    for sequence, entry in enumerate(after, start=1):
        written = msgspec.structs.replace(entry, sequence=sequence)
        body = body_of(written)
        head = chain(head, body)
        connection.execute(
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
            connection.execute(
                "INSERT INTO acts (customer, sequence, actor, recorded_at_ms) VALUES (?, ?, ?, ?)",
                (customer, sequence, entry.actor, entry.recorded_at_ms),
            )
        connection.execute(
            "UPDATE calls SET sequence = ? WHERE customer = ? AND sequence = ?", (-sequence, customer, entry.sequence)
        )
    connection.execute("UPDATE calls SET sequence = -sequence WHERE customer = ?", (customer,))
    connection.execute(
        "UPDATE customers SET head_sequence = ?, head_hash = ? WHERE customer = ?", (len(after), head, customer)
    )
    connection.commit()
    connection.close()


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
