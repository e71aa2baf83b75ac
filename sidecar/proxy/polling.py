"""Asking the kernel about one socket, without letting go of the interpreter's lock.

`select.poll` gives the lock up even for a question that does not wait. With another thread at work
(the embedded ledger's) getting it back takes a hundred times as long as the answer.
"""

from __future__ import annotations

import ctypes
import select
from typing import Final

_libc: Final = ctypes.PyDLL(None)  # PyDLL, not CDLL: the lock is kept
_poll: Final = _libc.poll


class _Question(ctypes.Structure):
    """`struct pollfd`."""

    _fields_ = (("descriptor", ctypes.c_int), ("events", ctypes.c_short), ("returned", ctypes.c_short))


_poll.argtypes = (ctypes.POINTER(_Question), ctypes.c_ulong, ctypes.c_int)
_poll.restype = ctypes.c_int


class Poller:
    """Whether one socket has something to read, or has ended."""

    __slots__ = ("_question",)

    def __init__(self, descriptor: int) -> None:
        self._question = _Question(descriptor, select.POLLIN, 0)

    def is_readable(self) -> bool:
        """Ask now; does not wait. A socket that has failed counts as readable."""
        return bool(_poll(self._question, 1, 0))
