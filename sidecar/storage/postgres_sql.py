"""The ledger's SQL as PostgreSQL takes it: numbered parameters, and one statement for many rows.

The ledger writes its statements once, for every engine (`ports.Transaction`). What is made of
them here depends on their text alone, and is made once for each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

MAX_STATEMENTS: Final = 1024
"""Statements whose translation is remembered; the ledger has some hundred."""

_INSERT: Final = re.compile(r"(INSERT INTO \w+ \([\w, ]+\)) VALUES \(\?(?:, \?)*\)( ON CONFLICT .+)?", re.ASCII)
_UPDATE: Final = re.compile(r"UPDATE (\w+) SET (\w+ = \?(?:, \w+ = \?)*) WHERE (\w+ = \?(?: AND \w+ = \?)*)", re.ASCII)


@lru_cache(maxsize=MAX_STATEMENTS)
def numbered(sql: str) -> str:
    """A statement with `$1`, `$2` … for its `?`, but for those inside of quoted texts."""
    pieces = sql.split("'")
    count = 0
    for position in range(0, len(pieces), 2):  # every other piece stands between quotes
        first, *rest = pieces[position].split("?")
        for piece in rest:
            count += 1
            first += f"${count}{piece}"
        pieces[position] = first
    return "'".join(pieces)


def over_columns(sql: str, types: Sequence[str]) -> str | None:
    """A statement that does for whole columns, each an array, what `sql` does for one row of values.

    No two rows may mean the same row of the table: of several, PostgreSQL would take any.

    Args:
        sql: with `?`; an INSERT of plain values, or an UPDATE of plain values by plain keys.
        types: PostgreSQL's names of the parameters' types, in their order.

    Returns:
        The statement, or None where `sql` is none of these.
    """
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, start=1))
    # What follows is made of the words of a statement of ours, which has no values in it.
    insert = _INSERT.fullmatch(sql)
    if insert:
        return f"{insert[1]} SELECT * FROM unnest({arrays}){insert[2] or ''}"  # noqa: S608
    update = _UPDATE.fullmatch(sql)
    if update is None:
        return None
    table, values, keys = update.groups()
    first_key = values.count("?")
    columns = [one.removesuffix(" = ?") for one in (*values.split(", "), *keys.split(" AND "))]
    given = list(enumerate(columns))
    new = ", ".join(f"{column} = new.v{number}" for number, column in given[:first_key])
    same = " AND ".join(f"{table}.{column} = new.v{number}" for number, column in given[first_key:])
    names = ", ".join(f"v{number}" for number, _ in given)
    return f"UPDATE {table} SET {new} FROM unnest({arrays}) AS new ({names}) WHERE {same}"  # noqa: S608


@lru_cache(maxsize=MAX_STATEMENTS)
def locking(sql: str, *, share: bool) -> str:
    """A query that locks the rows it finds, against changes or (not `share`) against any other lock."""
    return f"{sql} FOR {'SHARE' if share else 'UPDATE'}"
