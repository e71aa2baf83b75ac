"""Which book this is, and how far it has come: what tells a sidecar that another one stands in its place."""

from __future__ import annotations

import secrets
from typing import Final

from sidecar.core.credits.checkpoints import Head
from sidecar.core.credits.entries import read_body
from sidecar.core.governance.standing import Wallet
from sidecar.ledger.administration import Act
from sidecar.ledger.journal import Journal
from sidecar.ports import Ids, Transaction

SYSTEM: Final = "_system"
"""The book of what belongs to no customer (L7)."""

RESTORED: Final = "book_restored"
"""The kind of the entry, in the ledger's own book, by which a restore renews the history."""

FENCED: Final = "history_fenced"
"""The same, where the ledger noticed by itself that the book has lost something."""


async def lock_system(tx: Transaction) -> None:
    """What comes first in every transaction that writes what belongs to no customer: they come one by one."""
    await tx.fetch_locked("SELECT value FROM meta WHERE name = 'system'")


async def history_id(tx: Transaction, ids: Ids) -> str:
    """The name of this book's history, made when it is first asked for."""
    rows = await tx.fetch("SELECT value FROM meta WHERE name = 'history_id'")
    if not rows:
        await tx.execute(
            "INSERT INTO meta (name, value) VALUES ('history_id', ?) ON CONFLICT (name) DO NOTHING",
            (ids.new("history"),),
        )
        rows = await tx.fetch("SELECT value FROM meta WHERE name = 'history_id'")
    found: str = rows[0]["value"]
    return found


async def known_history(tx: Transaction) -> str:
    """The name of this book's history; `` where nobody has asked for it yet."""
    rows = await tx.fetch("SELECT value FROM meta WHERE name = 'history_id'")
    return rows[0]["value"] if rows else ""


async def cursor_secret(tx: Transaction) -> str:
    """What the cursors of this book's lists are signed with, 64 hex digits; made when it is first asked for."""
    await tx.execute(
        "INSERT INTO meta (name, value) VALUES ('cursor_secret', ?) ON CONFLICT (name) DO NOTHING",
        (secrets.token_hex(32),),
    )
    rows = await tx.fetch("SELECT value FROM meta WHERE name = 'cursor_secret'")
    found: str = rows[0]["value"]
    return found


async def hear(tx: Transaction, sidecar: str) -> int:
    """Count one more message of a sidecar; gives how many there were in this book, this one too.

    A copy of the book that was made before some reply, and put back, counts that reply's number
    again: so a sidecar that keeps the highest number it saw knows that the book has lost something
    (L50a). It must not be committed before what the message brought.
    """
    rows = await tx.fetch(
        "INSERT INTO meta (name, value) VALUES (?, '1')"
        " ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT) RETURNING value",
        (f"heard:{sidecar}",),
    )
    return int(rows[0]["value"])


async def heads_after(tx: Transaction, after: str, limit: int) -> list[Head]:
    """Where each customer's chain stands, by name, of those after one; a chain without an entry is left out."""
    rows = await tx.fetch(
        "SELECT customer, head_sequence, head_hash FROM customers WHERE customer > ? AND head_sequence > 0"
        " ORDER BY customer LIMIT ?",
        (after, limit),
    )
    return [Head(row["customer"], row["head_sequence"], row["head_hash"]) for row in rows]


async def pasts_of(tx: Transaction) -> dict[str, int]:
    """The histories that are over, by a restore or a fence, each with the instant of that, in Unix milliseconds."""
    rows = await tx.fetch(
        "SELECT recorded_at_ms, body FROM entries WHERE customer = ? AND kind IN (?, ?) ORDER BY sequence",
        (SYSTEM, RESTORED, FENCED),
    )
    pasts: dict[str, int] = {}
    for row in rows:
        ended = read_body(row["body"]).facts.get("ended", [])
        pasts.update({str(one): row["recorded_at_ms"] for one in ended} if isinstance(ended, list) else {})
    return pasts


async def renew_history(
    tx: Transaction, ids: Ids, wall_ms: int, act: Act, facts: dict[str, object], *, kind: str = RESTORED
) -> str:
    """Begin another history, by an entry of a kind in the ledger's own book; gives its name (L50a).

    Of the `facts`, `ended` are the histories that are over.
    """
    new = ids.new("history")
    await tx.execute(
        "INSERT INTO meta (name, value) VALUES ('history_id', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (new,),
    )
    journal = await system_journal(tx, wall_ms, act)
    journal.post(kind, actor=act.actor, facts={**facts, "history_id": new})
    await journal.write()
    return new


async def system_journal(tx: Transaction, wall_ms: int, act: Act) -> Journal:
    """The journal of what belongs to no customer, for an act on it. `lock_system` comes before, where others write."""
    journal = await Journal.open(tx, SYSTEM, wall_ms) or await Journal.begin(tx, SYSTEM, Wallet.NONE, wall_ms)
    journal.act = act
    return journal
