"""Statements on a whole table, for carrying a book from one engine to the other; made of names alone.

A name that is none of ours stops it: those of a file come from whoever wrote the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sidecar.errors import ConfigurationError

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)


def adding(table: str, columns: Sequence[str]) -> str:
    """An INSERT with a `?` for each column; raises as `reading`."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {_named(table)} ({', '.join(map(_named, columns))}) VALUES ({marks})"  # noqa: S608 (names that `_named` lets pass, and no values)


def reading(table: str, columns: Sequence[str]) -> str:
    """All rows.

    Raises:
        ConfigurationError: it is no name of a table or column of a book.
    """
    return f"SELECT {', '.join(map(_named, columns))} FROM {_named(table)}"  # noqa: S608 (names that `_named` lets pass, and no values)


def counting(table: str) -> str:
    """How many rows, as `n`; raises as `reading`."""
    return f"SELECT count(*) AS n FROM {_named(table)}"  # noqa: S608 (names that `_named` lets pass, and no values)


def emptying(table: str) -> str:
    """Without any row from then on; raises as `reading`."""
    return f"DELETE FROM {_named(table)}"  # noqa: S608 (names that `_named` lets pass, and no values)


def columns_of(table: str) -> str:
    """SQLite's description of it; raises as `reading`."""
    return f"PRAGMA table_info({_named(table)})"


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError([f"{name!r} is no table or column of a book"])
    return name
