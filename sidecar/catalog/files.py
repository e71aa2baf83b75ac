"""Reads a file that people configure us by: a plain file, of bounded size, that not everybody may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError

MAX_BYTES: Final = 4 * 1024 * 1024


def read_configured(path: Path) -> bytes:
    """The file's bytes. A link is followed: Kubernetes mounts a ConfigMap as links to its current version.

    Raises:
        ConfigurationError: it cannot be read, is no plain file (a pipe would be waited for, a device
            has no end), has more than MAX_BYTES, or may be written by anybody on the machine: who
            writes the prices decides what is spent.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        raise ConfigurationError([f"{path}: cannot be read: {problem.strerror}"]) from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigurationError([f"{path}: cannot be read: not a plain file"])
        if mode & stat.S_IWOTH:
            raise ConfigurationError([f"{path}: anybody on this machine may write it; run chmod o-w on it"])
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise ConfigurationError([f"{path}: cannot be read: {problem.strerror}"]) from None
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise ConfigurationError([f"{path}: larger than {MAX_BYTES} bytes"])
    return data
