"""What can go wrong with PostgreSQL, sorted by what can be done about it."""

from __future__ import annotations

from typing import Final

import asyncpg

MAX_TRIES: Final = 10
"""How often a transaction is tried that others stood in the way of."""

MAX_TRIES_LOST: Final = 4
"""How often one whose connection was lost is tried."""

ENGINE: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says of a connection that broke while it was in use
    OSError,
    TimeoutError,
)
"""What the database or the way to it raises."""

UNFIT: Final = asyncpg.DataError
"""A value that no column takes, such as a text with NUL: found by the driver or by the database."""

MADE_MEANWHILE: Final = frozenset({"23505", "42710", "42P07"})
"""What IF NOT EXISTS says when another makes the same table at the same instant."""

LOCKED: Final = "55P03"
"""A row that somebody else had locked for longer than a group waits."""

CONTENTION: Final = frozenset({"40001", "40P01", LOCKED})
"""Others stood in the way."""

OTHER_TABLES: Final = frozenset({"42703", "42P01"})
"""A column or a table that is not there: a newer version has taken it away while this one ran."""

_LOST: Final = ("08", "25006", "53", "57P", "58")
"""Beginnings of the codes of a server that goes, comes, is full, or has become a standby."""

OTHERS_TOO: Final = ("08", "25006", "57P")
"""Of those, where other connections to it are no better."""


def code(problem: BaseException) -> str:
    """The server's code of an error (SQLSTATE); empty where it is not from there."""
    return str(getattr(problem, "sqlstate", None) or "")


def is_lost(problem: BaseException) -> bool:
    """Whether it is the database or the way to it that failed, and no statement."""
    if isinstance(problem, asyncpg.PostgresError):
        return code(problem).startswith(_LOST)
    return isinstance(problem, ENGINE) and not isinstance(problem, UNFIT)


def tries_of(problem: BaseException) -> int:
    """How often it makes sense to try. A row that another has just made is found by the next try."""
    if code(problem) in CONTENTION or isinstance(problem, asyncpg.InvalidCachedStatementError):
        return MAX_TRIES  # the latter: a newer version has just changed the tables, and each connection finds out once
    if is_lost(problem):
        return MAX_TRIES_LOST
    return 2 if isinstance(problem, asyncpg.UniqueViolationError) else 1


def may_have_happened(problem: BaseException) -> bool:
    """Whether a COMMIT that ended so may have been made: the server has not said that it was not."""
    return not isinstance(problem, asyncpg.PostgresError) or code(problem).startswith(("08", "57P"))


def said(problem: BaseException) -> str:
    """What went wrong, without what was sent: the words of the driver may hold a statement's values, or a password."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return f"{type(problem).__name__} {code(problem)}".strip()


class Unsettled(Exception):
    """Nothing was committed; `tries` says how many in all make sense."""

    def __init__(self, problem: BaseException, tries: int) -> None:
        super().__init__(said(problem))
        self.problem = problem
        self.tries = tries
