"""What is within JSON that other parsers read differently or not at all: keys with NUL or given twice, endless numbers.

The first and the last are searched for in the bytes, by what the C library finds fast, and only a find is looked at
closely: nearly every body has neither, and must not pay for it. The bytes are known to be JSON, so
a pattern that passes over strings passes over exactly the strings.

Source: RFC 8259 sections 6 and 8; IEEE 754 binary64, whose largest value is below 1.8e308.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")(\s*+:)?+', re.DOTALL)
_FAR: Final = re.compile(rb"(?<![0-9.+-])-?(?:\d++(?:\.\d++)?+[eE][+-]?\d++|\d{309,}+)")
"""Not within a number: a long run of digits would else be tried again from each of them."""

_ESCAPE: Final = re.compile(rb"\\[^u]")
"""So that an escaped backslash before `u0000` is not taken for NUL."""

_NUL: Final = rb"\u0000"

_LONG_EXPONENT: Final = b"e000"
_LONG_RUN: Final = b"0" * 200
"""Without three digits in its exponent a number needs more than 200 digits to be beyond 1e308."""

_SHAPE: Final = bytes(
    ord("0") if chr(byte).isdecimal() or byte == ord("+") else ord("e") if byte == ord("E") else byte
    for byte in range(256)
)
"""Every digit and every plus as 0, every E as e."""


def has_key_with_nul(raw: bytes) -> bool:
    """Whether a key at any depth of this JSON has NUL in it; a text may have it."""
    if raw.rfind(_NUL) < 0:
        return False
    return any(
        found[2] is not None and _NUL in found[1] and _ESCAPE.sub(b"", found[1]).find(_NUL) >= 0
        for found in _KEY.finditer(raw)
    )


def repeated_key(raw: bytes) -> str | None:
    """A key that stands twice in one object, at any depth of this JSON, however it is escaped; None if there is none.

    It makes an object of everything, so it is for the short bodies of our own APIs.

    Raises:
        ValueError: this is no JSON in UTF-8, or a number has too many digits.
        RecursionError: nested too deeply.
    """
    repeated: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                repeated.append(name)
            seen.add(name)

    json.loads(raw.decode(), object_pairs_hook=look)
    return repeated[0] if repeated else None


def has_number_out_of_range(raw: bytes) -> bool:
    """Whether a number, at any depth of this JSON, is beyond every float; a text may say so."""
    shape = raw.translate(_SHAPE)
    if shape.rfind(_LONG_EXPONENT) < 0 and shape.rfind(_LONG_RUN) < 0:
        return False
    return any(math.isinf(float(found[0])) for found in _FAR.finditer(_STRING.sub(b'""', raw)))
