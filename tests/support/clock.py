"""Time and names that a test decides."""

from __future__ import annotations


class FakeClock:
    """`ports.Clock` that stands still until it is told otherwise. Starts at 2026-11-24 12:00 UTC."""

    def __init__(self, wall_ms: int = 1_795_521_600_000) -> None:
        self._wall_ms = wall_ms
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        """Seconds that only `advance` moves."""
        return self._monotonic

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        return self._wall_ms

    def advance(self, seconds: float) -> None:
        """Let both clocks run on."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back; use `set_wall`")
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)

    def set_wall(self, wall_ms: int) -> None:
        """Somebody sets the wall clock, also backwards; the monotonic one does not notice."""
        self._wall_ms = wall_ms


class SequentialIds:
    """`ports.Ids` that count: `req_0001`, `req_0002`, each prefix for itself."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def new(self, prefix: str) -> str:
        """The next id with this prefix."""
        self._last[prefix] = self._last.get(prefix, 0) + 1
        return f"{prefix}_{self._last[prefix]:04}"
