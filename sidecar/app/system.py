"""The machine's own clock and randomness, as the ports want them."""

from __future__ import annotations

import secrets
import time

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere `monotonic` has to do

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # 32 characters: five bits each, none mistaken for another


class SystemClock:
    """`ports.Clock` on this machine."""

    def monotonic(self) -> float:
        """Seconds that only go forward, those of the machine's sleep too where the kernel counts them."""
        return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000


class RandomIds:
    """`ports.Ids` from the kernel's randomness.

    Bytes are fetched some thousand at a time: one system call per request would be a tenth of
    what a decision costs.
    """

    _BATCH = 4096

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def new(self, prefix: str) -> str:
        """`prefix_` and 26 characters that carry 130 random bits."""
        if self._at + 26 > len(self._pool):
            self._pool = secrets.token_bytes(26 * (self._BATCH // 26))
            self._at = 0
        raw = self._pool[self._at : self._at + 26]
        self._at += 26
        return f"{prefix}_{raw.translate(_TO_ALPHABET).decode('ascii')}"


_TO_ALPHABET = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
