"""Embedded books as files: looked at without changing them, copied, and put in place.

A book is opened by one process at a time. Whatever is done to its file here is done under its lock, so
never while a ledger runs on it; only `copy_book` is for the ledger itself, and goes on beside its work.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from sidecar.errors import ConfigurationError
from sidecar.ports import Transaction
from sidecar.storage import migrate
from sidecar.storage.sqlite import BUSY_TIMEOUT_S, SQLiteTransaction, drive, lock_book, prepare

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Is told how much of how much is done, in bytes, now and then."""

PROGRESS_EVERY_S: Final = 0.25
STEPS_TO_STOP: Final = 10_000
"""Of SQLite's machine, between two looks at whether to stop."""

CHUNK: Final = 4 * 1024 * 1024


class BookFile:
    """A book that nobody changes while it is open here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on one snapshot, here and now; it may wait for nothing but the book."""
        self._connection.execute("BEGIN")
        try:
            return drive(work(SQLiteTransaction(self._connection)))
        finally:
            self._connection.execute("ROLLBACK")

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when nothing is."""
        found = [row[0] for row in self._connection.execute("PRAGMA integrity_check(10)")]
        return [] if found == ["ok"] else found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every ledger from a book for as long as a block runs.

    Raises:
        ConfigurationError: one runs on it.
    """
    lock = lock_book(path)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def opened_to_look(path: Path) -> Iterator[BookFile]:
    """A book, or a copy of one, to read; its tables must be those of this version.

    The caller sees to it that nobody writes it (`locked`).

    Raises:
        ConfigurationError: it is not there, is no book, or is of another version.
    """
    if not path.is_file():
        raise ConfigurationError([f"{path}: there is no such book"])
    try:
        with _read_only(path) as connection:
            applied = {row["number"]: row["sha256"] for row in connection.execute("SELECT * FROM migrations")}
            lacking = migrate.pending(migrate.shipped("sqlite"), applied, where=str(path))
            if lacking:
                raise ConfigurationError([f"{path}: is of an older version; start a ledger on it once"])
            yield BookFile(connection)
    except sqlite3.Error as problem:
        raise ConfigurationError([f"{path}: cannot be read as a book: {problem}"]) from problem


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing: one without a log to be taken in is not even given the files for one."""
    log = path.with_name(path.name + "-wal")
    still = "" if log.exists() and log.stat().st_size else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{still}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection
    finally:
        connection.close()


def copy_book(
    source: Path, target: Path, progress: Progress | None = None, stopping: threading.Event | None = None
) -> int:
    """Copy a book as it is at one instant, also while its ledger writes on; gives its bytes.

    Blocks for as long as it takes, or until it is to stop.

    `target` must not be there; after an error it is not. Whoever reads or writes the book meanwhile waits
    for nothing; its log grows until the copy ends.

    Raises:
        OSError: the disk is full, the copy cannot be written, or it was stopped.
    """
    connection = sqlite3.connect(
        f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    if stopping is not None:
        connection.set_progress_handler(lambda: int(stopping.is_set()), STEPS_TO_STOP)
    ended = threading.Event()
    if progress is not None:
        whole = connection.execute("PRAGMA page_count").fetchone()[0]
        whole *= connection.execute("PRAGMA page_size").fetchone()[0]
        threading.Thread(target=_watch_growth, args=(target, whole, progress, ended), daemon=True).start()
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
        sync(target)
        return target.stat().st_size
    except sqlite3.Error as problem:
        target.unlink(missing_ok=True)
        number = errno.ENOSPC if "full" in str(problem) else errno.EIO
        raise OSError(number, str(problem), str(target)) from problem
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        ended.set()
        connection.close()
        for end in ("-journal", "-wal", "-shm"):
            target.with_name(target.name + end).unlink(missing_ok=True)


def copy_file(source: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy a file that nobody writes, down to the disk; after an error `target` is not there.

    Raises:
        OSError: it cannot be read, or the copy not written.
    """
    whole = source.stat().st_size
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with source.open("rb") as reading, os.fdopen(descriptor, "wb") as writing:
            done = 0
            while chunk := reading.read(CHUNK):
                writing.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, whole)
            writing.flush()
            os.fsync(writing.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """The digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def change_copy(path: Path, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Bring the tables of a copy up to date, then change it in one transaction; it is one file again at the end.

    Raises:
        ConfigurationError: it is no book, or was made by a newer version.
        OSError: it cannot be written.
    """
    try:
        prepare(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN IMMEDIATE")
            made = drive(work(SQLiteTransaction(connection)))
            connection.execute("COMMIT")
        finally:
            connection.close()  # the last to close it takes the log in, and away
        sync(path)
        return made
    except sqlite3.OperationalError as problem:
        raise OSError(errno.EIO, str(problem), str(path)) from problem
    except sqlite3.Error as problem:
        raise ConfigurationError([f"{path}: cannot be opened as a book: {problem}"]) from problem


def put_in_place(new: Path, path: Path, aside: Path | None) -> None:
    """Let a whole, synced file be the book from now on: before this returns the old one is, afterwards the new one.

    The old one stays as `aside`. The caller holds the book's lock.

    Raises:
        OSError: it cannot be done; the old one is then in its place.
    """
    if path.exists():
        with suppress(sqlite3.Error):  # a damaged one is kept as it is, with its log
            old = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                old.close()
        if aside is not None:
            os.link(path, aside)
    for end in ("-wal", "-shm"):  # of the old book: the new one must not find it
        log = path.with_name(path.name + end)
        if log.exists():
            if aside is not None:
                log.rename(aside.with_name(aside.name + end))
            else:
                log.unlink()
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _watch_growth(target: Path, whole: int, progress: Progress, ended: threading.Event) -> None:
    while not ended.wait(PROGRESS_EVERY_S):
        with suppress(OSError):
            progress(min(target.stat().st_size, whole), whole)
