"""Copies of policies, left and read: what they say, and that they never let anything through."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import pytest

from sidecar.contract.codec import encode
from sidecar.contract.warm_copies import WarmCopy
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import CopiesUnavailable
from sidecar.leases import warm as warm_module
from sidecar.leases.breaker import Breaker
from sidecar.leases.table import Covered, Uncovered
from sidecar.leases.warm import BELIEVE_S, DETAIL, REWRITE_S, WarmKeeper, WarmStandings
from tests.support.clock import FakeClock
from tests.unit.leases.test_keeper import House, limited

ADA = Subject("acme", (), "ada")
HARD = Budget("hard", "usd", 5_000, Cadence.LIFETIME)
SOFT = Budget("soft", "usd", 5_000, Cadence.DAY, hard=False)


def standing(*budgets: Budget, wallet: Wallet = Wallet.NONE, revision: int = 1) -> Standing:
    return Standing("acme", (), "ada", wallet, "usd", budgets, (), "default@1", revision, 60_000)


class Shelf:
    """Copies in memory; `broken`: it does not answer."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self.broken = False
        self.asked = 0
        self.writes = 0

    async def read(self, customer: str, name: str) -> bytes | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken:
            raise CopiesUnavailable("no")
        return self.kept.get((customer, name))

    async def write(self, customer: str, name: str, data: bytes) -> None:
        self.writes += 1
        if self.broken:
            raise CopiesUnavailable("no")
        self.kept[customer, name] = data


def warmed(shelf: Shelf, clock: FakeClock) -> WarmStandings:
    return WarmStandings(shelf, clock, breaker=Breaker(failures=3, open_s=1, max_open_s=10))


async def written(warm: WarmStandings) -> None:
    """Let it write what it has noted."""
    running = asyncio.create_task(warm.run())
    for _ in range(50):
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


class Start:
    """A sidecar that started while the ledger is away, and copies of what an earlier one heard."""

    def __init__(self) -> None:
        self.house = House(limited(1_000_000))
        self.house.ledger.away = True
        self.shelf = Shelf()
        self.warm = warmed(self.shelf, self.house.clock)
        self.has_heard = False
        self.keeper = WarmKeeper(self.house.keeper, self.warm, lambda: self.has_heard)

    async def leave(self, *budgets: Budget, wallet: Wallet = Wallet.NONE) -> None:
        earlier = warmed(self.shelf, self.house.clock)
        earlier.note(ADA, standing(*budgets, wallet=wallet))
        await written(earlier)

    async def cover(self, need_atoms: int = 10) -> Covered | Uncovered:
        return await self.keeper.cover(ADA, model="m", provider="openai", need_atoms=need_atoms, currency="usd")


async def test_l47_a_copy_says_which_limits_there_are_and_admits_nothing() -> None:
    """L47: a sidecar without a lease refuses, with every budget that applies, its limit and the copy's age."""
    start = Start()
    await start.leave(SOFT, HARD)
    start.house.clock.advance(30)
    found = await start.cover()
    assert isinstance(found, Uncovered)
    assert (found.reason, found.detail, found.standing_age_ms) == (Reason.LEDGER_UNAVAILABLE, DETAIL, 30_000)
    assert [(one.id, one.hard, one.limit, one.used) for one in found.consulted] == [
        ("soft", False, 5_000, None),
        ("hard", True, 5_000, None),
    ]
    assert found.retry_after_ms is not None


async def test_l16a_a_customer_known_to_have_no_hard_budget_is_refused_for_that() -> None:
    """L16a: neither a wallet nor a hard budget, so nothing would bound the call, with the ledger or without."""
    start = Start()
    await start.leave(SOFT)
    found = await start.cover()
    assert isinstance(found, Uncovered)
    assert (found.reason, [one.id for one in found.consulted]) == (Reason.NO_LIMIT_APPLIES, ["soft"])


@pytest.mark.parametrize("need_atoms", [0, 1, 10])
@pytest.mark.parametrize("wallet", list(Wallet))
@pytest.mark.parametrize("budgets", [(), (SOFT,), (msgspec.structs.replace(HARD, limit_atoms=2**62),)])
async def test_l0_no_copy_lets_anything_through(budgets: tuple[Budget, ...], wallet: Wallet, need_atoms: int) -> None:
    """L0: whatever whoever can write there writes, a call is refused as it would be without, and nothing of it stays.

    Not even for a call without a ceiling, which a policy may let through where no hard budget is known.
    """
    start = Start()
    await start.leave(HARD)
    forged = msgspec.structs.replace(standing(*budgets, wallet=wallet, revision=10**9))
    (place,) = start.shelf.kept
    start.shelf.kept[place] = encode(WarmCopy("acme", (), "ada", start.house.clock.wall_ms(), forged))
    found = await start.cover(need_atoms)
    assert isinstance(found, Uncovered)
    assert found.standing is None  # nobody shortens the call by it, or counts by it
    assert start.warm.read == 1
    assert start.keeper.standing(ADA) is None
    assert start.house.keeper.revision("acme") == 0
    assert (len(start.house.table), start.house.table.open_holds) == (0, 0)
    start.house.ledger.away, start.has_heard = False, True
    start.house.clock.advance(5)
    assert isinstance(await start.cover(need_atoms), Covered)  # by the ledger's word alone
    assert start.house.keeper.revision("acme") < 10**9


async def test_once_the_ledger_has_answered_no_copy_is_read() -> None:
    """From then on what it said is known, also of whom it said nothing."""
    start = Start()
    await start.leave(HARD)
    start.has_heard = True
    found = await start.cover()
    assert isinstance(found, Uncovered)
    assert (found.consulted, start.shelf.asked) == ((), 0)


async def test_a_copy_that_is_not_there_or_not_answered_changes_nothing() -> None:
    """Then the refusal is the plain one; a place that does not answer is left alone after three times."""
    start = Start()
    plain = await start.cover()
    assert isinstance(plain, Uncovered)
    assert (plain.reason, plain.consulted, start.shelf.asked) == (Reason.LEDGER_UNAVAILABLE, (), 1)
    start.shelf.broken = True
    start.house.clock.advance(BELIEVE_S)
    for _ in range(10):
        assert isinstance(await start.cover(), Uncovered)
    assert start.shelf.asked == 4


async def test_what_was_read_stands_for_a_while() -> None:
    """A crowd of refused calls asks Redis once in a few seconds."""
    start = Start()
    await start.leave(HARD)
    for _ in range(20):
        await start.cover()
    assert start.shelf.asked == 1
    start.house.clock.advance(BELIEVE_S)
    await start.cover()
    assert start.shelf.asked == 2


async def test_reads_memory_and_queue_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of users nobody knows costs a bounded number of reads at once, of memory, and of waiting copies."""
    for name in ("MAX_READ", "MAX_READS", "MAX_PENDING", "MAX_WRITTEN"):
        monkeypatch.setattr(warm_module, name, 4)
    shelf, clock = Shelf(), FakeClock()
    warm = warmed(shelf, clock)
    users = [Subject("acme", (), f"u{number}") for number in range(20)]
    await asyncio.gather(*(warm.recall(user) for user in users))
    assert shelf.asked == 4
    for user in users:
        await warm.recall(user)
    assert len(warm._found) == 4
    for user in users:
        warm.note(user, msgspec.structs.replace(standing(HARD), user=user.user))
    await written(warm)
    assert shelf.writes == 4
    for user in users[10:]:
        warm.note(user, msgspec.structs.replace(standing(HARD), user=user.user))
        await written(warm)
    assert (shelf.writes, len(warm._noted)) == (14, 4)


async def test_a_copy_is_left_anew_when_it_changed_or_is_old() -> None:
    """The same standing heard again is not written again, a changed one at once, any after a while."""
    shelf, clock = Shelf(), FakeClock()
    warm = warmed(shelf, clock)
    for said in (standing(HARD), standing(HARD), standing(HARD, revision=2), standing(SOFT, revision=2)):
        warm.note(ADA, said)
        await written(warm)
    assert (shelf.writes, warm.written) == (3, 3)
    clock.advance(REWRITE_S)
    warm.note(ADA, standing(SOFT, revision=2))
    await written(warm)
    assert shelf.writes == 4


async def test_what_could_not_be_written_is_when_it_is_heard_again() -> None:
    """Nothing is tried twice by itself."""
    shelf, clock = Shelf(), FakeClock()
    warm = warmed(shelf, clock)
    shelf.broken = True
    warm.note(ADA, standing(HARD))
    await written(warm)
    assert (shelf.writes, shelf.kept) == (1, {})
    shelf.broken = False
    await written(warm)
    assert shelf.writes == 1
    warm.note(ADA, standing(HARD))
    await written(warm)
    assert len(shelf.kept) == 1
