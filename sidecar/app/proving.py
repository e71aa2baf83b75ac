"""Checking a book without its ledger, against the checkpoints that left it: `spend verify --offline` (L8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from sidecar.app.checkpoint_files import read_lines, rotated
from sidecar.app.checkpointing import history_of
from sidecar.app.signing import is_signed
from sidecar.core.credits.checkpoints import Checkpoint, CheckpointError, digest_of_line, read_line, signed_text
from sidecar.ledger.history import pasts_of
from sidecar.ledger.verifying import MAX_PROBLEMS, verify
from sidecar.ledger.views import VerifyView
from sidecar.ledger.witnessing import SignedHead
from sidecar.ports import Transaction

PAGE: Final = 1000
T = TypeVar("T")


class StillBook(Protocol):
    """A book that does not change while it is looked at: a file that nobody writes, or a snapshot of a database."""

    def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on it, here and now."""
        ...

    def damage(self) -> list[str]:
        """What is wrong with it as a file; empty where nothing is."""
        ...


class Witnesses(msgspec.Struct):
    """What some files of checkpoints say: the good ones, what is wrong with the rest, and what should be known.

    That a file lacks some is no problem of the book: a sidecar hears of them only while it is connected.
    """

    checkpoints: list[tuple[str, Checkpoint]] = []
    problems: list[str] = []
    notes: list[str] = []

    def note(self, problem: str) -> None:
        """Tell of something, unless too much was told already."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def read_witnesses(files: Iterable[Path], keys: frozenset[str]) -> Witnesses:
    """Read files of checkpoints, each with the one before it (`FILE.1`); those signed by none of `keys` do not count.

    Raises:
        OSError: one that is named is not there, or cannot be read.
    """
    found = Witnesses()
    for file in files:
        for path in (rotated(file), file):
            if path == file or path.exists():
                _read_file(path, keys, found)
    return found


def _read_file(path: Path, keys: frozenset[str], found: Witnesses) -> None:
    path.stat()
    before: dict[str, tuple[int, str]] = {}  # by key: the number and the digest of the line before
    torn: str | None = None
    for number, line in read_lines(path):
        if not line:
            continue  # the end of a line that a crash had torn
        where = f"{path.name}:{number}"
        try:
            checkpoint = read_line(line)
        except CheckpointError:
            torn = where
            continue
        if checkpoint.key not in keys:
            found.note(f"{where}: is signed by another key ({checkpoint.key[:12]}…) than the ledger's")
            continue
        if not is_signed(checkpoint.key, checkpoint.signature, signed_text(checkpoint)):
            found.note(f"{where}: checkpoint {checkpoint.number} was altered: its signature is not of it")
            continue
        last = before.get(checkpoint.key)
        if last is not None and last[0] + 1 == checkpoint.number and last[1] != checkpoint.previous:
            found.note(f"{where}: checkpoint {checkpoint.number} does not follow the one before: the key has two books")
        if last is not None and checkpoint.number > last[0] + 1:
            missing = f"checkpoints {last[0] + 1} to {checkpoint.number - 1} are not there"
            if torn is not None:
                found.note(f"{torn}: was altered; {missing}")
            else:
                found.notes.append(f"{where}: {missing}")
        torn = None  # one that a full disk cut short is written again, with its number
        before[checkpoint.key] = checkpoint.number, digest_of_line(line)
        found.checkpoints.append((where, checkpoint))


def prove(book: StillBook, witnesses: Witnesses, customer: str | None) -> Iterator[VerifyView]:
    """Check one customer's book, or everyone's, one after the other; what is wrong with the file itself comes first.

    What belongs to no customer's view (a customer that is gone, checkpoints of another book) is added to
    the problems of `witnesses`; so look at those at the end.
    """
    for damage in book.damage():
        witnesses.note(f"the file is damaged: {damage}")
    heads = _heads_by_customer(book, witnesses)
    wanted = {customer} if customer is not None else heads.keys() | set(_customers(book))
    known = set(_customers(book))
    for name in sorted(wanted):
        signed = heads.get(name, ())
        if name not in known:
            current = [head for head in signed if head.until_ms is None]
            if current:
                last = max(current, key=lambda head: head.sequence)
                witnesses.note(f"customer {name}: is not in the book; {last.where} signed its entry {last.sequence}")
            continue

        async def check(tx: Transaction, name: str = name, signed: Sequence[SignedHead] = signed) -> VerifyView:
            return await verify(tx, name, signed)

        yield book.read(check)


def _heads_by_customer(book: StillBook, witnesses: Witnesses) -> dict[str, list[SignedHead]]:
    history, pasts = book.read(history_of), book.read(pasts_of)
    heads: dict[str, list[SignedHead]] = {}
    strange: dict[str, str] = {}
    for where, checkpoint in witnesses.checkpoints:
        if checkpoint.history_id != history and checkpoint.history_id not in pasts:
            strange.setdefault(checkpoint.history_id, where)
            continue
        until_ms = None if checkpoint.history_id == history else pasts[checkpoint.history_id]
        name = f"checkpoint {checkpoint.number} ({where})"
        for head in checkpoint.heads:
            heads.setdefault(head.customer, []).append(
                SignedHead(head.customer, head.sequence, head.hash, name, until_ms)
            )
    for other, where in strange.items():
        witnesses.note(f"{where}: is of a book with another history ({other}); this one's is {history or 'not named'}")
    return heads


def _customers(book: StillBook) -> list[str]:
    async def read(tx: Transaction) -> list[str]:
        return [row["customer"] for row in await tx.fetch("SELECT customer FROM customers ORDER BY customer")]

    return book.read(read)
