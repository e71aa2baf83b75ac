"""The laws, each an object that watches one simulation. Their numbers are those of `SEMANTICS.md`.

They know the provider's truth and may read the book and every sidecar's memory; none of them uses the code
that it checks to say what is right, but `Whole`, which asks the ledger to check its own book (L9).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from sidecar.contract.codec import decode
from sidecar.contract.messages import UsageEvent, lease_account
from sidecar.ledger.booked_calls import Batch
from sidecar.ledger.verifying import verify
from sidecar.storage.sqlite import SQLiteTransaction, drive
from tests.scenarios.machine import BEGINS_MS
from tests.scenarios.pods import Life
from tests.scenarios.truth import Made, wallet_of
from tests.scenarios.world import HOUR_MS, Broken, Law, World

TODAY = datetime.fromtimestamp(BEGINS_MS / 1000, UTC).strftime("%Y-%m-%d")
"""The day on which every history begins, about noon, and ends."""


class HardLimits(Law):
    """L0, L47: what is admitted never exceeds a hard limit, nor an overdraft, but for what calls cost above (Ω)."""

    name = "L0"

    def __init__(self) -> None:
        self._bounds: dict[str, int] = {}
        self._limits: dict[str, int] = {}

    def on_commit(self, world: World) -> None:
        for account in world.accounts.values():
            if self._limits.get(account.name) != account.limit:
                # After a change what was spent and lent before stands, and nothing is added to it.
                self._limits[account.name] = account.limit
                before = self._bounds.get(account.name, 0) if world.is_unknown else 0
                self._bounds[account.name] = max(account.limit, account.consumed + account.leased, before)

    def on_admission(self, world: World, made: Made) -> None:
        truth = world.truth
        for account in made.accounts:
            bound = self._bounds.get(account, 0) + truth.overrun[account] + truth.forgotten(account)
            if truth.committed[account] > bound:
                law = "L47" if "+grace:" in account else self.name
                raise Broken(law, f"{account}: {truth.committed[account]} admitted, {bound} allowed")


class Books(Law):
    """L6: the parts of an account are none below zero and sum to what was put in; its leases keep what is lent."""

    name = "L6"

    def on_look(self, world: World) -> None:
        escrow: Counter[str] = Counter()
        for account, atoms in world.book.rows("SELECT account, granted - returned - posted FROM leases"):
            escrow[account] += max(0, atoms)
        for account, source, available, *others in world.book.rows(
            "SELECT account, source, available, held, leased, consumed, expired, revoked, unaccounted FROM accounts"
        ):
            if source + available + sum(others) or min(others) < 0:
                raise Broken(self.name, f"{account}: {source} was put in, of it are {(available, *others)}")
            if available < 0 and account.startswith("grant:"):  # a budget's limit may have been lowered
                raise Broken(self.name, f"{account}: {available} are available")
            if others[1] != escrow[account]:
                raise Broken(self.name, f"{account}: {others[1]} lent, its leases keep {escrow[account]}")


class Lending(Law):
    """L39: the ledger lends only while spent + lent ≤ limit."""

    name = "L39"

    def __init__(self) -> None:
        self._granted: dict[str, int] = {}

    def on_commit(self, world: World) -> None:
        for name, granted in world.book.rows("SELECT account, sum(granted) FROM leases GROUP BY account"):
            more, self._granted[name] = granted - self._granted.get(name, 0), granted
            account = world.accounts.get(name)
            if world.is_unknown:  # what is told again was lent before
                continue
            if more > 0 and account is not None and account.consumed + account.leased > account.limit:
                raise Broken(self.name, f"{more} lent, and so it came to {account}")


class Exposure(Law):
    """L48: what is really consumed never exceeds what is booked and what is lent (and Ω)."""

    name = "L48"
    needs_whole_book = True

    def on_admission(self, world: World, made: Made) -> None:
        for account in made.accounts:
            self._check(world, account)
        if made.admission.slices:
            self._check_wallet(world, wallet_of(made.admission.subject.customer))

    def on_look(self, world: World) -> None:
        for account in world.truth.committed:
            if account.startswith("wallet:"):
                self._check_wallet(world, account)
            else:
                self._check(world, account)

    def _check(self, world: World, name: str) -> None:
        truth, account = world.truth, world.accounts.get(name)
        known = 0 if account is None else account.consumed + account.leased
        if truth.committed[name] > known + truth.overrun[name] + truth.forgotten(name):
            raise Broken(self.name, f"{name}: {truth.committed[name]} consumed, the book knows of {known}")

    def _check_wallet(self, world: World, name: str) -> None:
        truth, customer = world.truth, name.partition(":")[2]
        ((known,),) = world.book.rows(
            "SELECT coalesce(sum(consumed + leased), 0) FROM accounts WHERE customer = ? AND account LIKE 'grant:%'",
            customer,
        )
        if truth.committed[name] > known + truth.overrun[name]:
            raise Broken(self.name, f"{name}: {truth.committed[name]} consumed, the book knows of {known}")


class Totals(Law):
    """L42: a holder knows of no more than was granted, and has returned no less than the book believes."""

    name = "L42"
    needs_whole_book = True

    def on_look(self, world: World) -> None:
        sql = "SELECT lease_id, granted, returned FROM leases WHERE closed = 0"
        booked = {name: (granted, returned) for name, granted, returned in world.book.rows(sql)}
        for life in _running(world):
            for lease in life.office.table.leases():
                granted, returned = booked.get(lease.lease_id, (lease.granted, 0))
                if not lease.closed and (lease.granted > granted or lease.returned < returned):
                    raise Broken(
                        self.name,
                        f"{lease.lease_id}: its holder has {lease.granted} granted and {lease.returned} returned,"
                        f" the book {granted} and {returned}",
                    )


class Holds(Law):
    """L21: what is held on a sidecar's leases is what its open calls hold: a denial takes nothing."""

    name = "L21"

    def on_look(self, world: World) -> None:
        held: dict[Life, Counter[str]] = {life: Counter() for life in _running(world)}
        for made in world.truth.made.values():
            if made.event is None and made.life in held:
                held[made.life].update(dict.fromkeys(made.admission.budget_leases, made.admission.held_atoms))
                held[made.life].update(dict(made.admission.slices))
        for life, by_lease in held.items():
            for lease in life.office.table.leases():
                calls_hold = by_lease[lease.lease_id]
                if lease.held != calls_hold:
                    raise Broken(self.name, f"{lease.lease_id}: {lease.held} held, open calls hold {calls_hold}")


class InPeriod(Law):
    """L37, L10: a call is admitted in the period of the account that bears it, and on no grant that has ended."""

    name = "L37"

    def on_admission(self, world: World, made: Made) -> None:
        now_ms = world.ledger_clock.true_ms()
        slack_ms = world.clock_error_ms + round(made.life.pod.clock.slept_s * 1000)
        for account in made.accounts:
            key = account.split(":", 3)[2]
            if key == "lifetime":
                continue
            begins_ms = round(datetime.strptime(key, "%Y-%m-%dT%HZ").replace(tzinfo=UTC).timestamp() * 1000)
            if not begins_ms - slack_ms <= now_ms < begins_ms + HOUR_MS + slack_ms:
                raise Broken(self.name, f"{account}: admitted on {(now_ms - begins_ms) / 1000:g} s after it began")
        for lease, _ in made.admission.slices:
            grant = lease_account(lease).partition(":")[2]
            ((ends_ms,),) = world.book.rows("SELECT expires_at_ms FROM grants WHERE grant_id = ?", grant)
            if ends_ms is not None and now_ms - slack_ms >= ends_ms:
                raise Broken(self.name, f"{lease}: admitted on {(now_ms - ends_ms) / 1000:g} s after its end")


class Whole(Law):
    """L9: rebuilding every balance from the entries gives the stored balances, and the chain of entries holds."""

    name = "L9"

    def on_quiet(self, world: World) -> None:
        self._check(world)

    def on_end(self, world: World) -> None:
        self._check(world)

    def _check(self, world: World) -> None:
        for (customer,) in world.book.rows("SELECT customer FROM customers"):
            problems = drive(verify(SQLiteTransaction(world.book.connection), customer)).problems
            if problems:
                raise Broken(self.name, f"{customer}: {problems}")


class Once(Law):
    """L29, L49, L25: every call whose records survived is booked, once; at what it cost, or flagged at no less."""

    name = "L29"

    def on_quiet(self, world: World) -> None:
        booked: dict[str, UsageEvent] = {}
        consumed: Counter[str] = Counter()
        each: dict[str, str] = dict(world.book.rows("SELECT budget_id, each_child FROM budgets"))
        for event in booked_calls(world):
            name = event.admission.request_id
            if name in booked or name not in world.truth.made:
                raise Broken(self.name, f"{name}: booked twice, or no provider has heard of it")
            booked[name] = event
            for lease in event.admission.budget_leases:
                consumed[lease_account(lease)] += event.charge_atoms or 0
                if "+grace:" in lease:  # it counts in the budget beside, in the period that it was let run in
                    budget, key = lease_account(lease).removeprefix("budget:").split("+grace:")
                    child = str(getattr(event.admission.subject, each[budget])) if each[budget] else ""
                    consumed[f"budget:{budget}:{key}{child}"] += event.charge_atoms or 0
        for made in world.truth.made.values():
            found = booked.get(made.request_id)
            if found is not None:
                self._check_charge(made, found)
            elif not made.may_be_lost:
                raise Broken("L49", f"{made.request_id} of {made.life.pod.name} is not booked")
        for account in world.accounts.values():
            if account.consumed != consumed[account.name]:
                raise Broken(self.name, f"{account}: its calls charge {consumed[account.name]}")

    def _check_charge(self, made: Made, event: UsageEvent) -> None:
        charge, actual = event.charge_atoms or 0, made.actual or 0
        if made.event is not None and not made.may_be_guessed and event != made.event:
            raise Broken("book", f"{made.request_id}: recorded {made.event}, booked {event}")
        if charge < actual - made.overrun:
            raise Broken("book", f"{made.request_id}: cost {actual}, booked {charge}")
        if charge != actual and "estimated" not in event.flags:
            raise Broken("book", f"{made.request_id}: cost {actual}, booked {charge} without a flag")


class Liveness(Law):
    """Once all is healed leases are granted, outboxes are empty, and only the living hold anything."""

    name = "liveness"

    def on_quiet(self, world: World) -> None:
        for life in (pod.life for pod in world.pods if pod.life is not None):
            office = life.office
            wrong = {
                "does not run": not life.is_running,
                "has not joined": not office.joined,
                "a part has stopped": office.has_failed,
                "its outbox fails": bool(office.spool.fault),
                "calls wait in the outbox": bool(office.shipper.depth),
                "calls are open": bool(office.spool.open_calls or office.table.open_holds),
                "was refused credit that is there": life in world.refused_probes,
                "the book still lacks something": world.is_unknown,
            }
            for what, is_so in wrong.items():
                if is_so:
                    raise Broken(self.name, f"{life.pod.name}: {what}")
        self._check_escrow(world, {life.incarnation for life in _running(world)})

    def on_end(self, world: World) -> None:
        self._check_escrow(world, set())

    def _check_escrow(self, world: World, alive: set[str]) -> None:
        """What is lent is lent to the living, and to those whose disk was lost or is not to be trusted."""
        excused = alive | {life.incarnation for life in world.lives if life.may_leave}
        sql = "SELECT lease_id, incarnation, granted - returned - posted FROM leases WHERE granted - returned > posted"
        for lease, incarnation, escrow in world.book.rows(sql):
            if incarnation not in excused:
                raise Broken(self.name, f"{escrow} atoms of {lease} are stuck")


class Agreement(Law):
    """L42: once all is healed the book has of each lease what its holder has charged on it, and no more.

    But for leases of calls that another booked in its holder's place, from a copy of its files, at what it could guess.
    """

    name = "L42"

    def on_quiet(self, world: World) -> None:
        sql = "SELECT lease_id, posted, tally, drift FROM leases WHERE closed = 0"
        booked = {name: (posted, tally or 0, drift) for name, posted, tally, drift in world.book.rows(sql)}
        for made in world.truth.made.values():
            if made.may_be_guessed or made.may_be_lost:
                for name in (*made.admission.budget_leases, *dict(made.admission.slices)):
                    booked.pop(name, None)
        for life in _running(world):
            for lease in life.office.table.all_leases():
                posted, tally, drift = booked.get(lease.lease_id, (lease.spent, 0, 0))
                if posted != lease.spent or tally > posted or drift < 0:
                    said = f"{lease.spent} charged, {posted} booked, {tally} told, and then the drift was {drift}"
                    raise Broken(self.name, f"{lease.lease_id}: {said}")


class Counted(Law):
    """L36a, L37: a soft budget counts each call in its period, whatever its sidecar's clock said."""

    name = "L37"

    def on_quiet(self, world: World) -> None:
        soft = dict(world.book.rows("SELECT budget_id, node FROM budgets WHERE hard = 0"))
        counted: Counter[str] = Counter()
        for event in booked_calls(world):
            for budget, node in soft.items():
                if not node or node in map(str, event.admission.subject.path):
                    counted[f"budget:{budget}:{_day_of(event)}:"] += event.charge_atoms or 0
        for account, consumed in world.book.rows("SELECT account, consumed FROM accounts"):
            budget = account.split(":", 2)[1]
            if budget in soft and not soft[budget] and world.clock_error_ms >= HOUR_MS:
                continue  # nobody knows what day it was
            if budget in soft and consumed != counted[account]:
                raise Broken(self.name, f"{account}: {consumed} consumed, its calls charge {counted[account]}")


def _day_of(event: UsageEvent) -> str:
    """The day on which a call was let run: as a lease says that is good for an hour of it, or the only one there is."""
    keys = [lease.split(":", 3)[2] for lease in event.admission.budget_leases]
    return next((key[:10] for key in keys if key != "lifetime"), TODAY)


def all_laws() -> list[Law]:
    """One of each."""
    return [
        Counted(),
        HardLimits(),
        Books(),
        Lending(),
        Exposure(),
        Totals(),
        Holds(),
        InPeriod(),
        Whole(),
        Once(),
        Liveness(),
        Agreement(),
    ]


def booked_calls(world: World) -> list[UsageEvent]:
    """Every call in the book."""
    found: list[UsageEvent] = []
    for (calls,) in world.book.rows("SELECT calls FROM entries WHERE kind = 'usage'"):
        batch = Batch(calls)
        found += [decode(bytes(batch.call(position).event), UsageEvent) for position in range(len(batch.calls))]
    return found


def _running(world: World) -> list[Life]:
    return [pod.life for pod in world.pods if pod.life is not None and pod.life.is_running]
