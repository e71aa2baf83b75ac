"""Files of checkpoints: one a line, only ever appended to.

When a file has grown to its bound it becomes `FILE.1`, in place of the one before, and a new one is
begun. Whoever wants to keep more moves them away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.core.credits.checkpoints import MAX_LINE_BYTES

CHECKPOINTS: Final = "checkpoints.jsonl"
KEY: Final = "checkpoint.key"


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """Where checkpoints go, and how often.

    `path` and `key_file` are `checkpoints.jsonl` and `checkpoint.key` in the data folder where they are not
    said; they are worth most where whoever can write the book cannot write them. 0 of `every_s`: none are made.
    """

    path: Path | None = None
    key_file: Path | None = None
    every_s: float = 60.0
    max_bytes: int = 64 * 1024 * 1024

    def path_in(self, data: Path) -> Path:
        """The file of checkpoints of a process with this data folder."""
        return self.path or data / CHECKPOINTS

    def key_in(self, data: Path) -> Path:
        """The file of its key."""
        return self.key_file or data / KEY


def rotated(path: Path) -> Path:
    """Where the file goes when it is full."""
    return path.with_name(path.name + ".1")


class CheckpointFile:
    """Appends to one file. Each append is one write; `durable` ones reach the disk before they return."""

    def __init__(self, path: Path, *, max_bytes: int, durable: bool) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._durable = durable

    def make_room(self) -> bool:
        """Begin a new file if this one is full; True if one was begun.

        Raises:
            OSError: it cannot.
        """
        if not self.path.exists() or self.path.stat().st_size < self._max_bytes:
            return False
        self.path.replace(rotated(self.path))
        return True

    def append(self, lines: list[str]) -> None:
        """Append some lines; one that a crash left torn ends first.

        Raises:
            OSError: they could not be written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            data = ("\n" if torn else "").encode() + "".join(line + "\n" for line in lines).encode("ascii")
            if file.write(data) != len(data):
                raise OSError(28, "the disk is full")
            if self._durable:
                os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1; none where there is no file.

    A line without an end is one that was being written, and is left out.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 2):
            number += 1
            if raw.endswith(b"\n"):
                yield number, raw[:-1].decode("ascii", "replace")
            elif len(raw) > MAX_LINE_BYTES:
                yield number, raw.decode("ascii", "replace")
