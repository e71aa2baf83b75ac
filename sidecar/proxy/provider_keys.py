"""A provider's key from a mounted file, so that the application never holds it.

The file is looked at every few seconds and read again when it has changed: a rotated secret needs
no restart. A file that has become unreadable or empty keeps the last good key.
"""

from __future__ import annotations

import logging
import re
import stat
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError
from sidecar.proxy.sweep import Sweep

RECHECK_S: Final = 5.0
MAX_KEY_BYTES: Final = 8192

_VISIBLE: Final = re.compile(rb"[!-~]+")

logger = logging.getLogger(__name__)


class ProviderKey:
    """A key and the header it goes out in.

    Attributes:
        line: the whole header line, ending in CRLF.
        secret: the key alone, to know it by should a provider repeat it.
        former: the one that it took the place of, for calls that still run with it; empty for none.
    """

    __slots__ = ("_header", "_looked_at", "_path", "_prefix", "_seen", "former", "line", "secret")

    def __init__(self, path: Path, *, header: str, prefix: str, sweep: Sweep) -> None:
        """Read the key; `header` and `prefix` are such as `Authorization` and `Bearer `.

        Raises:
            ConfigurationError: the file cannot be read, or holds no key.
        """
        self._path = path
        self._header = header.encode("ascii")
        self._prefix = prefix.encode("ascii")
        self._looked_at = sweep.now
        self.former = self.secret = b""
        try:
            self._seen = self._stamp()
            self._read()
        except (OSError, ValueError) as exc:
            raise ConfigurationError([f"{path}: expected a file with a provider's key: {exc}"]) from None
        sweep.watch(self)

    def check(self, now: float) -> None:
        """Read the file again if it has changed (`Sweep`)."""
        if now - self._looked_at < RECHECK_S:
            return
        self._looked_at = now
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._read()
                self._seen = stamp
        except (OSError, ValueError) as exc:
            logger.warning("provider_key_unreadable", extra={"facts": {"path": str(self._path), "reason": str(exc)}})

    def _stamp(self) -> tuple[int, int, int]:
        facts = self._path.stat()
        if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
            raise ValueError("not a plain file")
        return facts.st_mtime_ns, facts.st_ino, facts.st_size

    def _read(self) -> None:
        with self._path.open("rb") as file:
            key = file.read(MAX_KEY_BYTES + 1).strip()
        if len(key) > MAX_KEY_BYTES or not _VISIBLE.fullmatch(key):
            raise ValueError("a key is one word of visible ASCII")
        if key != self.secret:
            self.former, self.secret = self.secret, key
        self.line = b"%b: %b%b\r\n" % (self._header, self._prefix, key)
