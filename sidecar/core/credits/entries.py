"""The journal: what an entry is, what it moves, and how it is chained to the one before (L6 … L9).

Every amount that exists stands in exactly one *bucket* of one account, and an entry moves it
between the buckets of that account. `source` is where it came from (always zero or negative),
so that the buckets of an account sum to zero at every moment: nothing is made or lost, and
`issued = available + held + leased + consumed + expired + revoked + unaccounted` needs no
separate bookkeeping.

Entries are hashed over one canonical text, so that anybody can check a chain with a JSON
library and SHA-256 and nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, MutableMapping
from enum import StrEnum

import msgspec

VERSION = 1
"""Of the text that is hashed."""

GENESIS = "0" * 64
"""Stands for the hash before a customer's first entry."""

MAX_BUCKET = 2**63 - 1
"""What a signed 64-bit column holds, either way."""


class Bucket(StrEnum):
    """Where in an account an atom can stand."""

    SOURCE = "source"  # what was put in, negative
    AVAILABLE = "available"
    HELD = "held"
    LEASED = "leased"  # with a sidecar, also one that is silent
    CONSUMED = "consumed"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNACCOUNTED = "unaccounted"


class PostingError(ValueError):
    """An entry would break the book: it does not sum to zero, or takes what is not there."""


class Leg(msgspec.Struct, frozen=True):
    """One movement of a posting: `atoms` into (or, negative, out of) a bucket of an account."""

    account: str
    bucket: str
    currency: str
    atoms: int


class Balance(msgspec.Struct):
    """What stands in each bucket of one account, in atoms. They sum to zero."""

    currency: str
    source: int = 0
    available: int = 0
    held: int = 0
    leased: int = 0
    consumed: int = 0
    expired: int = 0
    revoked: int = 0
    unaccounted: int = 0


class Entry(msgspec.Struct, frozen=True):
    """One line of a customer's journal: a posting (with legs) or a fact (without).

    `sequence` counts from 1. `key` is unique per customer and kind, or `` where nothing needs
    it. Instants are Unix milliseconds: `recorded_at_ms` never goes back within a customer,
    `occurred_at_ms` may be earlier. `facts` hold text, whole numbers, booleans, null, lists and objects.
    """

    customer: str
    sequence: int
    kind: str
    key: str
    actor: str
    recorded_at_ms: int
    occurred_at_ms: int
    legs: tuple[Leg, ...]
    facts: dict[str, object]


class Moves:
    """Collects what an entry moves; several moves of one bucket become one leg."""

    def __init__(self) -> None:
        self._atoms: dict[tuple[str, str, str], int] = {}

    def move(self, account: str, currency: str, origin: Bucket, target: Bucket, atoms: int) -> None:
        """Move atoms (zero or more) from one bucket of an account to another.

        Raises:
            PostingError: fewer than none.
        """
        if atoms < 0:
            raise PostingError(f"{account}: a move of {atoms} atoms")
        if atoms:
            out, into = (account, origin.value, currency), (account, target.value, currency)
            self._atoms[out] = self._atoms.get(out, 0) - atoms
            self._atoms[into] = self._atoms.get(into, 0) + atoms

    def legs(self) -> tuple[Leg, ...]:
        """The legs, in the order first moved; what cancelled out is left away."""
        return tuple(
            Leg(account, bucket, currency, atoms) for (account, bucket, currency), atoms in self._atoms.items() if atoms
        )


def post(balances: MutableMapping[str, Balance], legs: Iterable[Leg]) -> None:
    """Apply an entry's legs to the balances; an account not yet there starts at zero.

    Raises:
        PostingError: the legs of an account do not sum to zero; a leg is in another currency
            than its account; a bucket would fall below zero, which only `source` and the
            `available` of a budget may (a budget can be overrun or lowered, money cannot);
            or a bucket would not fit a 64-bit column. The balances are then as they were.
    """
    after: dict[str, Balance] = {}
    sums: dict[str, int] = {}
    for leg in legs:
        balance = after.get(leg.account)
        if balance is None:
            before = balances.get(leg.account)
            balance = after[leg.account] = Balance(leg.currency) if before is None else _copy(before)
        if balance.currency != leg.currency:
            raise PostingError(f"{leg.account} is in {balance.currency}, not {leg.currency}")
        setattr(balance, Bucket(leg.bucket).value, getattr(balance, leg.bucket) + leg.atoms)
        sums[leg.account] = sums.get(leg.account, 0) + leg.atoms
    for account, total in sums.items():
        if total:
            raise PostingError(f"{account}: legs sum to {total}, not to zero")
    for account, balance in after.items():
        check(account, balance)
    balances.update(after)


def check(account: str, balance: Balance) -> None:
    """Refuse a balance that cannot be (L6).

    Raises:
        PostingError: a bucket is on the wrong side of zero, as in `post`, does not fit a 64-bit column, or all of
            them do not sum to zero.
    """
    parts = (balance.held, balance.leased, balance.consumed, balance.expired, balance.revoked, balance.unaccounted)
    if min(parts) < 0 or balance.source > 0 or (balance.available < 0 and not account.startswith("budget:")):
        raise PostingError(f"{account}: {balance} cannot be")
    if max(*parts, abs(balance.source), abs(balance.available)) > MAX_BUCKET:
        raise PostingError(f"{account}: larger than a 64-bit number")
    if balance.source + balance.available + sum(parts):
        raise PostingError(f"{account}: buckets do not sum to zero")


def balances(entries: Iterable[Entry]) -> dict[str, Balance]:
    """Every account's balance, from nothing but the entries, in order (L9).

    Raises:
        PostingError: an entry that `post` refuses.
    """
    rebuilt: dict[str, Balance] = {}
    for entry in entries:
        post(rebuilt, entry.legs)
    return rebuilt


def body_of(entry: Entry) -> str:
    """The canonical text of an entry: JSON in ASCII, keys sorted, no blanks, whole numbers only.

    Raises:
        PostingError: the facts hold a float, or something that JSON does not know.
    """
    _refuse_floats(entry.facts)
    return _canonical(
        {
            "v": VERSION,
            "customer": entry.customer,
            "sequence": entry.sequence,
            "kind": entry.kind,
            "key": entry.key,
            "actor": entry.actor,
            "recorded_at_ms": entry.recorded_at_ms,
            "occurred_at_ms": entry.occurred_at_ms,
            "legs": [(leg.account, leg.bucket, leg.currency, leg.atoms) for leg in entry.legs],
            "facts": entry.facts,
        }
    )


def chain(previous: str, body: str) -> str:
    """The hash of an entry: SHA-256 over the previous hash (64 hexadecimal digits) and the body, in ASCII."""
    return hashlib.sha256(previous.encode("ascii") + body.encode("ascii")).hexdigest()


def read_body(body: str) -> Entry:
    """The inverse of `body_of`.

    Raises:
        PostingError: not the text of an entry, or of another version.
    """
    try:
        text = _BODY.decode(body)
    except msgspec.MsgspecError as problem:
        raise PostingError(f"not an entry: {problem}") from None
    if text.v != VERSION:
        raise PostingError(f"an entry of version {text.v}; this reads {VERSION}")
    legs = tuple(Leg(*leg) for leg in text.legs)
    return Entry(
        text.customer,
        text.sequence,
        text.kind,
        text.key,
        text.actor,
        text.recorded_at_ms,
        text.occurred_at_ms,
        legs,
        text.facts,
    )


class _Body(msgspec.Struct, frozen=True):
    v: int
    customer: str
    sequence: int
    kind: str
    key: str
    actor: str
    recorded_at_ms: int
    occurred_at_ms: int
    legs: list[tuple[str, str, str, int]]
    facts: dict[str, object]


def _canonical(value: dict[str, object]) -> str:
    """JSON by the standard library's rules; of what is alike by both, it is written by who is seven times faster."""
    try:
        text = _FAST.encode(value)
    except (TypeError, ValueError, OverflowError):  # a number of more than 64 bits, half a surrogate pair
        return _CANONICAL.encode(value)
    if text.isascii() and b"\x7f" not in text:
        return text.decode("ascii")
    return _CANONICAL.encode(value)


_FAST = msgspec.json.Encoder(order="sorted")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_BODY = msgspec.json.Decoder(_Body)


def _copy(balance: Balance) -> Balance:
    return Balance(
        balance.currency,
        balance.source,
        balance.available,
        balance.held,
        balance.leased,
        balance.consumed,
        balance.expired,
        balance.revoked,
        balance.unaccounted,
    )


def _refuse_floats(value: object) -> None:
    """Money and counts are whole numbers; a float would also print differently elsewhere."""
    if isinstance(value, str | int | None):
        return
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise PostingError("names of facts are text")
            if type(part) is not str and type(part) is not int:  # nearly all of them: worth not calling for
                _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            if type(part) is not str and type(part) is not int:
                _refuse_floats(part)
    else:
        raise PostingError(f"an entry cannot hold a {type(value).__name__}")
