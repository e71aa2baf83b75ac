"""Checking a customer's book against itself (L8, L9).

From the entries alone: that the chain of hashes holds, that every number is there once, and
that each says what its columns say. Of an entry that books calls, that the calls beside it are those
whose digest it holds, that they moved what it says, and that each is where its id is looked up and
nothing else is (`verifying_calls`). Then that the balances rebuilt from the entries are the ones
stored, and that what is with sidecars is what their leases add up to; that each virtual key is what
its entries say (`verifying_keys`).

Whoever may write the book can compute all of that anew, or cut its end off. That is found by what left
it before: signed heads, each of which says what the hash of an entry was (`witnessing`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.credits.entries import GENESIS, Balance, Entry, PostingError, body_of, chain, post, read_body
from sidecar.ledger.auditing import CheckingActs
from sidecar.ledger.journal import balance_of, lease_of
from sidecar.ledger.reading import customer_row
from sidecar.ledger.usage_facts import KIND as USAGE
from sidecar.ledger.verifying_calls import CheckingCalls
from sidecar.ledger.verifying_keys import CheckingKeys
from sidecar.ledger.views import VerifyView
from sidecar.ledger.witnessing import SignedHead, Witnessing
from sidecar.ports import Row, Transaction

MAX_PROBLEMS = 100
"""Problems listed; a book with more is not worth listing further."""

PAGE = 16
"""Entries read at a time: each may hold a whole message's events."""


async def verify(tx: Transaction, customer: str, signed: Sequence[SignedHead] = ()) -> VerifyView:
    """Check one customer's book on one snapshot, also against what was signed of it, in any order.

    Raises:
        NotFound: there is no such customer.
    """
    head = await customer_row(tx, customer)
    checking = _Checking(customer)
    witnessing = Witnessing(signed, checking.problem)
    acts = await CheckingActs.begin(tx, customer, checking.problem)
    keys = await CheckingKeys.begin(tx, customer, checking.problem)
    calls = CheckingCalls(tx, customer, checking.problem)
    while rows := await tx.fetch(
        "SELECT * FROM entries WHERE customer = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (customer, checking.sequence, PAGE),
    ):
        for row in rows:
            checking.take(row)
            witnessing.take(row)
            acts.take(row)
            keys.take(row)
        await calls.take([row for row in rows if row["kind"] == USAGE])
    await calls.finish()
    witnessing.finish()
    acts.finish()
    keys.finish()
    if (checking.sequence, checking.hash) != (head["head_sequence"], head["head_hash"]):
        checking.problem(f"the journal ends at {checking.sequence}, its head says {head['head_sequence']}")
    accounts = await tx.fetch("SELECT * FROM accounts WHERE customer = ?", (customer,))
    leases = await tx.fetch("SELECT * FROM leases WHERE customer = ?", (customer,))
    checking.compare(accounts, leases)
    problems = tuple(checking.problems[:MAX_PROBLEMS])
    return VerifyView(customer, checking.count, checking.hash, problems, witnessing.agreed, witnessing.lost)


class _Checking:
    def __init__(self, customer: str) -> None:
        self._customer = customer
        self._balances: dict[str, Balance] = {}
        self._recorded_at_ms = 0
        self.sequence = 0
        self.count = 0
        self.hash = GENESIS
        self.problems: list[str] = []

    def problem(self, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(what)

    def take(self, row: Row) -> None:
        """Check one row of `entries` as the one after those before."""
        expected, self.sequence = self.sequence + 1, row["sequence"]
        self.count += 1
        if self.sequence != expected:
            self.problem(f"entry {expected}: missing")
        try:
            self.hash = chain(self.hash, row["body"])
            entry = read_body(row["body"])
            canonical = body_of(entry) == row["body"]
        except (PostingError, UnicodeEncodeError):
            self.problem(f"entry {self.sequence}: is no entry")
            self.hash = row["hash"]
            return
        if self.hash != row["hash"]:
            self.problem(f"entry {self.sequence}: was altered, or does not follow the one before")
            self.hash = row["hash"]  # so that one alteration is told once
        if not canonical or _columns(entry) != _stored(row, self._customer):
            self.problem(f"entry {self.sequence}: its columns say otherwise than its text")
        if entry.recorded_at_ms < self._recorded_at_ms:
            self.problem(f"entry {self.sequence}: recorded before the one before")
        self._recorded_at_ms = entry.recorded_at_ms
        try:
            post(self._balances, entry.legs)
        except PostingError as refused:
            self.problem(f"entry {self.sequence}: {refused}")

    def compare(self, accounts: Sequence[Row], leases: Sequence[Row]) -> None:
        """Check the stored balances against those rebuilt, and what is lent against the leases."""
        stored = {row["account"]: balance_of(row) for row in accounts}
        for account in sorted(self._balances.keys() | stored.keys()):
            rebuilt, kept = self._balances.get(account), stored.get(account)
            if rebuilt != kept:
                self.problem(f"account {account}: the entries give {rebuilt}, stored is {kept}")
        escrow: dict[str, int] = {}
        for row in leases:
            lease = lease_of(row)
            escrow[lease.account] = escrow.get(lease.account, 0) + lease.escrow
        for account, balance in sorted(stored.items()):
            if balance.leased != escrow.get(account, 0):
                self.problem(f"account {account}: {balance.leased} lent, its leases keep {escrow.get(account, 0)}")


def _columns(entry: Entry) -> tuple[object, ...]:
    return (
        entry.customer,
        entry.sequence,
        entry.kind,
        entry.key or None,
        entry.recorded_at_ms,
        entry.occurred_at_ms,
    )


def _stored(row: Row, customer: str) -> tuple[object, ...]:
    return (
        customer,
        row["sequence"],
        row["kind"],
        row["entry_key"],
        row["recorded_at_ms"],
        row["occurred_at_ms"],
    )
