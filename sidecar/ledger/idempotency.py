"""Doing once what is asked twice (L27)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from sidecar.errors import IdempotencyConflict
from sidecar.ledger.administration import Act
from sidecar.ports import Transaction

T = TypeVar("T")

MAX_KEY = 255
"""Characters of a key."""


class Asked(msgspec.Struct, frozen=True):
    """What is asked, by whom: `fields` are all that makes one request different from another."""

    customer: str
    operation: str
    act: Act
    fields: dict[str, object]


async def once(
    tx: Transaction, asked: Asked, effect: Callable[[], Awaitable[T]], *, answer_type: Any, wall_ms: int
) -> tuple[T, bool]:
    """Run `effect`, or give the answer that it gave under the same key of the same actor; and whether it ran.

    The key is written in the transaction of the effects: one is never there without the other.
    An empty key asks for no such protection.

    Raises:
        IdempotencyConflict: the key was used for a request with other contents.
    """
    key = asked.act.idempotency_key
    if not key:
        return await effect(), True
    scope = (asked.customer, asked.operation, f"{asked.act.actor} {key}")  # no key has a space
    rows = await tx.fetch(
        "SELECT request, answer FROM idempotency WHERE customer = ? AND operation = ? AND idempotency_key = ?", scope
    )
    request = msgspec.json.encode(asked.fields, order="sorted")
    if rows:
        before = msgspec.json.decode(rows[0]["request"], type=dict[str, object])
        now = msgspec.json.decode(request, type=dict[str, object])
        for field in [*asked.fields, *before]:
            if now.get(field) != before.get(field):
                raise IdempotencyConflict(f"idempotency key {key!r} was used with another {field}", field=field)
        asked.act.on_repeat()
        answer: T = msgspec.json.decode(rows[0]["answer"], type=answer_type)
        return answer, False
    answer = await effect()
    await tx.execute(
        "INSERT INTO idempotency (customer, operation, idempotency_key, request, answer, recorded_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (*scope, request.decode(), msgspec.json.encode(answer).decode(), wall_ms),
    )
    return answer, True
