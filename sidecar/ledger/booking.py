"""Booking settled calls: every one is recorded, once, whatever state it arrives in (L29).

The money is spent by the time an event comes here. So nothing about it is refused: a lease we
do not know, a lease that is closed, a charge above what was held are flags on its record, and
what no lease covers is found elsewhere.

The calls of a batch are many and much alike, and they become one entry. What calls of one kind have
in common, namely where the caller stands in the tree, which budgets apply and which accounts those
are, is worked out once (`_Group`). As long as the leases hold what their calls charge, nothing
depends on the order of the calls, and a group is posted as one sum. Only a call that needs more than
its leases have, or about which anything is odd, is posted by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import msgspec

from sidecar.contract.messages import AnySync, lease_account
from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.credits.burn_order import BURN_ORDER
from sidecar.core.credits.entries import Bucket
from sidecar.core.governance.budgets import Budget, budget_account, budget_id_of
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.overdrafts import GRACE, is_overdraft_account
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Node, Subject, format_path
from sidecar.ledger.booked_calls import CHARGE_REFUSED, Shape, write_batch, write_call
from sidecar.ledger.budget_accounts import BudgetAccounts, Slots
from sidecar.ledger.instants import Instants
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.lost_leases import Counted, lost_leases, named_accounts
from sidecar.ledger.policies import load_budgets, load_paths
from sidecar.ledger.posting import AVAILABLE, LEASED, SOURCE, CallMoves, Legs
from sidecar.ledger.purse import Purse
from sidecar.ledger.recorded_events import Event, Events, Recorded, read_leases
from sidecar.ledger.sql import fetch_in

BUDGET, GRANT = "budget:", "grant:"
"""What the accounts of either kind begin with."""


def counted_account(currency: str) -> str:
    """Where the charges of a customer without a wallet stand: `counted:usd`."""
    return f"counted:{currency}"


class _Charged(msgspec.Struct):
    """What one call moves, and what was odd about it, while it is being put together."""

    flags: list[str] = msgspec.field(default_factory=list)
    moves: CallMoves = msgspec.field(default_factory=CallMoves)
    debt_atoms: int = 0

    def flag(self, word: str) -> None:
        if word not in self.flags:
            self.flags.append(word)


class _Place(msgspec.Struct, frozen=True):
    """Where a call's subject stood when it was admitted: the whole path that the ledger had told its sidecar.

    A node of it may have moved since; the call counts where it was let run (L31, L35). `is_unknown`: a node of
    it is none of this tree.
    """

    subject: Subject
    path: str
    is_unknown: bool


class _Line(msgspec.Struct, frozen=True):
    """A lease that calls name: None if the sender may not charge it. `flag` is what is odd about it."""

    lease: Lease | None
    budget: Budget | None
    flag: str


_Kind = tuple[bytes, str, str, str, int]
"""What decides which budgets apply and on which accounts: subject, model, provider, currency, slot of time."""

_Key = tuple[_Kind, bytes, tuple[str, ...]]
"""What decides which accounts a call charges: its kind, its budgets' leases, the leases that paid."""


class _Group(msgspec.Struct):
    """Calls that charge the same accounts: the leases they name, and the budgets that apply without one.

    `plain` calls of them are posted together, `charge` and `legs` (one for each of `paying`) are their
    sums; none is where the group `is_odd`.
    """

    place: _Place
    currency: str
    shape: int
    lines: tuple[_Line, ...]
    counting: Counted
    paying: tuple[_Line, ...]
    is_odd: bool
    lost: tuple[Lease, ...] = ()
    plain: int = 0
    charge: int = 0
    legs: list[int] = msgspec.field(default_factory=list)


class Booking:
    """Books the events of one customer's part of a sync.

    The leases that they name must have been loaded, with their accounts, and the accounts of what is counted and owed
    in their currencies.
    """

    def __init__(self, journal: Journal, purse: Purse, request: AnySync) -> None:
        self._journal = journal
        self._purse = purse
        self._request = request
        self._accounts = BudgetAccounts(journal, ())
        self._places: dict[bytes, _Place] = {}
        self._counting: dict[_Kind, Counted] = {}
        self._groups: dict[_Key, _Group] = {}
        self._shapes: dict[Shape, int] = {}
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._posted: dict[str, Lease] = {}
        self._total = CallMoves()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Those that were read to book with."""
        return self._accounts.budgets

    async def book(self, events: Events) -> None:
        """Post one entry for the events that were not booked before, and the thresholds that they crossed."""
        calls = await self._fresh(events.calls)
        if not calls:
            return
        self._places = await self._locate({call.subject: events.subjects[call.subject] for call in calls})
        at = self._places.values()
        nodes = {node for place in at for node in (*place.subject.path, Node("user", place.subject.user))}
        self._accounts = BudgetAccounts(
            self._journal, await load_budgets(self._journal.tx, self._journal.customer, sorted(nodes))
        )
        when = Instants(self._journal, self._accounts, self._request.sent_at_ms)
        instants = [when.of(call, events) for call in calls]
        slots = Slots(self._journal, self._accounts.budgets)
        keys = [_key(call, slots.begin(instant)) for call, instant in zip(calls, instants, strict=True)]
        await self._load(dict.fromkeys(keys))
        odd = self._add_up(calls, keys)
        self._post_groups()
        records = self._post_odd(calls, keys, instants, odd)
        self._post_entry(calls, records, max(instants))
        for lease in self._posted.values():
            self._journal.keep_posted(lease)
        self._accounts.post_crossings()

    async def _fresh(self, calls: Sequence[Recorded]) -> list[Recorded]:
        """The events that are not in the book."""
        by_id = {call.event.admission.request_id: call for call in calls}
        sql = "SELECT request_id FROM calls WHERE customer = ? AND request_id IN ({})"
        for row in await fetch_in(self._journal.tx, sql, (self._journal.customer,), list(by_id)):
            del by_id[row["request_id"]]
        return list(by_id.values())

    async def _locate(self, subjects: Mapping[bytes, Subject]) -> dict[bytes, _Place]:
        """Where each subject stands by what was recorded, and whether the tree has all its nodes."""
        named = sorted({node for subject in subjects.values() for node in subject.path})
        paths = await load_paths(self._journal.tx, self._journal.customer, named)
        places: dict[bytes, _Place] = {}
        for key, subject in subjects.items():
            is_unknown = any(node not in paths for node in subject.path)
            places[key] = _Place(subject, format_path(subject.path), is_unknown)
        return places

    async def _load(self, keys: Iterable[_Key]) -> None:
        """Read the accounts that calls of these keys count on beside their leases', and make their groups."""
        names: list[str] = []
        for kind, _, _ in keys:
            if kind not in self._counting:
                self._counting[kind] = self._applying(kind, self._places[kind[0]].subject)
                names += [account for _, account in self._counting[kind]]
        await self._journal.load_accounts(names)
        for key in keys:
            self._groups[key] = self._group(*key)

    def _applying(self, kind: _Kind, subject: Subject) -> Counted:
        """The budgets that apply to a call, hard and soft, each with its account at the time of the call."""
        _, model, provider, currency, slot_ms = kind
        applying = self._accounts.applying(subject, model=model, provider=provider, currency=currency)
        return tuple(
            (b, budget_account(b.budget_id, b.child_of(subject), self._journal.period(b, slot_ms)))
            for b in applying
            if b.cadence is not Cadence.WINDOW  # which counts what was lent from it, and nothing else
        )

    def _group(self, kind: _Kind, budget_leases: bytes, paying: tuple[str, ...]) -> _Group:
        """What calls charge: their budgets' leases, each once, and beside them the budgets without one.

        Without a lease are the soft ones (L36a), and hard ones set after the call was admitted (L31).
        """
        place, currency = self._places[kind[0]], kind[3]
        lines = tuple(self._line(name, BUDGET, currency) for name in dict.fromkeys(read_leases(budget_leases) or ()))
        counted = {budget_id_of(line.lease.account) for line in lines if line.lease is not None}
        counting: Counted = self._counting[kind]
        lost: tuple[Lease, ...] = ()
        if any(line.lease is None for line in lines):
            counting = self._as_named(kind, budget_leases)
            named = read_leases(budget_leases) or ()
            lost = lost_leases(named, counting, self._journal, self._request.sidecar)
        counting = tuple(one for one in counting if one[0].budget_id not in counted)
        payers = tuple(self._line(name, GRANT, currency) for name in paying)
        is_wallet = self._journal.wallet is not Wallet.NONE
        known = [line.lease.account for line in (*lines, *payers) if line.lease is not None and not line.flag]
        is_odd = (
            place.is_unknown
            or bool(payers) is not is_wallet
            or len(known) < len(lines) + len(payers)  # one that may not be charged, or is closed
            or len(set(paying)) < len(paying)
        )
        charged = [(line.lease.account, LEASED) for line in lines if line.lease is not None]
        charged += [(account, AVAILABLE) for _, account in counting]
        if not is_wallet:
            charged.append((counted_account(currency), SOURCE))
        payers_accounts = tuple(line.lease.account for line in payers if line.lease is not None)
        shape = Shape(place.path) if is_odd else Shape(place.path, tuple(charged), payers_accounts)
        number = self._shapes.setdefault(shape, len(self._shapes))
        return _Group(place, currency, number, lines, counting, payers, is_odd, lost, legs=[0] * len(payers))

    def _as_named(self, kind: _Kind, leases: bytes) -> Counted:
        """The budgets that apply, each on the account that calls name by a lease that the book may have lost."""
        subject, (_, model, provider, currency, _) = self._places[kind[0]].subject, kind
        names = map(lease_account, read_leases(leases) or ())
        named = named_accounts(
            names, self._accounts, self._journal, subject, model=model, provider=provider, currency=currency
        )
        found = {one[0].budget_id: one for one in (*self._counting[kind], *named)}
        return tuple(found.values())

    def _line(self, lease_id: str, prefix: str, currency: str) -> _Line:
        """A lease that the sender may charge for calls in a currency, or None and a flag."""
        line = self._lines.get((lease_id, prefix, currency))
        if line is not None:
            return line
        lease = self._journal.lease(lease_id)
        if (
            lease is None
            or lease.sidecar != self._request.sidecar
            or not lease.account.startswith(prefix)
            or self._journal.balance(lease.account, currency).currency != currency
        ):
            line = _Line(None, None, "lease_unknown")
        else:
            # What was let run while the ledger was away counts in its budget beside, which had no lease for it (L47).
            flag = GRACE if is_overdraft_account(lease.account) else "late" if lease.closed else ""
            line = _Line(lease, self._accounts.find(lease.account), flag)
        self._lines[lease_id, prefix, currency] = line
        return line

    def _add_up(self, calls: Sequence[Recorded], keys: Sequence[_Key]) -> set[int]:
        """Sum the plain calls up in their groups; gives the positions of all others.

        A call is plain if its leases hold all that is charged to them in this batch, whoever comes first.
        """
        odd: set[int] = set()
        needed: dict[str, int] = {}
        for position, (call, key) in enumerate(zip(calls, keys, strict=True)):
            group, event = self._groups[key], call.event
            charge, paid = event.charge_atoms, event.paid
            if group.is_odd or charge is None or not 0 <= charge <= MAX_ATOMS or not _is_covered(charge, paid):
                odd.add(position)
                continue
            group.plain += 1
            group.charge += charge
            for number, (_, atoms) in enumerate(paid):
                group.legs[number] += atoms
        for position in odd:
            _need(needed, self._groups[keys[position]], calls[position].event)
        for group in self._groups.values():
            for line, atoms in (
                *((line, group.charge) for line in group.lines),
                *zip(group.paying, group.legs, strict=True),
            ):
                if line.lease is not None:
                    needed[line.lease.lease_id] = needed.get(line.lease.lease_id, 0) + atoms
        for group in self._groups.values():
            group.is_odd = group.is_odd or any(
                line.lease is not None and needed[line.lease.lease_id] > max(0, line.lease.raw)
                for line in (*group.lines, *group.paying)
            )
        odd.update([position for position, key in enumerate(keys) if self._groups[key].is_odd])
        return odd

    def _post_groups(self) -> None:
        """Post the sums of the plain calls, and open or adjust the accounts of their budgets."""
        for group in self._groups.values():
            if group.is_odd or not group.plain:
                continue
            moves, currency = CallMoves(), group.currency
            for line in group.lines:
                if line.lease is not None:
                    if line.budget is not None:
                        self._fit_limit(line.lease.account, line.budget)
                    self._consume_leased(moves, line.lease, currency, group.charge)
            for budget, account in group.counting:
                self._fit_limit(account, budget)
                moves.consume(account, currency, 0, group.charge)
            for line, atoms in zip(group.paying, group.legs, strict=True):
                if line.lease is not None:
                    self._consume_leased(moves, line.lease, currency, atoms)
            if self._journal.wallet is Wallet.NONE:
                moves.move(counted_account(currency), currency, Bucket.SOURCE, Bucket.CONSUMED, group.charge)
            self._apply(moves.rows())

    def _consume_leased(self, moves: CallMoves, lease: Lease, currency: str, atoms: int) -> None:
        lease.posted += atoms
        self._posted[lease.lease_id] = lease
        moves.consume(lease.account, currency, atoms, 0)

    def _fit_limit(self, account: str, budget: Budget) -> None:
        """Open a budget's account, or bring it to a limit that was edited: no call's doing, but of the same entry."""
        moves = CallMoves()
        self._accounts.fit_limit(moves, account, budget)
        self._apply(moves.rows())

    def _apply(self, legs: Legs) -> None:
        if legs:
            self._journal.move(legs)
            self._total.add(legs)

    def _post_odd(
        self, calls: Sequence[Recorded], keys: Sequence[_Key], instants: Sequence[int], odd: set[int]
    ) -> list[bytes]:
        """Post what is not plain, in the order it came; gives the records of all calls."""
        records: list[bytes] = []
        for position, (call, key, instant) in enumerate(zip(calls, keys, instants, strict=True)):
            group = self._groups[key]
            if position in odd:
                charged = self._charge(call.event, group)
                legs = charged.moves.rows()
                self._apply(legs)
                records.append(
                    write_call(group.shape, instant, call.raw, tuple(charged.flags), charged.debt_atoms, legs)
                )
            else:
                records.append(write_call(group.shape, instant, call.raw))
        return records

    def _charge(self, event: Event, group: _Group) -> _Charged:
        charged = _Charged()
        charge = event.charge_atoms
        if charge is not None and not 0 <= charge <= MAX_ATOMS:
            charged.flag(CHARGE_REFUSED)
            charge = None
        if group.place.is_unknown:
            charged.flag("path_unknown")
        if charge is not None:
            self._count_budgets(charged, group, charge)
            self._pay(charged, event, group, charge)
        return charged

    def _count_budgets(self, charged: _Charged, group: _Group, charge: int) -> None:
        """Charge every budget that applies once: its lease where there was one, else what is free."""
        for line in group.lines:
            if line.flag:
                charged.flag(line.flag)
            if line.lease is not None:
                if line.budget is not None:
                    self._fit_limit(line.lease.account, line.budget)
                self._post_on_lease(charged, line.lease, group.currency, charge, charge)
        for budget, account in group.counting:
            self._fit_limit(account, budget)
            charged.moves.consume(account, group.currency, 0, charge)
        for one in group.lost:
            lease = self._journal.lease(one.lease_id) or one
            lease.granted += charge
            lease.posted += charge
            self._journal.keep(lease)

    def _pay(self, charged: _Charged, event: Event, group: _Group, charge: int) -> None:
        """Let the grants' leases pay their legs; what they do not pay is an excess, or only counted."""
        owed, currency = charge, group.currency
        for line, (_, atoms) in zip(group.paying, event.paid, strict=True):
            if line.flag:
                charged.flag(line.flag)
            if line.lease is not None and atoms > 0:
                leg = min(atoms, owed)
                borne = min(leg, line.lease.escrow)
                owed -= borne
                self._post_on_lease(charged, line.lease, currency, leg, borne)
        if self._journal.wallet is Wallet.NONE:
            charged.moves.move(counted_account(currency), currency, Bucket.SOURCE, Bucket.CONSUMED, owed)
        elif owed:
            charged.flag("overrun")
            subject = group.place.subject
            charged.debt_atoms = self._purse.take_excess(
                charged.moves, owed, currency, model=event.admission.model, feature=subject.feature
            )

    def _post_on_lease(self, charged: _Charged, lease: Lease, currency: str, posted: int, consumed: int) -> None:
        """Post a charge on a lease: from its escrow first, and beyond that from what is free (L17).

        `posted` counts whole, as the holder counted it; `consumed` is what this account bears.
        """
        from_escrow = min(lease.escrow, consumed)
        lease.posted += posted
        self._posted[lease.lease_id] = lease
        charged.moves.consume(lease.account, currency, from_escrow, consumed - from_escrow)
        if from_escrow < consumed:
            charged.flag("overrun")

    def _post_entry(self, calls: Sequence[Recorded], records: Sequence[bytes], occurred_at_ms: int) -> None:
        request = self._request
        stored = write_batch(request.sidecar, request.incarnation, tuple(self._shapes), records)
        facts: dict[str, object] = {
            "calls": len(records),
            "sha256": hashlib.sha256(stored).hexdigest(),
            "burn_order": BURN_ORDER,
        }
        places = [(call.event.admission.request_id, crc32(record)) for call, record in zip(calls, records, strict=True)]
        self._journal.post_calls(
            self._total.rows(), facts, stored, places, actor=f"sidecar:{request.sidecar}", occurred_at_ms=occurred_at_ms
        )


def _key(call: Recorded, slot_ms: int) -> _Key:
    event, admission = call.event, call.event.admission
    kind = (call.subject, admission.model, admission.provider, admission.currency, slot_ms)
    return kind, bytes(admission.budget_leases), tuple([lease for lease, _ in event.paid])


def _is_covered(charge: int, paid: Sequence[tuple[str, int]]) -> bool:
    """Whether the grants' leases pay for all of a charge, if there are any."""
    if len(paid) == 1:  # nearly always
        return paid[0][1] == charge
    return not paid or (min(atoms for _, atoms in paid) >= 0 and sum(atoms for _, atoms in paid) == charge)


def _need(needed: dict[str, int], group: _Group, event: Event) -> None:
    """Note what a call that is no part of its group's sums charges to its leases, at most."""
    charge = event.charge_atoms or 0
    atoms = [max(0, min(leg, MAX_ATOMS)) for _, leg in event.paid]
    for line, most in (
        *((line, max(0, min(charge, MAX_ATOMS))) for line in group.lines),
        *zip(group.paying, atoms, strict=True),
    ):
        if line.lease is not None:
            needed[line.lease.lease_id] = needed.get(line.lease.lease_id, 0) + most
