"""Variants of the product that must not be: each is a thought that looks harmless, and a way to lose money.

They are patched in for one history and stand nowhere in the product. Each names the laws that may find it, and
what a history must be made of for it to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from sidecar.leases.accounts import Lease
from sidecar.leases.table import LeaseTable
from sidecar.leases.verdicts import Held, NoLimit, Short
from sidecar.ledger import learning, lending, reconcile
from sidecar.ledger.service import LedgerService
from sidecar.outbox import recovery, remains
from sidecar.outbox.spool import Spool
from sidecar.ports import Transaction
from sidecar.proxy.authorize import Admitted
from sidecar.proxy.settle import Prices
from tests.scenarios.pods import Life
from tests.scenarios.world import Ids


@dataclass(frozen=True)
class Mutant:
    """One variant: what to patch, which laws find it, and by which faults."""

    patches: Callable[[], list[Any]]
    laws: frozenset[str]
    faults: dict[str, int]
    why: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product is so while the block runs."""
        with ExitStack() as stack:
            for one in self.patches():
                stack.enter_context(one)
            yield


def _refund_at_expiry() -> list[Any]:
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


def _absolute_totals() -> list[Any]:
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


def _counter_identities() -> list[Any]:
    return [patch.object(Life, "ids", lambda life: _CountingIds(life, life.world.ids))]


def _crash_at_zero() -> list[Any]:
    abandoned = recovery.abandoned

    def mutated(admission: Admission, now_ms: int) -> UsageEvent:
        return msgspec.structs.replace(abandoned(admission, now_ms), charge_atoms=0, paid=())

    return [patch.object(recovery, "abandoned", mutated)]


def _closing_from_a_copy() -> list[Any]:
    doubt = remains._doubt

    def mutated(segment: remains.Segment, *more: Any, **named: Any) -> None:
        doubt(segment, *more, **named)
        segment.doubts = [one for one in segment.doubts if one != "the files were copied"]

    return [patch.object(remains, "_doubt", mutated)]


def _closing_after_a_power_loss() -> list[Any]:
    doubt = remains._doubt

    def mutated(segment: remains.Segment, *more: Any, **named: Any) -> None:
        doubt(segment, *more, **named)
        doubted = {"the machine was restarted", "a record is torn or damaged"}
        segment.doubts = [one for one in segment.doubts if one not in doubted]

    return [patch.object(remains, "_doubt", mutated)]


def _take_before_check() -> list[Any]:
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


def _outliving_the_period() -> list[Any]:
    return [patch.object(room, "left_of", lambda _period, _now_ms: None) for room in (lending, reconcile)]


def _learning_of_one_round() -> list[Any]:
    caught_up = learning.note_caught_up

    async def mutated(tx: Transaction, *more: Any) -> None:
        await caught_up(tx, *more)
        await tx.execute("DELETE FROM meta WHERE name = ?", (learning.LEARNING,))

    return [patch.object(learning, "note_caught_up", mutated)]


def _grace_for_each() -> list[Any]:
    def mutated(*, overdraft: int, held_here: int, **_others: int) -> int:
        return max(0, overdraft - held_here)

    return [patch.object(lending, "overdraft_share", mutated)]


def _machines_stamps() -> list[Any]:
    return [patch.object(LedgerTime, "heard", lambda *_heard: None)]


def _todays_prices() -> list[Any]:
    def mutated(life: Life, verdict: Admitted) -> Prices | None:
        prices = verdict.prices
        return None if prices is None else msgspec.structs.replace(prices, card=life.rates.cards[0])

    return [patch.object(Life, "prices", mutated)]


def _nameless_files() -> list[Any]:
    sync_all = Spool._sync_all

    def mutated(spool: Spool, done: list[int], current: int, _new_names: bool) -> None:
        sync_all(spool, done, current, bool(done))

    return [patch.object(Spool, "_sync_all", mutated)]


def _mark_after_spending() -> list[Any]:
    bound = Lease.bound

    def mutated(lease: Lease) -> None:
        bound(lease)
        lease.cap = lease.granted - lease.returned  # its mark bounds it no more, though it is written as before

    return [patch.object(Lease, "bound", mutated)]


MUTANTS = {
    "refund_at_expiry": Mutant(
        _refund_at_expiry,
        frozenset({"L46", "L48", "L0"}),
        {"cut_off": 3, "pause": 1},
        "a lease that has run out is free again: its holder may have spent it, and has not said so",
    ),
    "absolute_totals": Mutant(
        _absolute_totals,
        frozenset({"L46", "L42", "L48", "L0"}),
        {"storm": 1},
        "a message says how a lease stands, and the last one to arrive is right",
    ),
    "counter_identities": Mutant(
        _counter_identities,
        frozenset({"L46", "L48", "L42", "L0", "L29"}),
        {"twin": 2, "crash": 1},
        "a start is known by its number: on a copy of a volume another has the same",
    ),
    "crash_at_zero": Mutant(
        _crash_at_zero,
        frozenset({"L46", "book", "L48"}),
        {"crash": 1},
        "a call whose end nobody saw has cost nothing",
    ),
    "closing_from_a_copy": Mutant(
        _closing_from_a_copy,
        frozenset({"L46", "L48", "L42", "L0"}),
        {"twin": 1},
        "whoever has the files may close the leases: also while the one who wrote them runs on",
    ),
    "closing_after_a_power_loss": Mutant(
        _closing_after_a_power_loss,
        frozenset({"L46", "L48", "L0"}),
        {"lose_power": 1, "fail_sync": 1},
        "the files are trusted although their end was lost: what it told of is given back unspent",
    ),
    "take_before_check": Mutant(
        _take_before_check,
        frozenset({"L21"}),
        {},
        "a denial has taken from those leases that came before the one that was short",
    ),
    "learning_of_one_round": Mutant(
        _learning_of_one_round,
        frozenset({"L0"}),
        {"put_back": 3, "cut_off": 2, "pause": 1},
        "after a loss the ledger lends again once somebody has told what it knows",
    ),
    "machines_stamps": Mutant(
        _machines_stamps,
        frozenset({"L37"}),
        {"set_clock": 3, "cut_off": 2},
        "a call is stamped by its machine's clock: set between a call and its report, it moves the call to another day",
    ),
    "todays_prices": Mutant(
        _todays_prices,
        frozenset({"L46", "book", "L48"}),
        {"publish": 1},
        "a call is charged by the catalog in force when it ends: also by one that was rolled back meanwhile",
    ),
    "nameless_files": Mutant(
        _nameless_files,
        frozenset({"L49"}),
        {"lose_power": 1},
        "a file that was synced is safe: until its folder is too, its name may be lost, and it with that",
    ),
    "mark_after_spending": Mutant(
        _mark_after_spending,
        frozenset({"L46", "L48", "L0"}),
        {"lose_power": 1},
        "a mark follows what was spent: the disk gets it soon enough",
    ),
    "grace_for_each": Mutant(
        _grace_for_each,
        frozenset({"L47", "L39"}),
        {"cut_off": 1},
        "each sidecar may spend a budget's overdraft by itself: as many times as there are sidecars, and starts",
    ),
    "outliving_the_period": Mutant(
        _outliving_the_period,
        frozenset({"L37"}),
        {"cut_off": 1},
        "a lease lasts as long as any other, although its hour ends sooner",
    ),
}
