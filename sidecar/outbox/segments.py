"""The outbox's files: numbered segments in one folder, one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError

BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")

_NAME: Final = re.compile(r"(\d{8})\.seg", re.ASCII)


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment stands."""
    return directory / f"{number:08}.seg"


def segment_numbers(directory: Path) -> list[int]:
    """The segments that there are, ascending."""
    return sorted(int(match[1]) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))


def trust_path(directory: Path, incarnation: str) -> Path:
    """A file that stands for "every write of this incarnation succeeded": removed when one did not.

    Removing a file succeeds on a full disk, where writing down that something failed would not.
    """
    return directory / f"trusted-{incarnation}"


def boot_id() -> str:
    """Names this run of the kernel; empty where it cannot be told."""
    try:
        return BOOT_ID_PATH.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def sync_directory(directory: Path) -> None:
    """Make names in a folder durable.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old contents or the new, never a part; not durable by itself.

    Raises:
        OSError: the disk failed; the old contents stand.
    """
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    fresh.replace(path)


class SpoolLock:
    """Exclusive use of an outbox's folder, for as long as this process lives or until `release`."""

    def __init__(self, directory: Path) -> None:
        """Make the folder if need be, and lock it.

        Raises:
            ConfigurationError: another process uses it, or it cannot be made or written.
        """
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise ConfigurationError([f"{directory}: expected a folder to write to: {problem.strerror}"]) from problem
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(self._descriptor)
            raise ConfigurationError([f"{directory}: another process is using this outbox"]) from problem

    def release(self) -> None:
        """Let others use the folder; doing so twice is doing it once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
