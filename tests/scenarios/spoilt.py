"""The product spoilt, a way each: what is to be patched for it. `mutants` says of each why, and which law finds it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from sidecar.app.ledger_time import LedgerTime
from sidecar.contract.messages import (
    Admission,
    CustomerPart,
    LeaseGrant,
    LeaseReport,
    ResolveRequest,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget
from sidecar.leases import table
from sidecar.leases.accounts import Account, Lease
from sidecar.leases.table import LeaseTable
from sidecar.leases.verdicts import Held, NoLimit, Short
from sidecar.ledger import journal, learning, lending, reconcile, resolving
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.fleet_views import AwaitedView
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.service import LedgerService
from sidecar.outbox import recovery, remains
from sidecar.outbox.spool import Spool
from sidecar.ports import Transaction
from sidecar.proxy.authorize import Admitted
from sidecar.proxy.settle import Prices
from sidecar.storage.sqlite import drive
from tests.scenarios.book import PretendBook
from tests.scenarios.pods import Life
from tests.scenarios.world import Ids


def refund_at_expiry() -> list[Any]:
    resolve = LedgerService._resolve

    async def refund(service: LedgerService, tx: Transaction, customer: str) -> None:
        now_ms = service._clock.now_ms()
        rows = await tx.fetch(
            "SELECT * FROM leases WHERE customer = ? AND pays_until_ms < ? AND granted - returned - posted > 0",
            (customer, now_ms),
        )
        for row in rows:
            report = LeaseReport(row["lease_id"], row["granted"] - row["posted"])
            request = SyncRequest(row["sidecar"], row["incarnation"], now_ms)
            part = CustomerPart(customer, leases=(report,))
            await reconcile.apply_part(tx, request, part, now_ms, service._options)

    async def mutated(service: LedgerService, customer: str, requests: list[ResolveRequest]) -> Any:
        await service._book.transact(customer, lambda tx: refund(service, tx, customer))
        return await resolve(service, customer, requests)

    return [patch.object(LedgerService, "_resolve", mutated)]


def absolute_totals() -> list[Any]:
    merge = LeaseTable._merge_lease

    def mutated(table: LeaseTable, customer: str, grant: LeaseGrant, *more: Any) -> Lease | None:
        grown = merge(table, customer, grant, *more)
        lease = table.lease(grant.lease_id)
        if lease is not None and not lease.closed:
            lease.granted, lease.returned = grant.granted_atoms, grant.returned_atoms
        return grown

    return [patch.object(LeaseTable, "_merge_lease", mutated)]


class _CountingIds:
    """Incarnations that are the number of the start, as the volume has counted them."""

    def __init__(self, life: Life, ids: Ids) -> None:
        self._folder = life.volume.folder
        self._ids = ids

    def new(self, prefix: str) -> str:
        if prefix != "inc":
            return self._ids.new(prefix)
        path = self._folder / "starts"
        starts = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(starts))
        return f"inc_{(self._folder / 'sidecar.name').read_text().strip()[-20:]}{starts:06}"


def counter_identities() -> list[Any]:
    return [patch.object(Life, "ids", lambda life: _CountingIds(life, life.world.ids))]


def crash_at_zero() -> list[Any]:
    abandoned = recovery.abandoned

    def mutated(admission: Admission, now_ms: int) -> UsageEvent:
        return msgspec.structs.replace(abandoned(admission, now_ms), charge_atoms=0, paid=())

    return [patch.object(recovery, "abandoned", mutated)]


def closing_from_a_copy() -> list[Any]:
    doubt = remains._doubt

    def mutated(segment: remains.Segment, *more: Any, **named: Any) -> None:
        doubt(segment, *more, **named)
        segment.doubts = [one for one in segment.doubts if one != "the files were copied"]

    return [patch.object(remains, "_doubt", mutated)]


def closing_after_a_power_loss() -> list[Any]:
    doubt = remains._doubt

    def mutated(segment: remains.Segment, *more: Any, **named: Any) -> None:
        doubt(segment, *more, **named)
        doubted = {"the machine was restarted", "a record is torn or damaged"}
        segment.doubts = [one for one in segment.doubts if one not in doubted]

    return [patch.object(remains, "_doubt", mutated)]


def take_before_check() -> list[Any]:
    take = LeaseTable.take

    def mutated(table: LeaseTable, *who: Any, atoms: int, now: float, **more: Any) -> Held | Short | NoLimit:
        model, provider = more["model"], more["provider"]
        plan = table.plan(*who, model=model, provider=provider)
        leases = [lease for account in plan.hard if (lease := account.live(now)) is not None]
        for lease in leases:
            lease.held += atoms
        if any(lease.left < 0 for lease in leases):
            return Short(plan, atoms, now)
        for lease in leases:
            lease.held -= atoms
        return take(table, *who, atoms=atoms, now=now, **more)

    return [patch.object(LeaseTable, "take", mutated)]


def outliving_the_period() -> list[Any]:
    return [patch.object(room, "left_of", lambda _period, _now_ms: None) for room in (lending, reconcile)]


def learning_of_one_round() -> list[Any]:
    caught_up = learning.note_caught_up

    async def mutated(tx: Transaction, *more: Any) -> None:
        await caught_up(tx, *more)
        await tx.execute("DELETE FROM meta WHERE name = ?", (learning.LEARNING,))

    return [patch.object(learning, "note_caught_up", mutated)]


def grace_for_each() -> list[Any]:
    def mutated(*, overdraft: int, held_here: int, **_others: int) -> int:
        return max(0, overdraft - held_here)

    return [patch.object(lending, "overdraft_share", mutated)]


def machines_stamps() -> list[Any]:
    return [patch.object(LedgerTime, "heard", lambda *_heard: None)]


def todays_prices() -> list[Any]:
    def mutated(life: Life, verdict: Admitted) -> Prices | None:
        prices = verdict.prices
        return None if prices is None else msgspec.structs.replace(prices, card=life.rates.cards[0])

    return [patch.object(Life, "prices", mutated)]


def nameless_files() -> list[Any]:
    sync_all = Spool._sync_all

    def mutated(spool: Spool, done: list[int], current: int, _new_names: bool) -> None:
        sync_all(spool, done, current, bool(done))

    return [patch.object(Spool, "_sync_all", mutated)]


def returning_what_is_held() -> list[Any]:
    give_back = LeaseTable.give_back

    def mutated(table: LeaseTable, lease: Lease, atoms: int) -> None:
        give_back(table, lease, atoms)
        if atoms:
            lease.returned += lease.held

    return [patch.object(LeaseTable, "give_back", mutated)]


def escrow_of_what_is_posted() -> list[Any]:
    return [patch.object(journal, "escrow", lambda granted, returned, _posted: max(0, granted - returned))]


def holder_knows_what_was_granted() -> list[Any]:
    take_back = reconcile._Reconciling._take_back

    def mutated(reconciling: Any, known: list[tuple[Any, LeaseReport]]) -> None:
        more = []
        for lease, said in known:
            unheard = lease.granted - said.granted_atoms if said.granted_atoms else 0
            returned = said.returned_atoms + max(0, unheard)
            more.append((lease, msgspec.structs.replace(said, returned_atoms=returned)))
        take_back(reconciling, more)

    return [patch.object(reconcile._Reconciling, "_take_back", mutated)]


def answered_before_the_commit() -> list[Any]:
    transact = PretendBook.transact

    async def mutated(book: PretendBook, customer: str, work: Any) -> Any:
        if book._rng.random() >= book.failing:
            return await transact(book, customer, work)
        book.connection.execute("BEGIN IMMEDIATE")
        try:
            return drive(work(book._transaction))
        finally:
            book.connection.execute("ROLLBACK")

    return [patch.object(PretendBook, "transact", mutated)]


def refilled_overdraft() -> list[Any]:
    unlent = lending.Lender.unlent

    def mutated(lender: lending.Lender, target: lending.Target) -> int:
        if target.budget is None or not target.is_overdraft:
            return unlent(lender, target)
        return target.budget.limit_atoms - lender._journal.balance(target.account, target.currency).leased

    return [patch.object(lending.Lender, "unlent", mutated)]


def next_period_at_once() -> list[Any]:
    merge = LeaseTable._merge_lease

    def mutated(table: LeaseTable, customer: str, grant: LeaseGrant, *more: Any) -> Lease | None:
        return merge(table, customer, msgspec.structs.replace(grant, starts_in_ms=0), *more)

    return [patch.object(LeaseTable, "_merge_lease", mutated)]


def outliving_the_grant() -> list[Any]:
    target = lending.grant_target

    def mutated(grant: Grant, now_ms: int, options: LedgerOptions) -> lending.Target:
        return msgspec.structs.replace(target(grant, now_ms, options), pays_for_ms=options.valid_for_ms)

    return [patch.object(reconcile, "grant_target", mutated), patch.object(resolving, "grant_target", mutated)]


def nobody_awaited() -> list[Any]:
    async def mutated(_tx: Transaction) -> tuple[AwaitedView, ...]:
        return ()

    return [patch.object(learning, "awaited", mutated)]


def unwritten_admissions() -> list[Any]:
    def mutated(spool: Spool, admission: Admission) -> None:
        spool._open[admission.request_id] = spool.number, 0

    return [patch.object(Spool, "admit", mutated)]


def one_for_all() -> list[Any]:
    whole = table._whole

    def mutated(accounts: tuple[Account, ...], atoms: int, now: float) -> list[Lease] | None:
        if whole(accounts[:1], atoms, now) is None:
            return None
        leases = [account.live(now) for account in accounts]
        return None if None in leases else [lease for lease in leases if lease is not None]

    return [patch.object(table, "_whole", mutated)]


def lending_by_the_old_limit() -> list[Any]:
    def mutated(accounts: BudgetAccounts, account: str, budget: Budget) -> int:
        return accounts._journal.balance(account, budget.currency).available or budget.limit_atoms

    return [patch.object(BudgetAccounts, "unlent", mutated)]
