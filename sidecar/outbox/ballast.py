"""Disk space that is taken up beforehand, so that a settlement can have it when there is no other."""

from __future__ import annotations

import os
from pathlib import Path


class Ballast:
    """A file of so many bytes; 0: none is wanted."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def fill(self) -> None:
        """Take the space up.

        Raises:
            OSError: there is not so much.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if self._size:
                os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            self.drop()
            raise
        finally:
            os.close(descriptor)

    def drop(self) -> None:
        """Leave the space to others.

        Raises:
            OSError: the disk failed.
        """
        self._path.unlink(missing_ok=True)
