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

TEXTS: Final = "texts"
NUMBERS: Final = "numbers"
"""Of many values that are given as one text: for the driver an array is much more work than what it holds."""

_BETWEEN, _NULL = "\x1f", "\x1e"
"""What stands between texts, and for NULL: no name and no JSON has them in it."""

MARK: Final = "#"
"""The column of `over_rows` that says for whom a row is."""

_INSERT: Final = re.compile(r"(INSERT INTO \w+ \([\w, ]+\)) VALUES \(\?(?:, \?)*\)( ON CONFLICT .+)?", re.ASCII)
_NOBODYS: Final = frozenset({"incarnations", "meta"})
"""Tables without customers."""

_TABLE: Final = re.compile(
    r"(?:\bFROM|\bJOIN|\bINTO|(?<!\bFOR )(?<!\bDO )\bUPDATE)\s+(\(?\w+)(?=(?:\s+(?:AS\s+)?\w+)?(\s*,)?)", re.ASCII
)
"""A table that a statement reads or writes, and whether another one follows it behind a comma."""

_PARAMETER: Final = re.compile(r"'[^']*'|(\b(?:\w+\.)?customer) = \?|\?", re.ASCII)
_UPDATE: Final = re.compile(r"UPDATE (\w+) SET (\w+ = \?(?:, \w+ = \?)*) WHERE (\w+ = \?(?: AND \w+ = \?)*)", re.ASCII)


@lru_cache(maxsize=MAX_STATEMENTS)
def numbered(sql: str) -> str:
    """A statement with `$1`, `$2` … for its `?`, but for those inside of quoted texts."""
    return _with_names(sql, "$")


@lru_cache(maxsize=MAX_STATEMENTS)
def with_one(sql: str, width: int) -> str:
    """A query with `IN ({})` or `IN (VALUES {})` for one value of so many texts: the same parameters in `?`."""
    one = f"({', '.join('?' * width)})"
    return sql.replace("IN (VALUES {})", f"= {one}").replace("IN ({})", f"= {one}")


def over_rows(sql: str, types: Sequence[str]) -> str:
    """A query that asks for several sets of parameters, each an array, what `sql` asks for one.

    Its rows have one column more, `MARK`: for which set they were found, counting from 1. Rows of one set come
    in the order that `sql` gives them, and the sets are looked at (and what they find is locked) in their order.

    Args:
        sql: a SELECT, with `?` for its parameters, of which there are some.
        types: PostgreSQL's names of the parameters' types, in their order; TEXTS or NUMBERS where all values of one
            are written as one text (`written`).
    """
    arrays = ", ".join(_array(number, kind) for number, kind in enumerate(types, start=1))
    names = ", ".join(f"v{number}" for number in range(1, len(types) + 1))
    return (
        f'SELECT found.*, given.number AS "{MARK}" FROM unnest({arrays}) WITH ORDINALITY AS given ({names}, number)'  # noqa: S608 (words of a statement of ours, and no values)
        f" CROSS JOIN LATERAL ({_with_names(sql, 'given.v')}) AS found"
    )


@lru_cache(maxsize=MAX_STATEMENTS)
def owners(sql: str) -> tuple[int, ...] | None:
    """Which of a statement's parameters, counting from 0, say whose rows it is about.

    None: it does not say so by parameters. Empty: it is of a table that has no customers.
    """
    tables = _TABLE.findall(sql)
    if tables and all(name in _NOBODYS and not more for name, more in tables):
        return ()
    insert = _INSERT.fullmatch(sql)
    if insert:
        columns = insert[1].partition("(")[2].rstrip(")").split(", ")
        return (columns.index("customer"),) if "customer" in columns else None
    found: list[int] = []
    count, where = 0, sql.find(" WHERE ")
    for part in _PARAMETER.finditer(sql):
        if part[1] and part.start() > where > 0:
            found.append(count)
        count += part[0].endswith("?")
    return tuple(found) or None


def written(kind: str, values: Sequence[object]) -> str | None:
    """All values of a parameter as one text; None where they must be an array.

    Args:
        kind: PostgreSQL's name of their type.
        values: two or more.
    """
    try:
        if kind == "int8":
            return f"{{{','.join(['NULL' if one is None else int.__repr__(one) for one in values])}}}"
        if kind != "text":
            return None
        nulls = values.count(None)
        text = _BETWEEN.join([_NULL if one is None else one for one in values] if nulls else values)  # type: ignore[misc,arg-type]
    except TypeError:  # a value of another type: the driver will say so
        return None
    return text if text.count(_BETWEEN) == len(values) - 1 and text.count(_NULL) == nulls else None


def _array(number: int, kind: str) -> str:
    if kind == TEXTS:
        return f"string_to_array(${number}, E'\\x1f', E'\\x1e')"
    return f"${number}::text::int8[]" if kind == NUMBERS else f"${number}::{kind}[]"


def _with_names(sql: str, prefix: str) -> str:
    pieces = sql.split("'")
    count = 0
    for position in range(0, len(pieces), 2):  # every other piece stands between quotes
        first, *rest = pieces[position].split("?")
        for piece in rest:
            count += 1
            first += f"{prefix}{count}{piece}"
        pieces[position] = first
    return "'".join(pieces)


def over_columns(sql: str, types: Sequence[str]) -> str | None:
    """A statement that does for whole columns, each an array, what `sql` does for one row of values.

    No two rows may mean the same row of the table: of several, PostgreSQL would take any.

    Args:
        sql: with `?`; an INSERT of plain values, or an UPDATE of plain values by plain keys.
        types: as for `over_rows`.

    Returns:
        The statement, or None where `sql` is none of these.
    """
    arrays = ", ".join(_array(number, kind) for number, kind in enumerate(types, start=1))
    # What follows is made of the words of a statement of ours, which has no values in it.
    insert = _INSERT.fullmatch(sql)
    if insert:
        return f"{insert[1]} SELECT * FROM unnest({arrays}){insert[2] or ''}"  # noqa: S608 (words of a statement of ours, and no values)
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
    return f"UPDATE {table} SET {new} FROM unnest({arrays}) AS new ({names}) WHERE {same}"  # noqa: S608 (words of a statement of ours, and no values)


@lru_cache(maxsize=MAX_STATEMENTS)
def locking(sql: str, *, share: bool) -> str:
    """A query that locks the rows it finds, against changes or (not `share`) against any other lock."""
    return f"{sql} FOR {'SHARE' if share else 'UPDATE'}"
