"""Copies of a book as a file: made beside a running ledger, put in place where none runs (L50a)."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from sidecar.app.checkpointing import history_of
from sidecar.app.data_folder import BOOK
from sidecar.app.proving import Witnesses, prove
from sidecar.errors import ConfigurationError, NotFound
from sidecar.ledger import learning
from sidecar.ledger.administration import Act
from sidecar.ledger.after_restore import EndedKeys, Good, end_others, good_of
from sidecar.ledger.history import SYSTEM, renew_history
from sidecar.ledger.views import BackupView
from sidecar.ports import Clock, Ids, Transaction
from sidecar.storage.sqlite_files import (
    Progress,
    change_copy,
    copy_book,
    copy_file,
    locked,
    opened_to_look,
    put_in_place,
    sha256_of,
)

STAGING: Final = ".backup"
"""The folder, in the data folder, in which a backup waits for whoever asked for it. There is one at a time."""

logger = logging.getLogger(__name__)


class Backups:
    """Makes copies of a ledger's own book, one at a time, on a thread of their own. Use it from one event loop."""

    def __init__(self, data: Path, ids: Ids) -> None:
        self._book = data / BOOK
        self._staging = data / STAGING
        self._ids = ids
        self._now = BackupView("", "none")
        self._making: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        shutil.rmtree(self._staging, ignore_errors=True)  # what a former start left there

    async def start(self, actor: str) -> BackupView:
        """Begin one, in place of the one before; while one is being made, that one is given back."""
        if self._making is not None and not self._making.done():
            return self._now
        await asyncio.to_thread(shutil.rmtree, self._staging, ignore_errors=True)
        name = self._ids.new("backup")
        self._now = BackupView(name, "making", path=str(self._staging / f"{name}.sqlite"))
        logger.warning("backup_started", extra={"facts": {"name": name, "actor": actor}})
        self._making = asyncio.create_task(self._make(self._now))
        return self._now

    async def stop(self) -> None:
        """Break off what is being made."""
        self._stopping.set()
        if self._making is not None:
            await self._making

    def look(self, name: str) -> BackupView:
        """How far one has come.

        Raises:
            NotFound: it is not the last one.
        """
        if not name or name != self._now.name:
            raise NotFound("backup", name)
        return self._now

    async def _make(self, view: BackupView) -> None:
        def progress(done: int, whole: int) -> None:
            if self._now.state == "making":
                self._now = msgspec.structs.replace(view, done_bytes=done, total_bytes=whole)

        path = Path(view.path)
        try:
            await asyncio.to_thread(self._staging.mkdir, 0o700, exist_ok=True)
            size = await asyncio.to_thread(copy_book, self._book, path, progress, self._stopping)
            self._now = msgspec.structs.replace(view, state="made", done_bytes=size, total_bytes=size)
        except OSError as problem:
            self._now = msgspec.structs.replace(view, state="failed", problem=problem.strerror or str(problem))
            logger.error("backup_failed", extra={"facts": {"problem": self._now.problem}})


class Restored(msgspec.Struct, frozen=True):
    """What a restore did. `kept` is where the book that stood there is now; `` where there was none."""

    history_id: str
    customers: int
    entries: int
    sha256: str
    kept: str = ""
    ended: EndedKeys = EndedKeys()


class Restoring(msgspec.Struct, frozen=True):
    """Who restores and how: why, by which clock, and whether keys are good again as they were at the backup.

    `step` is told what is being done, `progress` how much of it, in bytes, `progress_of_rows` in rows.
    """

    clock: Clock
    ids: Ids
    reason: str
    keep_keys: bool = False
    progress: Progress | None = None
    step: Callable[[str], None] = lambda _: None
    progress_of_rows: Progress | None = None


def digest_file(backup: Path) -> Path:
    """Where the digest of a backup stands, as `sha256sum -c` reads it."""
    return backup.with_name(backup.name + ".sha256")


def take_backup(staged: Path, target: Path, progress: Progress | None = None) -> tuple[str, int, int]:
    """Copy a staged backup to where it is wanted, checked, with its digest beside it; gives digest, customers, entries.

    Before this returns there is nothing at `target`, or what stood there before.

    Raises:
        ConfigurationError: the copy is not sound, and was not kept.
        OSError: it cannot be written.
    """
    return keep_backup(lambda part: copy_file(staged, part, progress), target)


def keep_backup(make: Callable[[Path], object], target: Path) -> tuple[str, int, int]:
    """The same of a copy that `make` writes to the path it is given, which is not there."""
    part = target.with_name(f".{target.name}.part")
    digests = digest_file(target)
    try:
        part.unlink(missing_ok=True)
        make(part)
        customers, entries = _check(part)
        sha256 = sha256_of(part)
        digest_part = digests.with_name(f".{digests.name}.part")
        digest_part.write_text(f"{sha256}  {target.name}\n", encoding="utf-8")
        digests.unlink(missing_ok=True)  # a crash between the two leaves a backup without a digest, never a wrong one
        part.replace(target)
        digest_part.replace(digests)
    finally:
        part.unlink(missing_ok=True)
    return sha256, customers, entries


def restore(backup: Path, data: Path, how: Restoring, *, force: bool) -> Restored:
    """Let a backup be the book of a data folder, under a new history id, so that every holder notices (L50a).

    Until the very last step the book that stood there stands there; then the restored one does, and the other
    is kept beside it. Of its keys and tokens those stay good that are good in both (`ledger.after_restore`).

    Raises:
        ConfigurationError: a ledger runs there, a book stands there and not `force`, or the backup is not sound.
        OSError: the disk is full, or cannot be written.
    """
    book = data / BOOK
    with locked_folder(backup, data):
        stands = book.exists() and book.stat().st_size > 0
        if stands and not force:
            raise ConfigurationError([f"{book}: a book stands there; --force puts the backup in its place"])
        replaced, still_good = _known_of(book) if stands else ("", frozenset())
        with made_ready(backup, data / ".restoring.sqlite", how, replaced, still_good) as (part, done):
            how.step("putting it in place")
            aside = _aside(book, how.clock.wall_ms()) if stands else None
            put_in_place(part, book, aside)
    return msgspec.structs.replace(done, kept="" if aside is None else str(aside))


@contextmanager
def locked_folder(backup: Path, data: Path) -> Iterator[None]:
    """For as long as a block runs, no ledger starts on a book in a data folder, which is made.

    Raises:
        ConfigurationError: one runs there, or there is no backup.
    """
    if not backup.is_file():
        raise ConfigurationError([f"{backup}: there is no such backup"])
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(data / BOOK):
        yield


@contextmanager
def made_ready(
    backup: Path, part: Path, how: Restoring, replaced: str, still_good: Good
) -> Iterator[tuple[Path, Restored]]:
    """A copy of a backup as it shall stand, within a block: checked, under a new history, its keys ended.

    Args:
        backup: the file, and its digest beside it.
        part: where the copy is made, and from where it may be moved; afterwards nothing is there.
        how: who restores.
        replaced: the history of the book in whose place it comes; `` where it is not known.
        still_good: what that one lets in.

    Raises:
        ConfigurationError: the backup is not sound.
        OSError: the disk is full, or cannot be written.
    """
    try:
        how.step("copying")
        _remove(part)  # and the log of a restore that was killed, which is of another file
        copy_file(backup, part, how.progress)
        sha256 = sha256_of(part)
        _compare_digest(backup, sha256)
        how.step("checking")
        change_copy(part, history_of)  # its tables are those of this version now
        customers, entries = _check(part)

        async def renew(tx: Transaction) -> tuple[str, EndedKeys]:
            before = await history_of(tx)
            ended = [one for one in dict.fromkeys((before, replaced)) if one]
            act, now_ms = Act(f"operator:{_user()}", "", how.reason), how.clock.wall_ms()
            new = await renew_history(tx, how.ids, now_ms, act, {"ended": ended, "sha256": sha256})
            await learning.begin(tx, now_ms, f"a backup was put in the place of the book by {act.actor}")
            return new, EndedKeys() if how.keep_keys else await end_others(tx, now_ms, still_good, act)

        history, keys = change_copy(part, renew)
        yield part, Restored(history, customers, entries, sha256, ended=keys)
    except ConfigurationError as error:
        told = [problem.replace(str(part), str(backup)) for problem in error.problems]
        raise ConfigurationError(told) from None
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        part.with_name(part.name + end).unlink(missing_ok=True)


def _check(path: Path) -> tuple[int, int]:
    """Whether a copy is sound as a file and as a book; gives its customers and entries."""
    witnesses = Witnesses()
    with opened_to_look(path) as opened:
        views = list(prove(opened, witnesses, None))
    problems = witnesses.problems + [f"{view.customer}: {problem}" for view in views for problem in view.problems]
    if problems:
        raise ConfigurationError([f"{path}: is not sound: {problem}" for problem in problems[:20]])
    ours = [view for view in views if view.customer != SYSTEM]
    return len(ours), sum(view.entries for view in views)


def _compare_digest(backup: Path, sha256: str) -> None:
    path = digest_file(backup)
    if path.exists() and path.read_text(encoding="utf-8", errors="replace").split()[:1] != [sha256]:
        raise ConfigurationError([f"{backup}: is not the file whose digest {path.name} holds"])


def _known_of(book: Path) -> tuple[str, Good]:
    """Of the book that is replaced, where it can still be read: its history, and whom it lets in."""
    try:
        with opened_to_look(book) as opened:
            return opened.read(history_of), opened.read(good_of)
    except ConfigurationError:
        return "", frozenset()


def _aside(book: Path, wall_ms: int) -> Path:
    stamp = datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    return book.with_name(f"{book.name}.replaced-{stamp}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
