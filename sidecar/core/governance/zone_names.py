"""The names of time zones (IANA) that can be read here."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache

NOT_PLACES = frozenset({"Factory", "localtime", "posixrules"})
"""What stands among the rules, and is the machine's own affair."""


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """All of them: read once, and only when somebody sets one."""
    from zoneinfo import available_timezones  # noqa: PLC0415 - as in `local_time`

    return frozenset(available_timezones()) - NOT_PLACES


def nearest_zones(text: str) -> tuple[str, ...]:
    """Names that were perhaps meant: `tokyo` is the end of one; at most three, the likeliest first."""
    wanted = text.strip().lower().replace(" ", "_")
    by_lower = {name.lower(): name for name in sorted(zone_names())}
    ends = [name for lower, name in by_lower.items() if wanted in (lower, lower.rpartition("/")[2])]
    return tuple(dict.fromkeys([*ends, *(by_lower[one] for one in get_close_matches(wanted[:64], by_lower, n=3))]))[:3]
