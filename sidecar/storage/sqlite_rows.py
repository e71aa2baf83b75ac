"""An embedded book as rows, table by table: how a book in a database becomes a file, and a file such a book.

Both engines have the same tables with the same columns, so the file is the form in which any book is kept,
looked at without its ledger, and carried from one engine to the other.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sidecar.storage.sqlite import prepare
from sidecar.storage.sqlite_files import sync
from sidecar.storage.table_sql import adding, columns_of, counting, emptying, reading

MAX_ROWS: Final = 1000
MAX_BYTES: Final = 4 * 1024 * 1024
"""Of the rows that are held at a time; one row more than that may be."""

NOT_COPIED: Final = frozenset({"migrations"})
"""What says how the tables were made, which each engine knows for itself."""

Values = tuple[object, ...]


class Filling:
    """A book that is being written, in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def tables(self) -> dict[str, list[str]]:
        """The columns of each table that is copied."""
        return _tables(self._connection)

    def put(self, table: str, columns: Sequence[str], rows: Sequence[Values]) -> None:
        """Add rows.

        Raises:
            ValueError: they break a rule of the table, such as that a thing is there once.
        """
        try:
            self._connection.executemany(adding(table, columns), rows)
        except sqlite3.IntegrityError as problem:
            raise ValueError(f"table {table}: {problem}") from problem


@contextmanager
def filled(path: Path) -> Iterator[Filling]:
    """A new book with empty tables, to be filled within a block; on the disk after it, and gone after an error.

    Raises:
        OSError: it cannot be written.
    """
    try:
        prepare(path)
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            connection.execute("PRAGMA synchronous = OFF")  # until it is whole, nobody needs it
            connection.execute("BEGIN IMMEDIATE")
            for table in _tables(connection):
                connection.execute(emptying(table))  # of what its migrations put there
            yield Filling(connection)
            connection.execute("COMMIT")
        finally:
            connection.close()
        path.chmod(0o600)
        sync(path)
    except BaseException as problem:
        for end in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        if isinstance(problem, sqlite3.Error):
            number = errno.ENOSPC if "full" in str(problem) else errno.EIO
            raise OSError(number, str(problem), str(path)) from problem
        raise


class RowsFile:
    """A book that nobody writes, as rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.tables = _tables(connection)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        found: int = self._connection.execute(counting(table)).fetchone()[0]
        return found

    def batches(self, table: str) -> Iterator[list[Values]]:
        """All rows of a table, some at a time (MAX_ROWS, MAX_BYTES)."""
        batch: list[Values] = []
        size = 0
        for row in self._connection.execute(reading(table, self.tables[table])):
            batch.append(tuple(row))
            size += size_of(batch[-1])
            if len(batch) >= MAX_ROWS or size >= MAX_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


@contextmanager
def rows_of(path: Path) -> Iterator[RowsFile]:
    """A sound book, to read row by row."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield RowsFile(connection)
    finally:
        connection.close()


def size_of(row: Values) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)


def _tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    names = [name for (name,) in found if name not in NOT_COPIED and not name.startswith("sqlite_")]
    return {name: [row[1] for row in connection.execute(columns_of(name))] for name in names}
