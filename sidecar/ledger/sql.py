"""Queries over lists of values, in SQL that every engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sidecar.ports import Row, Transaction

CHUNK = 256
"""Values in one IN (…) at most."""

V = TypeVar("V", str, tuple[str, ...])


async def fetch_in(
    tx: Transaction, sql: str, first: Sequence[object], values: Sequence[V], *, share: bool = False
) -> list[Row]:
    """All rows of a query whose `{}` stands for a list of values, each taken once.

    Lists are cut into parts, and each part is filled up to a power of two by repeating its last
    value, so that a handful of different statements serves every length.

    Args:
        tx: where to ask.
        sql: a query that ends in `IN ({})`, or `IN (VALUES {})` for tuples.
        first: the parameters before the list.
        values: texts, or tuples of as many texts as the query compares.
        share: the rows must not change before the transaction ends (`Transaction.fetch_locked`).
    """
    rows: list[Row] = []
    distinct = list(dict.fromkeys(values))
    for start in range(0, len(distinct), CHUNK):
        part = distinct[start : start + CHUNK]
        part += [part[-1]] * ((1 << (len(part) - 1).bit_length()) - len(part))
        mark = "?" if isinstance(part[0], str) else f"({', '.join('?' * len(part[0]))})"
        flat: list[str] = [text for value in part for text in ((value,) if isinstance(value, str) else value)]
        whole, parameters = sql.replace("{}", ", ".join([mark] * len(part))), (*first, *flat)
        rows += await (tx.fetch_locked(whole, parameters, share=True) if share else tx.fetch(whole, parameters))
    return rows
