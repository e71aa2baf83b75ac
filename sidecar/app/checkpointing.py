"""Signing where every customer's chain stands, and letting that leave the book: each minute, and at the end (L8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sidecar.app.checkpoint_files import CheckpointFile, CheckpointOptions, read_lines
from sidecar.app.signing import Signer
from sidecar.core.credits.checkpoints import (
    MAX_HEADS,
    Checkpoint,
    CheckpointError,
    Head,
    digest_of_line,
    line_of,
    read_line,
    signed_text,
)
from sidecar.errors import ConfigurationError, LedgerUnavailable
from sidecar.ledger.history import SYSTEM, heads_after, history_id
from sidecar.ports import Book, Clock, Ids, Transaction

PAGE: Final = 1000
"""Heads read from the book at a time."""

logger = logging.getLogger(__name__)


class Checkpointer:
    """Makes the checkpoints of one ledger. Use it from one event loop.

    Args:
        book: whose heads.
        clock: for the time that each says.
        ids: for the book's history id, should nobody have asked for it yet.
        options: where they go.
        data: the data folder.
        tell: hears of each line that was written; must not block.
    """

    def __init__(
        self,
        book: Book,
        clock: Clock,
        ids: Ids,
        options: CheckpointOptions,
        *,
        data: Path,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._book = book
        self._clock = clock
        self._ids = ids
        self._key_file = options.key_in(data)
        self._file = CheckpointFile(options.path_in(data), max_bytes=options.max_bytes, durable=True)
        self._tell = tell
        self._signer: Signer | None = None
        self._told: dict[str, Head] = {}
        self._history = ""
        self._number = 0
        self._previous = ""
        self._has_read = False
        self._one_at_a_time = asyncio.Lock()
        self.failing = False

    async def make(self) -> int:
        """Sign what moved since the last time; gives how many checkpoints were written.

        Raises:
            LedgerUnavailable: the book cannot be read.
            ConfigurationError, OSError: key or file cannot be used; the next call tries again.
        """
        async with self._one_at_a_time:
            if not self._has_read:
                await asyncio.to_thread(self._go_on)
                self._has_read = True
            history = await self._book.read(SYSTEM, history_of)
            if not history:
                history = await self._book.transact(SYSTEM, lambda tx: history_id(tx, self._ids))
            if history != self._history:
                self._history = history
                self._told.clear()
            if await asyncio.to_thread(self._file.make_room):
                self._told.clear()  # a new file begins with every head
            moved = [head async for head in self._heads() if self._told.get(head.customer) != head]
            if moved:
                await asyncio.to_thread(self._write, moved)
            return -(-len(moved) // MAX_HEADS)

    async def _heads(self) -> AsyncIterator[Head]:
        after = ""
        while True:

            async def read(tx: Transaction, after: str = after) -> list[Head]:
                return await heads_after(tx, after, PAGE)

            page = await self._book.read_everyone(read)
            for head in page:
                yield head
            if len(page) < PAGE:
                return
            after = page[-1].customer

    def _go_on(self) -> None:
        """Take up where an earlier start left the file."""
        for _, line in read_lines(self._file.path):
            try:
                checkpoint = read_line(line)
            except CheckpointError:
                continue  # `spend verify` tells of it
            if checkpoint.history_id != self._history:
                self._history = checkpoint.history_id
                self._told.clear()
            self._told.update({head.customer: head for head in checkpoint.heads})
            self._number, self._previous = checkpoint.number, digest_of_line(line)

    def _write(self, moved: list[Head]) -> None:
        if self._signer is None:
            self._signer = Signer(self._key_file)
        lines: list[str] = []
        number, previous = self._number, self._previous
        for start in range(0, len(moved), MAX_HEADS):
            number += 1
            heads = tuple(moved[start : start + MAX_HEADS])
            made_at_ms = self._clock.wall_ms()
            unsigned = Checkpoint(self._history, number, made_at_ms, heads, previous, self._signer.public)
            line = line_of(msgspec.structs.replace(unsigned, signature=self._signer.sign(signed_text(unsigned))))
            previous = digest_of_line(line)
            lines.append(line)
        self._file.append(lines)
        self._number, self._previous = number, previous
        self._told.update({head.customer: head for head in moved})
        if self._tell is not None:
            for line in lines:
                self._tell(line)


async def history_of(tx: Transaction) -> str:
    """The name of the book's history; `` where nobody has asked for it yet."""
    rows = await tx.fetch("SELECT value FROM meta WHERE name = 'history_id'")
    return rows[0]["value"] if rows else ""


@asynccontextmanager
async def checkpoints_made(checkpointer: Checkpointer, every_s: float) -> AsyncIterator[None]:
    """Make them while a block runs, and once more after it. 0: none."""
    if not every_s:
        yield
        return
    stopping = asyncio.Event()
    making = asyncio.create_task(_make_again_and_again(checkpointer, every_s, stopping))
    try:
        yield
    finally:
        stopping.set()  # one that is being written is written to its end
        await making


async def _make_again_and_again(checkpointer: Checkpointer, every_s: float, stopping: asyncio.Event) -> None:
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await stopping.wait()
        ending = stopping.is_set()
        await _make_once(checkpointer)
        if ending:
            return


async def _make_once(checkpointer: Checkpointer) -> None:
    try:
        await checkpointer.make()
    except (OSError, ConfigurationError, LedgerUnavailable) as problem:
        if not checkpointer.failing:
            logger.error("checkpoint_not_made", extra={"facts": {"problem": str(problem)}})
        checkpointer.failing = True
    else:
        checkpointer.failing = False
