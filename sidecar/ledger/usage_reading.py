"""Reading settled calls back out of the journal, in the order booked, page by page.

An entry holds one call (as they were once written) or a whole batch; whoever reads calls need not
know. A page ends after any call, so its cursor names a place inside of an entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from zlib import crc32

import msgspec

from sidecar.core.credits.entries import PostingError, read_body
from sidecar.errors import NotFound, Rejected
from sidecar.ledger.booked_calls import Batch, BookedCall
from sidecar.ledger.usage_facts import UsageBody, read_usage
from sidecar.ports import Row, Transaction

MAX_ENTRIES_AT_ONCE: Final = 16
"""Entries read at a time: each may hold a whole message's events."""


class FoundCall(msgspec.Struct, frozen=True, gc=False):
    """A settled call as the journal has it: the text of an entry of its own, or one of a batch."""

    customer: str
    sequence: int
    position: int
    recorded_at_ms: int
    text: str
    batch: Batch | None = None

    @property
    def cursor(self) -> str:
        """Where a page ends whose last call this is."""
        return f"{self.recorded_at_ms}:{self.sequence}:{self.position}:{self.customer}"

    def booked(self) -> BookedCall:
        """Of a batch.

        Raises:
            PostingError: it is no call.
        """
        if self.batch is None:
            raise PostingError("a call with an entry of its own")
        return self.batch.call(self.position)

    def legs(self) -> list[tuple[str, str, str, int]]:
        """What it moved: account, bucket, currency, atoms.

        Raises:
            PostingError: it is no call.
        """
        if self.batch is None:
            return [(leg.account, leg.bucket, leg.currency, leg.atoms) for leg in read_body(self.text).legs]
        return self.batch.moved(self.booked())[1]

    def read(self) -> UsageBody:
        """All of it.

        Raises:
            PostingError: it is no call.
            WireFormatError: its event is none.
        """
        if self.batch is None:
            return read_usage(self.text)
        call = self.booked()
        facts = self.batch.facts(call)
        return UsageBody(self.customer, self.sequence, self.recorded_at_ms, call.occurred_at_ms, facts)


class Cursor(msgspec.Struct, frozen=True):
    """Behind which call a page begins; before the first by default."""

    recorded_at_ms: int = -1
    sequence: int = 0
    position: int = -1
    customer: str = ""


def read_cursor(text: str) -> Cursor:
    """A cursor that an earlier page gave; the beginning for ``.

    Raises:
        Rejected: it is none.
    """
    if not text:
        return Cursor()
    match = re.fullmatch(r"(\d{1,18}):(\d{1,18}):(\d{1,6}):([^:].*)", text, re.ASCII)
    if match is None:
        raise Rejected("invalid_cursor", {"cursor": "expected one that an earlier page gave"})
    return Cursor(int(match[1]), int(match[2]), int(match[3]), match[4])


def calls_of(row: Row) -> Iterator[FoundCall]:
    """The calls of an entry of kind `usage`; its row has customer, sequence, recorded_at_ms, body and calls.

    Raises:
        PostingError: what stands beside the entry are no calls.
    """
    place = row["customer"], row["sequence"]
    if row["calls"] is None:
        yield FoundCall(*place, 0, row["recorded_at_ms"], row["body"])
        return
    batch = Batch(row["calls"])
    for position in range(len(batch.calls)):
        yield FoundCall(*place, position, row["recorded_at_ms"], "", batch)


async def find_call(
    tx: Transaction, request_id: str, customer: str = "", *, evenly: bool = False
) -> tuple[FoundCall, Row, bool] | None:
    """A call by its id, of a customer or (``) of any; None: it is not booked.

    Gives the call, the row of its entry (body, hash …), and whether it is the one that was asked for.

    Args:
        tx: the snapshot.
        request_id: its id.
        customer: whose.
        evenly: for an asker to whom it is perhaps not shown (S-34): where it is not booked another call of the
            customer's is given, and both are looked up whether it is or not, so that the time tells nothing.
    """
    rows = await tx.fetch(
        "SELECT e.*, c.position FROM calls AS c"
        " JOIN entries AS e ON e.customer = c.customer AND e.sequence = c.sequence"
        " WHERE c.request_id = ? AND (? = '' OR c.customer = ?) LIMIT 1",
        (request_id, customer, customer),
    )
    number = crc32(request_id.encode())
    others = await _some_entry(tx, customer, number) if evenly else ()
    for row in (*rows, *others)[:1]:
        calls = list(calls_of(row))
        return calls[row["position"] if rows else number % len(calls)], row, bool(rows)
    return None


async def _some_entry(tx: Transaction, customer: str, number: int) -> Sequence[Row]:
    """The entry of some of a customer's calls, for one number always the same."""
    heads = await tx.fetch("SELECT head_sequence FROM customers WHERE customer = ?", (customer,))
    first = number % heads[0]["head_sequence"] if heads and heads[0]["head_sequence"] else 0
    sql = "SELECT * FROM entries WHERE customer = ? AND kind = 'usage' AND sequence >= ? ORDER BY sequence LIMIT 1"
    return await tx.fetch(sql, (customer, first)) or await tx.fetch(sql, (customer, 0))


async def calls_since(tx: Transaction, customer: str, since_ms: int, after: Cursor, limit: int) -> list[FoundCall]:
    """Settled calls recorded since an instant, in the order booked.

    Args:
        tx: the snapshot.
        customer: whose; of all customers where it is empty.
        since_ms: Unix milliseconds.
        after: where the page before ended.
        limit: calls at most.

    Raises:
        NotFound: there is no such customer.
    """
    first = 0
    if customer:
        first = await first_since(tx, customer, since_ms)
    found: list[FoundCall] = []
    at, step = after, 2  # the entry in which the page before ended comes again
    while len(found) < limit:
        rows = await (
            _rows_of(tx, customer, max(at.sequence, first), step)
            if customer
            else _rows_of_all(tx, max(since_ms, at.recorded_at_ms), at, step)
        )
        for row in rows:
            calls = list(calls_of(row))
            same = (row["customer"], row["sequence"]) == (customer or at.customer, at.sequence)
            found += calls[at.position + 1 :] if same else calls
            at = Cursor(row["recorded_at_ms"], row["sequence"], len(calls) - 1, row["customer"])
        if len(rows) < step:
            break
        step = MAX_ENTRIES_AT_ONCE
    return found[:limit]


async def first_since(tx: Transaction, customer: str, since_ms: int) -> int:
    """The first sequence number recorded at or after an instant; one past the last if there is none.

    Found by halving: a customer's entries are recorded in the order of their numbers, at
    instants that never go back.

    Raises:
        NotFound: there is no such customer.
    """
    heads = await tx.fetch("SELECT head_sequence FROM customers WHERE customer = ?", (customer,))
    if not heads:
        raise NotFound("customer", customer)
    low, high = 1, heads[0]["head_sequence"] + 1
    while low < high:
        middle = (low + high) // 2
        rows = await tx.fetch(
            "SELECT recorded_at_ms FROM entries WHERE customer = ? AND sequence = ?", (customer, middle)
        )
        if rows and rows[0]["recorded_at_ms"] >= since_ms:
            high = middle
        else:
            low = middle + 1
    return low


async def _rows_of(tx: Transaction, customer: str, first: int, limit: int) -> list[Row]:
    rows = await tx.fetch(
        "SELECT customer, sequence, recorded_at_ms, body, calls FROM entries"
        " WHERE customer = ? AND sequence >= ? AND kind = 'usage' ORDER BY sequence LIMIT ?",
        (customer, first, limit),
    )
    return list(rows)


async def _rows_of_all(tx: Transaction, since_ms: int, at: Cursor, limit: int) -> list[Row]:
    rows = await tx.fetch(
        "SELECT customer, sequence, recorded_at_ms, body, calls FROM entries"
        " WHERE kind = 'usage' AND recorded_at_ms >= ? AND (recorded_at_ms, customer, sequence) >= (?, ?, ?)"
        " ORDER BY recorded_at_ms, customer, sequence LIMIT ?",
        (since_ms, at.recorded_at_ms, at.customer, at.sequence, limit),
    )
    return list(rows)
