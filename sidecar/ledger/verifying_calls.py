"""Checking settled calls against the entries that book them, and their ids against both (L8, L29)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

from sidecar.core.credits.entries import Entry, PostingError, read_body
from sidecar.ledger.booked_calls import Batch
from sidecar.ledger.posting import AVAILABLE, SOURCE, CallMoves
from sidecar.ledger.sql import fetch_in
from sidecar.ports import Row, Transaction

PAGE: Final = 500
"""Ids read at a time, where one is looked for that no entry knows."""

_Found = tuple[int, int, int]
"""Where an id says that its call is: sequence, position, checksum."""


class CheckingCalls:
    """The settled calls of one customer.

    Args:
        tx: the snapshot.
        customer: whose.
        problem: is told of each thing that is wrong; may be told more than it keeps.
    """

    def __init__(self, tx: Transaction, customer: str, problem: Callable[[str], None]) -> None:
        self._tx = tx
        self._customer = customer
        self._problem = problem
        self._matched = 0

    async def take(self, rows: Sequence[Row]) -> None:
        """Check the calls of some entries; the entries themselves are checked elsewhere."""
        booked: dict[str, _Found] = {}
        for row in rows:
            try:
                ids = self._ids_of(row)
            except (PostingError, UnicodeEncodeError) as problem:
                self._problem(f"entry {row['sequence']}: its calls cannot be read: {problem}")
                continue
            for position, (request_id, checksum) in enumerate(ids):
                if request_id in booked:
                    self._problem(f"call {request_id}: stands twice in the book")
                booked[request_id] = row["sequence"], position, checksum
        sql = "SELECT * FROM calls WHERE customer = ? AND request_id IN ({})"
        found = {
            row["request_id"]: (row["sequence"], row["position"], row["checksum"])
            for row in await fetch_in(self._tx, sql, (self._customer,), list(booked))
        }
        self._matched += len(found)
        for request_id, place in booked.items():
            self._compare(request_id, place, found.get(request_id))

    async def finish(self) -> None:
        """Look for ids that no entry knows, if there are more ids than calls."""
        ((count,),) = [
            (row["n"],)
            for row in await self._tx.fetch("SELECT count(*) AS n FROM calls WHERE customer = ?", (self._customer,))
        ]
        if count == self._matched:
            return
        after = ""
        while rows := await self._tx.fetch(
            "SELECT * FROM calls WHERE customer = ? AND request_id > ? ORDER BY request_id LIMIT ?",
            (self._customer, after, PAGE),
        ):
            after = rows[-1]["request_id"]
            for row in rows:
                if not await self._is_booked(row):
                    self._problem(f"call {row['request_id']}: entry {row['sequence']} does not have it")

    def _compare(self, request_id: str, booked: _Found, found: _Found | None) -> None:
        if found is None:
            self._problem(f"call {request_id}: cannot be found by its id")
        elif found[:2] != booked[:2]:
            self._problem(
                f"call {request_id}: is call {booked[1]} of entry {booked[0]}; its id says {found[1]} of {found[0]}"
            )
        elif found != booked:
            self._problem(f"call {request_id}: was altered, in entry {booked[0]}")

    def _ids_of(self, row: Row) -> list[tuple[str, int]]:
        """The request id and checksum of each call of an entry, which is held against its own words.

        Raises:
            PostingError: the entry is none, or its calls are not.
        """
        entry = read_body(row["body"])
        stored = row["calls"]
        if stored is None:
            if "calls" in entry.facts:
                self._problem(f"entry {entry.sequence}: its calls are missing")
                return []
            return [(entry.key, 0)]
        if hashlib.sha256(stored).hexdigest() != entry.facts.get("sha256"):
            self._problem(f"entry {entry.sequence}: its calls were altered")
        batch = Batch(stored)
        if len(batch.calls) != entry.facts.get("calls"):
            self._problem(f"entry {entry.sequence}: has {len(batch.calls)} calls, not {entry.facts.get('calls')}")
        ids: list[tuple[str, int]] = []
        moves = CallMoves()
        for position, raw in enumerate(batch.calls):
            request_id, legs = batch.moved(batch.call(position))
            moves.add(legs)
            ids.append((request_id, crc32(raw)))
        self._compare_legs(entry, moves)
        return ids

    def _compare_legs(self, entry: Entry, moves: CallMoves) -> None:
        """What an entry moved and its calls did not: nothing but limits of budgets, brought up to date."""
        moves.add([(leg.account, leg.bucket, leg.currency, -leg.atoms) for leg in entry.legs])
        for account, bucket, _, atoms in moves.rows():
            if bucket not in {SOURCE, AVAILABLE} or not account.startswith("budget:"):
                self._problem(f"entry {entry.sequence}: its calls say {atoms} more of {account}.{bucket}")

    async def _is_booked(self, row: Row) -> bool:
        """Whether the entry that an id names has that call in that place."""
        entries = await self._tx.fetch(
            "SELECT body, calls FROM entries WHERE customer = ? AND sequence = ? AND kind = 'usage'",
            (self._customer, row["sequence"]),
        )
        try:
            if not entries:
                return False
            if entries[0]["calls"] is None:
                return bool(row["position"] == 0 and read_body(entries[0]["body"]).key == row["request_id"])
            batch = Batch(entries[0]["calls"])
            if not 0 <= row["position"] < len(batch.calls):
                return False
            return batch.moved(batch.call(row["position"]))[0] == str(row["request_id"])
        except PostingError:
            return True  # told already
