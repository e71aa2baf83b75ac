"""One transaction on one customer's book: what it read, what it posts, and one write at the end.

Balances are read once, changed in memory by the same pure rules that rebuild them from the
entries, and written back once: what a batch costs follows the accounts it touches, not its
events. That is safe because the engine lets only one transaction at a time write a customer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from sidecar.core.credits import entries
from sidecar.core.credits.entries import MAX_BUCKET, Balance, Bucket, Entry, Leg, Moves, PostingError
from sidecar.core.credits.leases import escrow
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.limits import Period
from sidecar.core.governance.periods import period_at
from sidecar.core.governance.standing import Wallet
from sidecar.ledger.administration import Act
from sidecar.ledger.posting import Legs, post_legs
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.timezones import zones_of
from sidecar.ledger.usage_facts import KIND as USAGE
from sidecar.ports import Row, Transaction

PLACES = {"": Bucket.LEASED, "unaccounted": Bucket.UNACCOUNTED, "spent": Bucket.CONSUMED}
"""Where what is out on a lease stands, by its `resolution`."""


class Lease(msgspec.Struct):
    """A lease as the ledger holds it: two totals that only grow, and what was posted on it (L42)."""

    lease_id: str
    account: str
    sidecar: str
    incarnation: str
    granted: int = 0
    returned: int = 0
    posted: int = 0
    closed: bool = False
    pays_until_ms: int = 0
    heard: int = 0
    """The newest revision of the customer by which its holder has said that it decides (L35)."""
    resolution: str = ""
    resolved: int = 0
    """Of what may be out, so much stands elsewhere, as `resolution` says, while its holder is not heard (L46)."""
    tally: int | None = None
    """What was charged on it in all by its holder's count, as far as was heard; None: it has not said."""
    drift: int = 0
    """`tally` − `posted` when that was heard and the calls that came with it were booked; never below zero in truth."""

    @property
    def raw(self) -> int:
        """Granted − returned − posted; below zero once a charge exceeded what was lent."""
        return self.granted - self.returned - self.posted

    @property
    def escrow(self) -> int:
        """What is kept aside for it: its part of the account's `leased`."""
        return max(0, escrow(self.granted, self.returned, self.posted) - self.resolved)


class Journal:
    """A customer's book while a transaction runs. Nothing is in the database before `write`.

    `now_ms` is the wall clock, but never before the last entry: a customer's time does not go
    back (L38). All entries of a transaction are recorded at it. `zones` are the customer's time zones.
    `act`: what a person does here, if anybody does: what its actor posts is entered among the acts, with its reason.
    """

    def __init__(self, tx: Transaction, row: Row, wall_ms: int) -> None:
        self.tx = tx
        self.customer: str = row["customer"]
        self.wallet = Wallet(row["wallet"])
        self.created_at_ms: int = row["created_at_ms"]
        self.revision: int = row["revision"]
        self.frozen_nodes: int = row["frozen_nodes"]
        self.rate_limits: int = row["rate_limits"]
        self.head_sequence: int = row["head_sequence"]
        self.now_ms: int = max(wall_ms, row["last_recorded_at_ms"])
        self.zones = zones_of(row)
        self._head_hash: str = row["head_hash"]
        self._balances: dict[str, Balance] = {}
        self._alerted: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._absent: set[str] = set()
        self._changed: set[str] = set()
        self._leases: dict[str, Lease] = {}
        self._absent_leases: set[str] = set()
        self._holders: dict[str, int] = {}
        self._changed_leases: set[str] = set()
        self._charged_leases: set[str] = set()
        self.act: Act | None = None
        self._rows: list[tuple[object, ...]] = []
        self._acts: list[tuple[str, int, str, int]] = []
        self._calls: list[tuple[str, str, int, int, int]] = []

    @classmethod
    async def open(cls, tx: Transaction, customer: str, wall_ms: int) -> Journal | None:
        """The customer's journal, or None: there is no such customer."""
        rows = await tx.fetch_locked("SELECT * FROM customers WHERE customer = ?", (customer,))
        return cls(tx, rows[0], wall_ms) if rows else None

    @classmethod
    async def begin(cls, tx: Transaction, customer: str, wallet: Wallet, wall_ms: int) -> Journal:
        """Make a customer that does not exist yet, with an empty journal."""
        await tx.execute(
            "INSERT INTO customers (customer, wallet, created_at_ms, revision, head_sequence, head_hash,"
            " last_recorded_at_ms) VALUES (?, ?, ?, 0, 0, ?, ?)",
            (customer, wallet.value, wall_ms, entries.GENESIS, wall_ms),
        )
        journal = await cls.open(tx, customer, wall_ms)
        if journal is None:
            raise PostingError(f"{customer}: made and not found")
        return journal

    def period(self, budget: Budget, at_ms: int | None = None) -> Period:
        """The period of a budget at an instant, which is now unless it is said (L37)."""
        return period_at(budget.calendar(self.zones), self.now_ms if at_ms is None else at_ms)

    async def load_accounts(self, names: Iterable[str]) -> None:
        """Read accounts that were not read yet; those that do not exist are remembered as absent."""
        missing = [n for n in dict.fromkeys(names) if n not in self._balances and n not in self._absent]
        if not missing:
            return
        self._absent.update(missing)
        sql = "SELECT * FROM accounts WHERE customer = ? AND account IN ({})"
        for row in await fetch_in(self.tx, sql, (self.customer,), missing):
            self.take_account(row)

    def balance(self, name: str, currency: str) -> Balance:
        """An account's balance, zero where it was never touched. It must have been loaded.

        Raises:
            PostingError: it was not loaded, so that nothing is known of it.
        """
        found = self._balances.get(name)
        if found is None and name not in self._absent:
            raise PostingError(f"{name}: used before it was read")
        return found or Balance(currency)

    def exists(self, name: str) -> bool:
        """Whether a loaded account was ever touched."""
        return name in self._balances

    async def load_leases(self, ids: Iterable[str]) -> None:
        """Read leases that were not read yet, with their accounts, because their holder says something of them.

        What was put elsewhere while it was not heard is in them again: its own word counts for more (L46).
        """
        missing = [o for o in dict.fromkeys(ids) if o not in self._leases and o not in self._absent_leases]
        if not missing:
            return
        self._absent_leases.update(missing)
        sql = "SELECT * FROM leases WHERE customer = ? AND lease_id IN ({})"
        for row in await fetch_in(self.tx, sql, (self.customer,), missing):
            self._leases[row["lease_id"]] = lease_of(row)
        await self.load_accounts(self._leases[one].account for one in missing if one in self._leases)
        for one in missing:
            if one in self._leases and self._leases[one].resolution:
                self._revive(self._leases[one])

    def _revive(self, lease: Lease) -> None:
        moves, place = Moves(), PLACES[lease.resolution]
        moves.move(lease.account, self._balances[lease.account].currency, place, Bucket.LEASED, lease.resolved)
        facts: dict[str, object] = {"lease_id": lease.lease_id, "was": lease.resolution}
        lease.resolution, lease.resolved = "", 0
        self.keep(lease)
        self.post("lease_revived", actor=f"sidecar:{lease.sidecar}", moves=moves, facts=facts)

    def take_lease(self, row: Row) -> Lease:
        """Take in a lease whose holder is silent, as it stands; its account must have been loaded."""
        lease = self._leases[row["lease_id"]] = lease_of(row)
        return lease

    async def load_holders(self, names: Iterable[str]) -> None:
        """Count who holds a live lease on accounts that were not counted yet."""
        missing = [name for name in dict.fromkeys(names) if name not in self._holders]
        if not missing:
            return
        self._holders.update(dict.fromkeys(missing, 0))
        sql = (
            "SELECT account, count(*) AS holders FROM leases WHERE customer = ? AND closed = 0"
            " AND pays_until_ms > ? AND account IN ({}) GROUP BY account"
        )
        for row in await fetch_in(self.tx, sql, (self.customer, self.now_ms), missing):
            self._holders[row["account"]] = row["holders"]

    def others(self, lease: Lease) -> int:
        """How many others than a lease's holder hold a live one on its account, which was counted."""
        mine = not lease.closed and lease.pays_until_ms > self.now_ms
        return max(0, self._holders.get(lease.account, 0) - mine)

    def renew(self, lease: Lease, pays_until_ms: int) -> None:
        """Have a lease written that its holder may spend from until an instant."""
        before, lease.pays_until_ms = lease.pays_until_ms, pays_until_ms
        change = (pays_until_ms > self.now_ms) - (before > self.now_ms)
        self._holders[lease.account] = self._holders.get(lease.account, 0) + change
        self.keep(lease)

    def lease(self, lease_id: str) -> Lease | None:
        """A loaded lease, or None where there is none."""
        return self._leases.get(lease_id)

    def keep(self, lease: Lease) -> None:
        """Have a new or changed lease written.

        Raises:
            PostingError: one of its totals does not fit a 64-bit column.
        """
        if max(lease.granted, lease.returned, lease.posted) > MAX_BUCKET:
            raise PostingError(f"{lease.lease_id}: larger than a 64-bit number")
        self._leases[lease.lease_id] = lease
        self._changed_leases.add(lease.lease_id)

    def keep_posted(self, lease: Lease) -> None:
        """Have what was posted on a loaded lease written, if nothing else of it changes; raises as `keep`."""
        if lease.posted > MAX_BUCKET:
            raise PostingError(f"{lease.lease_id}: larger than a 64-bit number")
        self._charged_leases.add(lease.lease_id)

    def alerted_percent(self, name: str) -> int:
        """The highest threshold of a loaded account whose crossing is on record; -1 for none."""
        return self._alerted.get(name, -1)

    def note_alert(self, name: str, percent: int) -> None:
        """Remember that a threshold's crossing was posted."""
        self._alerted[name] = percent
        self._changed.add(name)

    def wanted_until_ms(self, name: str) -> int:
        """Until when somebody waits for what others hold of a loaded account; 0 for nobody."""
        return self._wanted.get(name, 0)

    def note_wanted(self, name: str, until_ms: int) -> None:
        """Remember that somebody waits for what others hold of an existing account (L45)."""
        self._wanted[name] = until_ms
        self._changed.add(name)

    def post(
        self,
        kind: str,
        *,
        actor: str,
        moves: Moves | None = None,
        facts: dict[str, object] | None = None,
        key: str = "",
        occurred_at_ms: int | None = None,
        policy: bool = False,
    ) -> int:
        """Append an entry and apply its legs; gives its sequence number.

        `policy`: it changes what a standing says, so the customer's revision becomes this entry.

        Raises:
            PostingError: it would break the book (L6); nothing was changed.
        """
        legs = moves.legs() if moves is not None else ()
        for leg in legs:
            self.balance(leg.account, leg.currency)
        entries.post(self._balances, legs)
        self._changed.update(leg.account for leg in legs)
        occurred = self.now_ms if occurred_at_ms is None else occurred_at_ms
        self.head_sequence += 1
        if self.act is not None and actor == self.act.actor:
            facts = {"reason": self.act.reason, **(facts or {})}
            self._acts.append((self.customer, self.head_sequence, actor, self.now_ms))
        self._append(
            Entry(self.customer, self.head_sequence, kind, key, actor, self.now_ms, occurred, legs, facts or {})
        )
        if policy:
            self.revision = self.head_sequence
        return self.head_sequence

    def move(self, legs: Legs) -> None:
        """Apply some legs of an entry that is still being put together; `post_calls` must follow.

        Raises:
            PostingError: as `post`.
        """
        post_legs(self._balances, self._absent, legs)
        self._changed.update([leg[0] for leg in legs])

    def post_calls(
        self,
        legs: Legs,
        facts: dict[str, object],
        calls: bytes,
        places: Sequence[tuple[str, int]],
        *,
        actor: str,
        occurred_at_ms: int,
    ) -> None:
        """Append the entry of settled calls, whose legs were applied already.

        Args:
            legs: the sum of what `move` was given.
            facts: of all calls together.
            calls: as they stand beside the entry (`booked_calls.write_batch`).
            places: the request id and the checksum of each, in their order.
            actor: who reported them.
            occurred_at_ms: of the latest.
        """
        self.head_sequence += 1
        sequence, moved = self.head_sequence, tuple(Leg(*leg) for leg in legs)
        self._append(Entry(self.customer, sequence, USAGE, "", actor, self.now_ms, occurred_at_ms, moved, facts), calls)
        self._calls += [
            (request_id, self.customer, sequence, position, checksum)
            for position, (request_id, checksum) in enumerate(places)
        ]

    def _append(self, entry: Entry, calls: bytes | None = None) -> None:
        """Chain an entry to the one before, and have it written."""
        body = entries.body_of(entry)
        self._head_hash = entries.chain(self._head_hash, body)
        head = (self.customer, entry.sequence, entry.kind, entry.key or None)
        self._rows.append((*head, entry.recorded_at_ms, entry.occurred_at_ms, self._head_hash, body, calls))

    async def write(self) -> None:
        """Write what was posted: the entries, each changed account and lease once, the head.

        Raises:
            PostingError: a balance cannot be (L6); the transaction must not be committed.
        """
        if self._rows:
            await self.tx.execute_many(_INSERT_ENTRY, self._rows)
            if self._calls:
                await self.tx.execute_many(_INSERT_CALL, sorted(self._calls))  # neighbours together: fewer pages
            if self._acts:
                await self.tx.execute_many(_INSERT_ACT, self._acts)
            await self.tx.execute(
                "UPDATE customers SET revision = ?, head_sequence = ?, head_hash = ?, last_recorded_at_ms = ?"
                " WHERE customer = ?",
                (self.revision, self.head_sequence, self._head_hash, self.now_ms, self.customer),
            )
        for name in self._changed:
            entries.check(name, self._balances[name])
        await self._write_accounts(sorted(self._changed))  # in one order everywhere: no two engines' locks can cross
        await self._write_leases()
        self._rows, self._calls, self._acts = [], [], []
        self._changed, self._changed_leases, self._charged_leases = set(), set(), set()

    async def _write_accounts(self, names: list[str]) -> None:
        new = [name for name in names if name in self._absent]
        if new:
            await self.tx.execute_many(_INSERT_ACCOUNT, [self._account_row(name) for name in new])
        if len(new) < len(names):
            rows = [self._account_row(name) for name in names if name not in self._absent]
            await self.tx.execute_many(_UPDATE_ACCOUNT, [(*row[3:], *row[:2]) for row in rows])
        self._absent.difference_update(new)

    async def _write_leases(self) -> None:
        if self._changed_leases:
            await self.tx.execute_many(_UPSERT_LEASE, [self._lease_row(one) for one in sorted(self._changed_leases)])
        charged = sorted(self._charged_leases - self._changed_leases)
        if charged:  # apart, because it leaves the indexes alone, which are by whether a lease is open
            posted = [(self._leases[one].posted, self.customer, one) for one in charged]
            await self.tx.execute_many("UPDATE leases SET posted = ? WHERE customer = ? AND lease_id = ?", posted)

    def take_account(self, row: Row) -> None:
        """Take in an account that was read with something else; one that was read before stays as it is here."""
        name = row["account"]
        if name in self._balances:
            return
        self._absent.discard(name)
        self._balances[name] = balance_of(row)
        self._alerted[name] = row["alerted_percent"]
        self._wanted[name] = row["wanted_until_ms"]

    def _account_row(self, name: str) -> tuple[object, ...]:
        """Of `_INSERT_ACCOUNT`: the account's name, its currency, its buckets, and the rest."""
        balance = self._balances[name]
        alerted, wanted = self._alerted.get(name, -1), self._wanted.get(name, 0)
        return (self.customer, name, *msgspec.structs.astuple(balance), alerted, wanted)

    def _lease_row(self, lease_id: str) -> tuple[object, ...]:
        return (self.customer, *msgspec.structs.astuple(self._leases[lease_id]))


def balance_of(row: Row) -> Balance:
    """The balance in a row of `accounts`."""
    return Balance(row["currency"], *[row[column] for column in _BUCKETS])


def lease_of(row: Row) -> Lease:
    """The lease in a row of `leases`."""
    return Lease(
        row["lease_id"],
        row["account"],
        row["sidecar"],
        row["incarnation"],
        row["granted"],
        row["returned"],
        row["posted"],
        bool(row["closed"]),
        row["pays_until_ms"],
        row["heard"],
        row["resolution"],
        row["resolved"],
        row["tally"],
        row["drift"],
    )


_BUCKETS = tuple(bucket.value for bucket in entries.Bucket)

_INSERT_ENTRY = (
    "INSERT INTO entries (customer, sequence, kind, entry_key, recorded_at_ms, occurred_at_ms, hash, body, calls)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_INSERT_CALL = "INSERT INTO calls (request_id, customer, sequence, position, checksum) VALUES (?, ?, ?, ?, ?)"

_INSERT_ACT = "INSERT INTO acts (customer, sequence, actor, recorded_at_ms) VALUES (?, ?, ?, ?)"

_INSERT_ACCOUNT = (
    "INSERT INTO accounts (customer, account, currency, source, available, held, leased, consumed, expired, revoked,"
    " unaccounted, alerted_percent, wanted_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_UPDATE_ACCOUNT = (
    "UPDATE accounts SET source = ?, available = ?, held = ?, leased = ?, consumed = ?, expired = ?, revoked = ?,"
    " unaccounted = ?, alerted_percent = ?, wanted_until_ms = ? WHERE customer = ? AND account = ?"
)

_UPSERT_LEASE = (
    "INSERT INTO leases (customer, lease_id, account, sidecar, incarnation, granted, returned, posted, closed,"
    " pays_until_ms, heard, resolution, resolved, tally, drift) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (customer, lease_id) DO UPDATE SET granted = excluded.granted, returned = excluded.returned,"
    " posted = excluded.posted, closed = excluded.closed, pays_until_ms = excluded.pays_until_ms,"
    " heard = excluded.heard, resolution = excluded.resolution, resolved = excluded.resolved,"
    " tally = excluded.tally, drift = excluded.drift"
)
