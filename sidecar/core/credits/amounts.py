"""Money and credits as whole numbers.

An amount is an integer count of a currency's smallest part, its *atoms*. How small an atom
is, the currency's `scale` says: `usd` has scale 9, so one atom is a billionth of a dollar and
one token at $0.15 per million costs 150 of them. No float ever stands for money: a float
cannot say 0.1, and a budget that is wrong by a rounding error is wrong.
"""

from __future__ import annotations

import re

import msgspec

MAX_ATOMS = 2**62 - 1
"""Largest amount taken. Two of them still add up within a signed 64-bit column."""

_DECIMAL = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,18})?", re.ASCII)


class AmountError(ValueError):
    """Not an amount of this currency: the message says what was expected."""


class Currency(msgspec.Struct, frozen=True):
    """A kind of credit. `scale` is the number of decimal digits of one unit (0 … 12)."""

    code: str
    scale: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", self.code, re.ASCII):
            raise AmountError(f"a currency's code is lower case letters and digits, at most 32: {self.code[:40]!r}")
        if not 0 <= self.scale <= 12:
            raise AmountError(f"a currency's scale is 0 to 12, not {self.scale}")


def checked_atoms(atoms: object) -> int:
    """Give `atoms` back if it is an amount (an int, 0 … MAX_ATOMS), else raise AmountError.

    A bool is not an amount, although Python would count with it.
    """
    if type(atoms) is not int:
        raise AmountError(f"an amount is a whole number of atoms, not {type(atoms).__name__}")
    if not 0 <= atoms <= MAX_ATOMS:
        raise AmountError(f"an amount is 0 to {MAX_ATOMS} atoms")
    return atoms


def parse_amount(text: str, currency: Currency) -> int:
    """Read a decimal such as `12.50` into atoms, exactly.

    Refused with AmountError: signs, exponents, separators, blanks, more digits after the point
    than the currency has, and amounts above MAX_ATOMS. Nothing is rounded.
    """
    if re.fullmatch(r"[0-9]{20,}(?:\.[0-9]*)?", text, re.ASCII):
        raise AmountError(f"{text[:40]} is more than an amount can be")
    if text.startswith("-"):
        raise AmountError("an amount cannot be negative")
    if not _DECIMAL.fullmatch(text):
        raise AmountError(f"expected a plain decimal such as 12.50, got {text[:40]!r}")
    whole, _, fraction = text.partition(".")
    if len(fraction.rstrip("0")) > currency.scale:
        raise AmountError(f"{currency.code} has {currency.scale} digits after the point, {text[:40]!r} has more")
    atoms = int(whole) * 10**currency.scale + int((fraction[: currency.scale] or "0").ljust(currency.scale, "0") or "0")
    return checked_atoms(atoms)


def format_amount(atoms: int, currency: Currency) -> str:
    """Write atoms as a decimal with at least two digits after the point (none for scale 0).

    Exact and reversible: `parse_amount` of it gives the atoms back. A debt is written with `-`.
    """
    sign, atoms = ("-", -atoms) if atoms < 0 else ("", atoms)
    if currency.scale == 0:
        return f"{sign}{atoms}"
    scale = currency.scale
    whole, part = divmod(atoms, 10**scale)
    digits = str(part).zfill(scale).rstrip("0")
    if len(digits) < 2:
        digits = digits.ljust(min(2, scale), "0")
    return f"{sign}{whole}.{digits}"
