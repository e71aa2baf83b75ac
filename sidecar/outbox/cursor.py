"""How far the ledger has acknowledged the outbox."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from sidecar.outbox.segments import replace_file

logger = logging.getLogger("sidecar.outbox")


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the outbox: before byte `offset` of segment `segment` everything is acknowledged."""

    segment: int = 0
    offset: int = 0


class _Cursor(msgspec.Struct, frozen=True):
    position: Position
    history_id: str = ""
    heard: int = 0
    replay_until: Position | None = None


class Cursor:
    """The position, and what tells the book that acknowledged it from any other, in a file of its own.

    The file may lag or be lost: what is sent again is booked once (L29).

    Attributes:
        position: before it everything is acknowledged.
        history_id: of the book that did so; empty if none did yet.
        heard: the greatest count (`SyncReply.heard`) in its replies.
        replay_until: the book was replaced or rolled back, and may still lack what stands before this place.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "cursor.json"
        self.position, self.history_id, self.heard = Position(), "", 0
        self.replay_until: Position | None = None
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_Cursor)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            logger.warning("cursor_unreadable", extra={"facts": {"path": str(self._path)}})
            return
        self.position, self.history_id, self.heard = found.position, found.history_id, found.heard
        self.replay_until = found.replay_until

    def move(self, position: Position, history_id: str, heard: int) -> None:
        """Remember that everything before a position is acknowledged; in memory also where the disk refuses it.

        A count that is new and nothing else is not worth a write: a book from before it has
        every call that was acknowledged.
        """
        before = (self.position, self.history_id, self.replay_until)
        self.position, self.history_id, self.heard = position, history_id, heard
        if self.replay_until is not None and position >= self.replay_until:
            self.replay_until = None
        if (self.position, self.history_id, self.replay_until) != before:
            self._write()

    def begin_again(self, history_id: str, heard: int, until: Position) -> None:
        """Another book, or an earlier one, has to be sent all that is kept, at least up to a place (L50a)."""
        self.position, self.history_id, self.heard, self.replay_until = Position(), history_id, heard, until
        self._write()

    def _write(self) -> None:
        state = _Cursor(self.position, self.history_id, self.heard, self.replay_until)
        try:
            replace_file(self._path, msgspec.json.encode(state))
        except OSError as problem:
            logger.warning("cursor_not_written", extra={"facts": {"problem": problem.strerror}})
