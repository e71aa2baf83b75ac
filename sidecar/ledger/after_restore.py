"""Keys and tokens after a restore: what was ended since the backup was made must not be good again (S-13).

A backup knows nothing of what was revoked later. The book that it replaces does, where there is one: so a
key stays good where both have it as good. Everything else ends, by an entry like any other end of it.
"""

from __future__ import annotations

import enum

import msgspec

from sidecar.ledger import sidecar_tokens, virtual_keys
from sidecar.ledger.administration import Act
from sidecar.ledger.history import SYSTEM, system_journal
from sidecar.ledger.journal import Journal
from sidecar.ports import Transaction


class Kind(enum.Enum):
    """What lets somebody in."""

    KEY = enum.auto()
    TOKEN = enum.auto()
    SIDECAR = enum.auto()


Good = frozenset[tuple[Kind, str, str, str]]
"""Of each that lets somebody in: what it is, whose, its name, its digest."""


class EndedKeys(msgspec.Struct, frozen=True):
    """How many a restore has ended: virtual keys, tokens of the API, tokens of sidecars."""

    keys: int = 0
    tokens: int = 0
    sidecar_tokens: int = 0


async def good_of(tx: Transaction) -> Good:
    """All that lets somebody in by a book."""
    keys = await tx.fetch("SELECT customer, key_id, sha256 FROM virtual_keys WHERE revoked_at_ms IS NULL")
    tokens = await tx.fetch("SELECT customer, name, token_sha256 FROM api_tokens WHERE revoked_at_ms IS NULL")
    sidecars = await sidecar_tokens.digests(tx)
    return frozenset(
        [(Kind.KEY, row["customer"], row["key_id"], row["sha256"]) for row in keys]
        + [(Kind.TOKEN, row["customer"], row["name"], row["token_sha256"]) for row in tokens]
        + [(Kind.SIDECAR, SYSTEM, name, digest.hex()) for digest, name in sidecars.items()]
    )


async def end_others(tx: Transaction, wall_ms: int, still_good: Good, act: Act) -> EndedKeys:
    """End all that lets somebody in by this book, but what is `still_good`.

    Args:
        tx: on a book that nobody else writes.
        wall_ms: Unix milliseconds.
        still_good: what the book that is replaced has as good.
        act: who restores.
    """
    ending = await good_of(tx) - still_good
    for customer in sorted({owner for _, owner, _, _ in ending}):
        mine = sorted((one for one in ending if one[1] == customer), key=lambda one: (one[0].value, one[2]))
        if customer == SYSTEM:
            journal = await system_journal(tx, wall_ms, act)
        else:
            opened = await Journal.open(tx, customer, wall_ms)
            if opened is None:
                continue  # of a customer that is not there, a key opens nothing
            journal = opened
            journal.act = act
        for kind, owner, name, _ in mine:
            if kind is Kind.KEY:
                await virtual_keys.revoke(journal, name, actor=act.actor)
            elif kind is Kind.TOKEN:
                await _end_token(journal, owner, name, act.actor)
            else:
                await sidecar_tokens.drop(tx, name)
                journal.post("sidecar_token_revoked", actor=act.actor, facts={"name": name})
        await journal.write()
    kinds = [kind for kind, _, _, _ in ending]
    return EndedKeys(kinds.count(Kind.KEY), kinds.count(Kind.TOKEN), kinds.count(Kind.SIDECAR))


async def _end_token(journal: Journal, owner: str, name: str, actor: str) -> None:
    await journal.tx.execute(
        "UPDATE api_tokens SET revoked_at_ms = ?, revoked_by = ? WHERE customer = ? AND name = ?",
        (journal.now_ms, actor, owner, name),
    )
    journal.post("token_revoked", actor=actor, facts={"name": name}, key=f"token:{name}")
