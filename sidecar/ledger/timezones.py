"""A customer's time zones as the book keeps them, and setting another (L37).

All that it ever had are kept, for what comes late is counted in its own period (L38), and that was told by
the time zone of then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.governance.periods import Zones
from sidecar.errors import Rejected
from sidecar.ports import Row

MAX_CHANGES: Final = 50
"""Of a customer's time zone, ever: each is looked at again and again. A company moves less often."""


def zones_of(row: Row) -> Zones:
    """The time zones in a row of `customers`."""
    return _read(row["timezones"])


@lru_cache(maxsize=8192)
def _read(text: str) -> Zones:
    return msgspec.json.decode(text, type=Zones)


def write(zones: Zones) -> str:
    """Time zones as a row of `customers` has them."""
    return msgspec.json.encode(zones).decode()


def changed(zones: Zones, name: str, now_ms: int) -> Zones:
    """What they are once another is set; those that are set already stay as they are.

    Raises:
        Rejected: there were MAX_CHANGES.
    """
    if zones[-1][1] == name:
        return zones
    if len(zones) > MAX_CHANGES:
        raise Rejected("too_many_changes", {"timezone": f"a customer's time zone changes at most {MAX_CHANGES} times"})
    return (*zones, (now_ms, name))
