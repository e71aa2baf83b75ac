"""Patterns by which grants and budgets say what they cover.

A pattern is plain text in which `*` stands for any run of characters, also none. Matching
is linear in the value's length whatever the pattern: values come from callers.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PATTERN = re.compile(r"[A-Za-z0-9._:@/*-]{1,128}", re.ASCII)


def is_pattern(text: str) -> bool:
    """Whether `text` may stand as a pattern."""
    return _PATTERN.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("*"))


def fits(pattern: str, value: str) -> bool:
    """Whether a value fits a pattern, from its first character to its last."""
    first, *rest = _parts(pattern)
    if not rest:
        return value == first
    *middle, last = rest
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in middle:  # the leftmost place each time: if any arrangement fits, this one does
        at = value.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
