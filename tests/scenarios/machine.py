"""A machine to run processes on: its clock, its disks, and what is lost when it is switched off."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

from sidecar.app.data_folder import OUTBOX
from sidecar.outbox import writing
from sidecar.outbox.segments import segment_numbers, segment_path
from tests.scenarios.loop import PretendLoop

BEGINS_MS = 1_795_521_510_000
"""2026-11-24 11:58:30 UTC: an hour ends a minute and a half later."""


class PretendClock:
    """`ports.Clock` of one machine.

    `jump_ms`: how far its wall clock was set wrong; `slept_s`: how long it slept unknown to its monotonic clock, which
    is never where the machine `counts_sleep`.
    """

    def __init__(self, loop: PretendLoop, *, counts_sleep: bool = True) -> None:
        self._loop = loop
        self.counts_sleep = counts_sleep
        self.jump_ms = 0
        self.slept_s = 0.0

    def monotonic(self) -> float:
        """Seconds that only go forward, and through every sleep where the machine can tell."""
        return 1000.0 + self._loop.time() - self.slept_s

    def wall_ms(self) -> int:
        """Unix milliseconds, as this machine believes."""
        return BEGINS_MS + int(self._loop.time() * 1000) + self.jump_ms

    def true_ms(self) -> int:
        """Unix milliseconds, as they are."""
        return BEGINS_MS + int(self._loop.time() * 1000)


class Volume:
    """A folder that outlives processes. Its files are files; of each is known how much a power loss would leave."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.boot = f"boot-{number}"
        self.is_full = False
        self.fails_sync = False
        self.synced: dict[int, int] = {}
        self.named: set[str] = set()
        """Files whose names would survive; another may be gone whole, however much of it was synced."""
        self.synced_s = -1.0
        self.is_damaged = False
        """Where a header is damaged nobody can tell whose segment it was, and no later start is trusted either."""
        self.spoilt: set[int] = set()
        """Files of which some was not synced, and never will be: the kernel takes it for clean."""
        self._inodes: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def identity(self, inode: int) -> tuple[int, int]:
        """Device and inode, numbered so that a run does not depend on the machine that it is made on."""
        return self.number, self._inodes.setdefault(inode, len(self._inodes) + 1)

    def copy(self, folder: Path, number: int) -> Volume:
        """Another volume with the same contents, as from a snapshot."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("ballast"))
        copied = Volume(folder, number)
        copied.is_damaged = self.is_damaged
        copied.boot = self.boot  # on the same machine, which is the harder case: only the inodes tell
        return copied

    def lose_power(self, rng: random.Random) -> int:
        """Start the machine again: of each segment some of what was never synced is gone. Gives the bytes lost."""
        self.boot += "'"
        outbox, lost = self.folder / OUTBOX, 0
        for number in segment_numbers(outbox) if outbox.exists() else ():
            path = segment_path(outbox, number)
            found = path.stat()
            if path.name not in self.named and rng.random() < 0.5:
                path.unlink()
                lost += found.st_size
                continue
            synced = self.synced.get(found.st_ino, 0)
            if synced < found.st_size:
                left = rng.randint(synced, found.st_size)
                os.truncate(path, left)
                lost += found.st_size - left
        self.named = {path.name for path in outbox.iterdir()} if outbox.exists() else set()
        if rng.random() < 0.3:
            (outbox / "cursor.json").unlink(missing_ok=True)
        return lost

    def tear(self, rng: random.Random) -> bool:
        """Damage some bytes of a segment; False where there is none."""
        outbox = self.folder / OUTBOX
        paths = [segment_path(outbox, number) for number in segment_numbers(outbox)] if outbox.exists() else []
        paths = [path for path in paths if path.stat().st_size]
        if paths:
            path = rng.choice(paths)
            at = rng.randrange(path.stat().st_size)
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes(byte ^ 0x55 for byte in path.read_bytes()[at : at + 3]))
        return bool(paths)


class PretendDisk:
    """`ports.Disk`: one process's way to a volume. Once the process is dead nothing of it arrives any more."""

    def __init__(self, volume: Volume, loop: PretendLoop) -> None:
        self._volume = volume
        self._loop = loop
        self.is_dead = False

    def boot_id(self) -> str:
        """Of the volume's machine."""
        return self._volume.boot

    def identity(self, found: os.stat_result) -> tuple[int, int]:
        """Device and inode."""
        return self._volume.identity(found.st_ino)

    def write(self, descriptor: int, data: bytes) -> int:
        """To the real file, if there is room."""
        if self.is_dead:
            return len(data)
        if self._volume.is_full:
            self._loop.happened["write failed, the disk full"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writing.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Note how much would now survive."""
        if self.is_dead:
            return
        if self._volume.fails_sync:
            self._loop.happened["fsync failed"] += 1
            self._volume.spoilt.add(os.fstat(descriptor).st_ino)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        found = os.fstat(descriptor)
        self._volume.synced_s = self._loop.time()
        if found.st_ino not in self._volume.spoilt:
            self._volume.synced[found.st_ino] = found.st_size

    def sync_names(self, directory: Path) -> None:
        """Note which files would now survive."""
        if self.is_dead:
            return
        if self._volume.fails_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._volume.named = {path.name for path in directory.iterdir()}
