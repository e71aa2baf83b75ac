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


class Cursor:
    """The position, and the history of the book that acknowledged it, in a file of its own.

    The file may lag or be lost: what is sent again is booked once (L29).
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "cursor.json"
        self.position, self.history_id = Position(), ""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_Cursor)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            logger.warning("cursor_unreadable", extra={"facts": {"path": str(self._path)}})
            return
        self.position, self.history_id = found.position, found.history_id

    def move(self, position: Position, history_id: str) -> None:
        """Remember a position; in memory also where the disk refuses it."""
        if (position, history_id) == (self.position, self.history_id):
            return
        self.position, self.history_id = position, history_id
        try:
            replace_file(self._path, msgspec.json.encode(_Cursor(position, history_id)))
        except OSError as problem:
            logger.warning("cursor_not_written", extra={"facts": {"problem": problem.strerror}})
