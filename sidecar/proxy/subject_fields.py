"""The names under which a request says who is spending, and what is probably meant by one that is none."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

FIELDS: Final = ("customer", "path", "user", "agent", "session", "feature", "product")
"""The fields of a subject, each with a header `Spend-Field` and a baggage member `spend.field`."""

NEAR: Final = 0.72
"""How alike (difflib's ratio) a name must be to a field's to count as a slip of the pen."""

MAX_NAME: Final = 32
"""Longer names are no slips."""


def meant_by(name: str) -> str:
    """The field that a name without its `Spend-` or `spend.` probably stands for; empty: none.

    A field's own name is no slip, and gives itself.
    """
    if name in FIELDS:
        return name
    near = get_close_matches(name, FIELDS, n=1, cutoff=NEAR) if len(name) <= MAX_NAME else []
    return near[0] if near else ""
