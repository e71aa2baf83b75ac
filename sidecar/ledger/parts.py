"""How much of a long list is asked for, and from where on."""

from __future__ import annotations

from typing import Final, NamedTuple


class Part(NamedTuple):
    """So many rows of a list behind the one that is named; `` for its beginning."""

    after: str = ""
    limit: int = 2**31


WHOLE: Final = Part()
