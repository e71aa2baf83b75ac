"""`write()` without letting go of the interpreter's lock.

Between a decision and its record nobody else is to run, and a record goes to the page cache in a
few microseconds. `os.write` gives up the lock around it, so with another thread at work (the
embedded ledger's) each record would cost two switches of threads: ten times the write itself. The
thread that writes is the event loop's, which waits for the write in either case.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_libc: Final = ctypes.PyDLL(None, use_errno=True)  # PyDLL, not CDLL: the lock is kept
_write: Final = _libc.write
_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_write.restype = ctypes.c_ssize_t


def write(descriptor: int, data: bytes) -> int:
    """As `os.write`, for files on a local disk: how many bytes were taken.

    Raises:
        OSError: none were.
    """
    written: int = _write(descriptor, data, len(data))
    if written < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return written
