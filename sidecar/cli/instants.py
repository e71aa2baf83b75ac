"""Reading what people write for a time: a duration, or an instant (a date, a date and time, a duration from now)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import click

_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d|w)", re.ASCII)
_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?")


class Duration(click.ParamType[int]):
    """`5h`, `30d`, `90s`, as milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read one."""
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{str(value)[:64]!r}: expected a duration such as 5h, 30d or 90s.", param, ctx)
        return int(found[1]) * _MS[found[2]]


def show_duration(seconds: int) -> str:
    """A duration as it is typed, in the largest unit that it is whole in."""
    unit = next(unit for unit in ("w", "d", "h", "m", "s") if seconds * 1000 % _MS[unit] == 0)
    return f"{seconds * 1000 // _MS[unit]}{unit}"


class Instant(click.ParamType[int]):
    """`2026-12-31`, `2026-12-31T18:00Z`, or `30d`, `12h`, `15m`, `90s`, `2w` from now, as Unix milliseconds.

    A date is its first instant; what names no time zone is UTC. A duration is read on this
    machine's clock, forward, or back where `past`.
    """

    name = "T"

    def __init__(self, *, past: bool = False) -> None:
        self._past = past

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read one."""
        if isinstance(value, int):
            return value
        text = str(value)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        duration = _DURATION.fullmatch(text)
        if duration is not None:
            span_ms = int(duration[1]) * _MS[duration[2]]
            return max(0, now_ms - span_ms) if self._past else now_ms + span_ms
        try:
            if not _DATE.fullmatch(text):
                raise ValueError(text)
            at = datetime.fromisoformat(text)
        except ValueError:
            wanted = "a date (2026-12-31), a date and time (2026-12-31T18:00Z) or a duration (30d, 12h, 90s)"
            self.fail(f"{text!r}: expected {wanted}.", param, ctx)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
