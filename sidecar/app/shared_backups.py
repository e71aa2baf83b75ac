"""A book in PostgreSQL as a file, and such a file as a book in PostgreSQL.

The file is an embedded book: so it is checked, kept and looked at as one, and either kind of book can be
restored from a backup of the other.
"""

from __future__ import annotations

import os
from pathlib import Path

from sidecar.app.backups import Restored, Restoring, keep_backup, made_ready
from sidecar.errors import ConfigurationError
from sidecar.storage.postgres_snapshot import Snapshot, empty_database, opened_database
from sidecar.storage.sqlite_files import Progress
from sidecar.storage.sqlite_rows import RowsFile, filled, rows_of


def take_shared_backup(url: str, target: Path, progress: Progress | None = None) -> tuple[str, int, int]:
    """Copy a database's book to a file, as it is at one instant; gives digest, customers and entries.

    Before this returns there is nothing at `target`, or what stood there before. `progress` is told of rows.

    Raises:
        ConfigurationError: the database cannot be used, or what is in it is not sound: nothing was kept.
        OSError: the file cannot be written.
    """
    with opened_database(url) as snapshot:
        return keep_backup(lambda part: write_file(snapshot, part, progress), target)


def write_file(snapshot: Snapshot, path: Path, progress: Progress | None = None) -> None:
    """Write a snapshot to a new file; a few rows of it are held at a time.

    Raises:
        ConfigurationError: the database has rows that no book has.
        OSError: the file cannot be written.
    """
    with filled(path) as filling:
        tables = filling.tables
        whole, done = sum(map(snapshot.count, tables)), 0
        for table, columns in tables.items():
            for rows in snapshot.batches(table, columns):
                try:
                    filling.put(table, columns, rows)
                except ValueError as problem:
                    raise ConfigurationError([f"ledger.database: is not sound: {problem}"]) from problem
                done += len(rows)
                if progress is not None:
                    progress(done, whole)


def restore_shared(backup: Path, url: str, scratch: Path, how: Restoring) -> Restored:
    """Let a backup be the book of an empty database, under a new history id (L50a).

    All of it stands there afterwards, or nothing. Nobody knows which keys were revoked since the backup: unless
    they are to be kept, all of them end.

    Args:
        backup: the file.
        url: the database.
        scratch: a folder in which a copy of the file fits for as long as this runs.
        how: who restores.

    Raises:
        ConfigurationError: the backup is not sound, a book stands in the database, or it cannot be used.
        OSError: the disk is full, or cannot be written.
    """
    if not backup.is_file():
        raise ConfigurationError([f"{backup}: there is no such backup"])
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        made_ready(backup, scratch / f".restoring-{os.getpid()}.sqlite", how, "", frozenset()) as (part, done),
        rows_of(part) as source,
    ):
        how.step("putting it into the database")
        with empty_database(url) as empty:
            whole, put = sum(map(source.count, source.tables)), 0
            for table, columns in source.tables.items():
                for rows in source.batches(table):
                    empty.put(table, columns, rows)
                    put += len(rows)
                    if how.progress_of_rows is not None:
                        how.progress_of_rows(put, whole)
                _compare(empty.count(table), source, table)
    return done


def _compare(found: int, source: RowsFile, table: str) -> None:
    if found != source.count(table):
        raise ConfigurationError([f"ledger.database: table {table} has {found} rows, and not {source.count(table)}"])
