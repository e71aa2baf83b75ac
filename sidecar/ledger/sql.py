"""Queries over lists of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sidecar.ports import Row, Transaction

V = TypeVar("V", str, tuple[str, ...])


async def fetch_in(
    tx: Transaction, sql: str, first: Sequence[object], values: Sequence[V], *, share: bool = False
) -> Sequence[Row]:
    """All rows of a query whose `{}` stands for a list of values, each taken once; see `Transaction.fetch_in`.

    Args:
        tx: where to ask.
        sql: a query that ends in `IN ({})`, or `IN (VALUES {})` for tuples.
        first: the parameters before the list.
        values: texts, or tuples of as many texts as the query compares; where there is none, nothing is asked.
        share: the rows must not change before the transaction ends (`Transaction.fetch_locked`).
    """
    if not values:
        return ()
    distinct = [(value,) if isinstance(value, str) else value for value in dict.fromkeys(values)]
    return await tx.fetch_in(sql, first, distinct, share=share)
