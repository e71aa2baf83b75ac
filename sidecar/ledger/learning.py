"""After the book has lost something nothing is lent before every holder has told what it knows (L50a).

What was lent and spent in the span that is lost stands nowhere but with the sidecars: their outboxes have the calls,
their tables the leases. Whoever lends before all of them have spoken may lend a second time what is out already.
So no timer ends this, nor a first word from everybody: a holder is waited for until it has said that all it
keeps is here, which takes it as many messages as it takes. A holder that will never speak again is given
up by a person, who is named.

A loss shows itself in three ways: the book is restored, which renews its history; a sidecar was told more answers
than the book has counted, or knows a history that the book does not; or one holds more than the book says it
lent. The ledger that notices renews the history, so that every sidecar hears of it with its next message.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.errors import LedgerUnavailable, StaleIncarnation
from sidecar.ledger.administration import Act
from sidecar.ledger.fleet_views import AwaitedView, LearningView
from sidecar.ledger.history import FENCED, known_history, pasts_of, renew_history, system_journal
from sidecar.ledger.journal import Journal
from sidecar.ledger.lending import Holder
from sidecar.ledger.sql import fetch_in
from sidecar.ports import Ids, Transaction

LEARNING: Final = "learning"
"""The name of the row of `meta` that stands there while the ledger learns: a `_Learning` in JSON."""

ACTOR: Final = "ledger"
"""Who renews the history where the ledger itself has noticed."""

RETRY_AFTER_S: Final = 2.0
"""What is to be borrowed can be asked for again after so long: sidecars speak every few seconds."""


class LossProven(LedgerUnavailable):
    """What a sidecar was told before is more than the book knows: it has lost something."""


class Claim(msgspec.Struct, frozen=True):
    """What a sidecar says that it was told by the book: see `SyncRequest`."""

    sidecar: str
    history_id: str
    heard: int


class _Learning(msgspec.Struct, frozen=True):
    since_ms: int
    why: str


class Borrowers(msgspec.Struct, frozen=True):
    """Who of some holders is registered and has not ended, and what stands in the way of lending to them now."""

    holders: frozenset[Holder] = frozenset()
    history_id: str = ""
    is_learning: bool = False
    heard: dict[str, int] = {}

    def refusal(self, holder: Holder, claim: Claim) -> LedgerUnavailable | StaleIncarnation | None:
        """Why nothing is lent to a holder that claims to have heard so much of this book; None: it may borrow."""
        if holder not in self.holders:
            return StaleIncarnation(f"incarnation {holder.incarnation} is not registered, or has ended")
        if claim.history_id and self.history_id and claim.history_id != self.history_id:
            return StaleIncarnation("the book's history is another: register, and bring what it lacks")
        if claim.history_id and claim.heard > self.heard.get(holder.sidecar, 0):
            return LossProven(_more_answers(claim, self.heard.get(holder.sidecar, 0)), retry_after_s=RETRY_AFTER_S)
        if self.is_learning:
            detail = "the book has lost something: nothing is lent until every sidecar has told what it holds"
            return LedgerUnavailable(detail, retry_after_s=RETRY_AFTER_S)
        return None


async def borrowers(tx: Transaction, holders: frozenset[Holder]) -> Borrowers:
    """What there is to know of some holders; their registration does not change before this transaction ends (L43)."""
    sql = (
        "SELECT i.incarnation, i.sidecar, (SELECT h.value FROM meta AS h WHERE h.name = 'history_id') AS history_id,"
        " (SELECT l.value FROM meta AS l WHERE l.name = 'learning') AS learning,"
        " (SELECT c.value FROM meta AS c WHERE c.name = 'heard:' || i.sidecar) AS heard"
        " FROM incarnations AS i WHERE i.ended_at_ms IS NULL AND i.incarnation IN ({})"
    )
    rows = await fetch_in(tx, sql, (), sorted({holder.incarnation for holder in holders}), share=True)
    if not rows:
        return Borrowers()
    return Borrowers(
        holders & {Holder(row["sidecar"], row["incarnation"]) for row in rows},
        rows[0]["history_id"] or "",
        rows[0]["learning"] is not None,
        {row["sidecar"]: int(row["heard"] or 0) for row in rows},
    )


async def loss_of(tx: Transaction, history_id: str, claim: Claim, counted: int) -> str:
    """Why what a sidecar claims proves that this book has lost something; `` where it does not.

    Args:
        tx: a transaction on what belongs to no customer.
        history_id: the book's.
        claim: the sidecar's.
        counted: the answers to it that the book knows of, without the one that is being given.
    """
    if not claim.history_id:
        return ""
    if claim.history_id == history_id:
        return _more_answers(claim, counted) if claim.heard > counted else ""
    if claim.history_id in await pasts_of(tx):
        return ""
    return f"sidecar {claim.sidecar} knows a history that this book does not have"


async def begin(tx: Transaction, wall_ms: int, why: str) -> None:
    """From now on the ledger learns, if anybody is to be waited for. `renew_history` comes before."""
    rows = await tx.fetch_of_everyone(
        "SELECT max(last_recorded_at_ms) AS at_ms FROM customers WHERE customer <> '_system'"
    )
    since_ms = rows[0]["at_ms"]
    state = _Learning(wall_ms if since_ms is None else since_ms, why)
    before = await _state(tx)
    if before is not None:  # the first span is still unknown
        state = msgspec.structs.replace(state, since_ms=min(state.since_ms, before.since_ms))
    await tx.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (LEARNING, msgspec.json.encode(state).decode()),
    )
    if not await awaited(tx):
        await tx.execute("DELETE FROM meta WHERE name = ?", (LEARNING,))


async def fence(tx: Transaction, ids: Ids, wall_ms: int, history_id: str, why: str) -> str:
    """Begin another history, because the book has lost something; gives its name. Then the ledger learns."""
    new = await renew_history(tx, ids, wall_ms, Act(ACTOR, "", why), {"ended": [history_id]}, kind=FENCED)
    await begin(tx, wall_ms, why)
    return new


async def note_caught_up(tx: Transaction, wall_ms: int, history_id: str, sidecar: str) -> None:
    """A sidecar has told all that it keeps, of whatever start. If it was the last one, the ledger lends again."""
    await tx.execute(
        "UPDATE incarnations SET caught_up = ? WHERE sidecar = ? AND ended_at_ms IS NULL AND caught_up <> ?",
        (history_id, sidecar, history_id),
    )
    if await _state(tx) is not None and not await awaited(tx):
        journal = await system_journal(tx, wall_ms, Act(ACTOR, "", "every sidecar has told what it holds"))
        await _finish(tx, journal, ACTOR)
        await journal.write()


async def accept_loss(tx: Transaction, journal: Journal, sidecars: tuple[str, ...], actor: str) -> None:
    """Wait no longer for some sidecars: what they know of the lost span is given up for good."""
    history_id = await known_history(tx)
    await tx.execute_many(
        "UPDATE incarnations SET caught_up = ? WHERE sidecar = ? AND ended_at_ms IS NULL",
        [(history_id, sidecar) for sidecar in sidecars],
    )
    journal.post("loss_accepted", actor=actor, facts={"sidecars": list(sidecars), "history_id": history_id})
    if await _state(tx) is not None and not await awaited(tx):
        await _finish(tx, journal, actor)


async def awaited(tx: Transaction) -> tuple[AwaitedView, ...]:
    """The registered sidecars that have not told the book, as it is now, all that they keep."""
    rows = await tx.fetch(
        "SELECT sidecar, max(started_at_ms) AS started_at_ms FROM incarnations"
        " WHERE ended_at_ms IS NULL AND caught_up <> ? GROUP BY sidecar ORDER BY sidecar",
        (await known_history(tx),),
    )
    return tuple(AwaitedView(row["sidecar"], row["started_at_ms"]) for row in rows)


async def look(tx: Transaction) -> LearningView:
    """Whether the ledger learns, since when, and for whom it waits."""
    state = await _state(tx)
    if state is None:
        return LearningView(await known_history(tx))
    return LearningView(await known_history(tx), state.since_ms, state.why, await awaited(tx))


async def _finish(tx: Transaction, journal: Journal, actor: str) -> None:
    await tx.execute("DELETE FROM meta WHERE name = ?", (LEARNING,))
    journal.post("learning_ended", actor=actor, facts={"history_id": await known_history(tx)})


async def _state(tx: Transaction) -> _Learning | None:
    rows = await tx.fetch("SELECT value FROM meta WHERE name = ?", (LEARNING,))
    return msgspec.json.decode(rows[0]["value"], type=_Learning) if rows else None


def _more_answers(claim: Claim, counted: int) -> str:
    return f"sidecar {claim.sidecar} was given {claim.heard} answers, the book knows of {counted}"
