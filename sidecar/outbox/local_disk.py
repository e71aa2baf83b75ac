"""The disk under this machine's files."""

from __future__ import annotations

import os

from sidecar.outbox import segments, writing


class LocalDisk:
    """`ports.Disk` as the kernel has it."""

    write = staticmethod(writing.write)
    sync = staticmethod(os.fdatasync)
    sync_names = staticmethod(segments.sync_directory)
    boot_id = staticmethod(segments.boot_id)

    @staticmethod
    def identity(found: os.stat_result) -> tuple[int, int]:
        """Device and inode."""
        return found.st_dev, found.st_ino
