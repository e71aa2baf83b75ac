"""Answering `resolve`: who is this, what applies to them, and enough spending power for one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sidecar.contract.messages import LeaseGrant, ResolveReply, ResolveRequest, lease_id
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.overdrafts import overdraft_of
from sidecar.core.governance.rate_limits import RateLimit
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.errors import LedgerUnavailable, StaleIncarnation
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.freezing import outermost_frozen
from sidecar.ledger.journal import Journal
from sidecar.ledger.learning import Claim, borrowers
from sidecar.ledger.lending import Holder, Lender, Loan, Target, budget_target, grant_target, overdraft_target
from sidecar.ledger.new_children import Child, NewChildren
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.policies import Path, Refusal, load_budgets, load_paths, locate, nodes_named
from sidecar.ledger.purse import Purse, debt_account
from sidecar.ledger.rate_acts import load_rate_limits
from sidecar.ledger.windows import window_to_lend_from
from sidecar.ports import Transaction

NEXT_PERIOD_REFRESHES = 6
"""A lease on the next period is lent this many refreshes before it begins, at the earliest."""

WANTED_REFRESHES = 2
"""For how long a request that found too little keeps asking the others' leases back."""


Answer = ResolveReply | StaleIncarnation | LedgerUnavailable


async def resolve(
    tx: Transaction,
    requests: Sequence[ResolveRequest],
    wall_ms: int,
    options: LedgerOptions,
    recalls: dict[str, set[str]] | None = None,
) -> list[Answer]:
    """Some resolves of one customer in one transaction, one after another; see `ports.Ledger.resolve`.

    All that any of them may touch is read at once, and what they changed is written once, in the end:
    what they cost the database follows the accounts they touch, not how many they are.

    `recalls` is given the accounts of which others hold what is wanted, each with the incarnations that want it
    (L45): those of this run alone.

    Returns:
        For each what it is answered, in their order; StaleIncarnation: something is to be lent, and the
        asker is not registered or has ended; LedgerUnavailable: the book has lost something (L50a).
    """
    customer = requests[0].subject.customer
    journal = await Journal.open(tx, customer, wall_ms)
    if journal is None:
        detail = f"customer {customer!r} is not known: `spend customers add {customer}` adds it"
        return [ResolveReply(refusal=Reason.CUSTOMER_UNKNOWN.value, detail=detail)] * len(requests)
    together = await _Together.begin(journal, requests, options)
    answers = await together.answers()
    if recalls is not None:
        recalls.clear()
        recalls.update(together.recalled)
    return answers


class _Together:
    """The requests of one customer that share a transaction."""

    def __init__(self, journal: Journal, requests: Sequence[ResolveRequest], options: LedgerOptions) -> None:
        self._journal = journal
        self._requests = requests
        self._options = options
        self._answers: list[Answer | _Resolving] = []
        self._resolving: list[_Resolving] = []
        self._children = NewChildren(journal, options.max_new_children_per_hour)

    @classmethod
    async def begin(cls, journal: Journal, requests: Sequence[ResolveRequest], options: LedgerOptions) -> _Together:
        """Find out who asks, and read what the answers take."""
        together = cls(journal, requests, options)
        places = await together._places()
        asking = [(request, place) for request, place in zip(requests, places, strict=True) if isinstance(place, tuple)]
        if asking:
            purse = await Purse.open(journal)
            nodes = {node for request, place in asking for node in _nodes(request, place)}
            budgets = await load_budgets(journal.tx, journal.customer, sorted(nodes))
            rates = await load_rate_limits(journal, sorted(nodes))
        for request, place in zip(requests, places, strict=True):
            if not isinstance(place, tuple):
                together._answers.append(place)
                continue
            at = (None, *_nodes(request, place))
            accounts = BudgetAccounts(journal, [budget for budget in budgets if budget.node in at])
            subject = msgspec.structs.replace(request.subject, path=place)
            own_rates = tuple(rate for rate in rates if rate.node in at)
            shared = _Shared(journal, purse, together._children, options)
            together._answers.append(_Resolving(shared, accounts, own_rates, request, subject))
        await together._load()
        if asking:
            for currency in together._currencies():
                await purse.repay(currency)
        return together

    @property
    def recalled(self) -> dict[str, set[str]]:
        """The accounts of which too little was found, and others hold some; each with who wants it."""
        found: dict[str, set[str]] = {}
        for one in self._resolving:
            for name in one.recalled:
                found.setdefault(name, set()).add(one.incarnation)
        return found

    async def answers(self) -> list[Answer]:
        """All of them; what they changed is then written."""
        answers = [await one.reply() if isinstance(one, _Resolving) else one for one in self._answers]
        await self._children.write()
        await self._journal.write()
        return answers

    async def _places(self) -> list[Path | Answer]:
        """Where each caller stands, or why it is not answered."""
        journal, requests = self._journal, self._requests
        named = {node for request in requests for node in nodes_named(request.subject)}
        paths = await load_paths(journal.tx, journal.customer, sorted(named))
        holders = frozenset(Holder(one.sidecar, one.incarnation) for one in requests if one.need_atoms)
        lending = await borrowers(journal.tx, holders)
        places: list[Path | Answer] = []
        for request in requests:
            place = locate(request.subject, paths)
            if isinstance(place, Refusal):
                places.append(ResolveReply(refusal=place.reason.value, detail=place.detail))
            elif request.need_atoms and (
                refusal := lending.refusal(
                    Holder(request.sidecar, request.incarnation),
                    Claim(request.sidecar, request.history_id, request.heard),
                )
            ):
                places.append(refusal)
            elif (frozen := await outermost_frozen(journal, _nodes(request, place))) is not None:
                detail = f"{frozen} is frozen: its calls may not run"
                places.append(ResolveReply(refusal=Reason.NODE_FROZEN.value, detail=detail, owner=frozen))
            else:
                places.append(place)
        return places

    def _currencies(self) -> list[str]:
        return sorted({request.currency for request in self._requests})

    async def _load(self) -> None:
        """Read the accounts and leases of all at once, for those who ask for them one by one."""
        resolving = self._resolving = [one for one in self._answers if isinstance(one, _Resolving)]
        for one in resolving:
            await one.aim()
        names = [target.account for one in resolving for target in one.targets]
        await self._journal.load_accounts([*map(debt_account, self._currencies()), *names])
        await self._journal.load_leases(one.lease_of(target) for one in resolving for target in one.targets)
        await self._journal.load_holders(names)
        await self._children.load(child for one in resolving for child in one.first_accounts)


def _nodes(request: ResolveRequest, place: Path) -> Path:
    """A caller's nodes, from the outermost inwards, its user last."""
    user = request.subject.user
    return (*place, Node("user", user)) if user else place


class _Shared(NamedTuple):
    """What the requests of a transaction have in common."""

    journal: Journal
    purse: Purse
    children: NewChildren
    options: LedgerOptions


class _Resolving:
    """One request whose subject is known."""

    def __init__(
        self,
        shared: _Shared,
        accounts: BudgetAccounts,
        rate_limits: tuple[RateLimit, ...],
        request: ResolveRequest,
        subject: Subject,
    ) -> None:
        self._journal, self._purse, self._children, self._options = shared
        self._rate_limits = rate_limits
        self._request = request
        self._subject = subject
        self._accounts = accounts
        self._lender = Lender(self._journal, accounts, self._purse, Holder(request.sidecar, request.incarnation))
        self._holdings = {holding.lease_id: holding.left_atoms for holding in request.holdings}
        self._budgets: list[Target] = []
        self._grants: list[Target] = []
        self._overdrafts: list[Target] = []
        self.recalled: list[str] = []

    async def aim(self) -> None:
        """Find the accounts that matter to it: what comes before everything else."""
        journal, request = self._journal, self._request
        self._budgets = await self._budget_targets(ahead=request.next_period)
        if journal.wallet is Wallet.REQUIRED and not request.next_period:
            covering = self._purse.covering(request.currency, model=request.model, feature=self._subject.feature)
            self._grants = [grant_target(grant, journal.now_ms, self._options) for grant in covering]

    @property
    def incarnation(self) -> str:
        """Who asks."""
        return self._request.incarnation

    @property
    def targets(self) -> list[Target]:
        """The accounts that matter to it."""
        return [*self._budgets, *self._grants, *self._overdrafts]

    @property
    def _hard(self) -> list[Target]:
        return [target for target in self._budgets if target.budget is not None and target.budget.hard]

    def lease_of(self, target: Target) -> str:
        """The name of its lease on an account."""
        return lease_id(self._request.incarnation, target.account)

    @property
    def first_accounts(self) -> set[Child]:
        """The children whose first account of a hard budget this may be; the accounts must have been loaded."""
        return self._first_accounts(self._hard) if self._request.need_atoms else set()

    async def reply(self) -> ResolveReply:
        """The standing, and what was lent."""
        request = self._request
        if request.need_atoms and self._journal.wallet is Wallet.REQUIRED:
            debt = await self._purse.debt(request.currency)
            if debt > self._options.debt_limit_atoms:
                detail = f"{self._journal.customer!r} owes {debt} atoms of {request.currency}; a paid grant repays them"
                return ResolveReply(refusal=Reason.DEBT_LIMIT.value, detail=detail)
        grants, targets = self._grants, self.targets
        leases: list[LeaseGrant | None] = []
        if request.need_atoms:
            hard = self._hard
            new = self._children.among(self._first_accounts(hard))
            if new is None:
                detail = f"over {self._options.max_new_children_per_hour} new users, agents or sessions in an hour"
                return ResolveReply(refusal=Reason.TOO_MANY_SUBJECTS.value, detail=detail)
            if self._lend(hard, grants):
                self._children.note(new)
            # Also where nothing was lent: the asker's totals may have grown by a sync whose answer it
            # has not heard yet, and the readings alone would then look to it as if that were gone.
            leases = [self._lender.renew(target) for target in (*hard, *grants, *self._overdrafts)]
        return ResolveReply(
            standing=self._standing(),
            leases=tuple(lease for lease in leases if lease is not None),
            readings=tuple(map(self._lender.reading, targets)),
        )

    def _standing(self) -> Standing:
        now_ms, fresh_for_ms = self._journal.now_ms, self._options.fresh_for_ms
        change_ms = self._purse.next_change_ms()
        return Standing(
            customer=self._journal.customer,
            path=self._subject.path,
            user=self._subject.user,
            wallet=self._journal.wallet,
            currency=self._options.currency,
            budgets=self._accounts.budgets,
            grants=self._purse.live,
            plan=self._options.plan,
            revision=self._journal.revision,
            fresh_for_ms=fresh_for_ms if change_ms is None else min(fresh_for_ms, change_ms - now_ms),
            rate_limits=self._rate_limits,
        )

    async def _budget_targets(self, *, ahead: bool) -> list[Target]:
        """The accounts of the budgets that apply, now or, `ahead`, in a next period that begins soon."""
        now_ms, request = self._journal.now_ms, self._request
        targets: list[Target] = []
        for budget in self._accounts.applying(
            self._subject, model=request.model, provider=request.provider, currency=request.currency
        ):
            if budget.cadence is Cadence.WINDOW:
                if not ahead:  # the next one begins when it is used
                    window = await window_to_lend_from(self._journal, budget, budget.child_of(self._subject))
                    targets.append(budget_target(budget, self._subject, window, now_ms, self._options))
                continue
            period = self._journal.period(budget)
            if ahead:
                if period.ends_at_ms is None or period.ends_at_ms - now_ms > self._ahead_ms():
                    continue
                period = self._journal.period(budget, period.ends_at_ms)
            targets.append(budget_target(budget, self._subject, period, now_ms, self._options))
            overdraft = overdraft_of(budget)
            if overdraft is not None:
                self._overdrafts.append(overdraft_target(overdraft, period, now_ms, self._options))
        return targets

    def _ahead_ms(self) -> int:
        return NEXT_PERIOD_REFRESHES * self._options.refresh_every_ms

    def _lend(self, hard: list[Target], grants: list[Target]) -> bool:
        """Lend what the need is short of: on every account or, if one has too little, on none (False).

        Ahead of a period nothing waits yet, so each account there is lent to for itself.
        """
        plans = [(target, *self._plan_budget(target)) for target in hard]
        loans = [loan for _, loan, _ in plans if loan is not None]
        if self._request.next_period:
            self._lender.make(loans + self._lend_overdrafts())
            return True
        short = [target for target, loan, covered in plans if loan is None and not covered]
        lacking = 0
        if self._journal.wallet is Wallet.REQUIRED:
            walked, lacking = self._walk_grants(grants)
            loans += walked
            short += grants if lacking else []
        if short or lacking:
            self._recall(short)
            return False
        self._lender.make(loans + self._lend_overdrafts())
        return True

    def _lend_overdrafts(self) -> list[Loan]:
        """With the first lease goes the second, for when we are away (L47)."""
        plans = [self._lender.plan(target, at_least=0, demand=0) for target in self._overdrafts]
        return [loan for loan in plans if loan is not None]

    def _left(self, target: Target) -> int:
        """What the holder has left on its lease: never more than we keep aside for it.

        Below zero is what it charged above its lease and we have not booked yet: what was booked
        of it was taken from the account then, and a loan's total makes up for it by itself.
        """
        lease = self._lender.lease(target)
        return min(self._holdings.get(lease.lease_id, 0), lease.raw) + max(0, -lease.raw)

    def _plan_budget(self, target: Target) -> tuple[Loan | None, bool]:
        """A loan, or None and whether the lease already covers the need."""
        left = self._left(target)
        if left >= self._request.need_atoms:
            return None, True
        at_least = self._request.need_atoms - left
        return self._lender.plan(target, at_least=at_least, demand=self._request.demand_atoms - left), False

    def _walk_grants(self, grants: list[Target]) -> tuple[list[Loan], int]:
        """Loans in burn order, each grant to its end before the next (L16), and what the need still lacks."""
        loans: list[Loan] = []
        lacking = self._request.need_atoms
        for target in grants:
            if lacking <= 0:
                break
            free = max(0, self._left(target))
            lacking -= free
            wanted = min(lacking, self._lender.unlent(target))
            if wanted > 0:
                loan = self._lender.plan(target, at_least=wanted, demand=self._request.demand_atoms - free)
                if loan is not None:
                    loans.append(loan)
                    lacking -= loan.moved_atoms
        return loans, max(0, lacking)

    def _recall(self, short: list[Target]) -> None:
        """Ask back what others hold of the accounts that had too little (L45)."""
        now_ms = self._journal.now_ms
        for target in short:
            if self._lender.elsewhere(target) <= 0:
                continue
            self.recalled.append(target.account)
            if self._journal.wanted_until_ms(target.account) <= now_ms:
                until_ms = now_ms + WANTED_REFRESHES * self._options.refresh_every_ms
                self._journal.note_wanted(target.account, until_ms)

    def _first_accounts(self, hard: list[Target]) -> set[Child]:
        """The children whose first account of a budget this would be."""
        return {
            (target.budget.each.value, target.child)
            for target in hard
            if target.budget is not None and target.child and not self._journal.exists(target.account)
        }
