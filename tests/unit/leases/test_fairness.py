"""Customers take turns: none is kept waiting by how much another asks for (S-35)."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.governance.budgets import Budget, Each
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import Subject
from sidecar.leases import keeper, renewal
from sidecar.leases.fairness import CustomerTurns, in_turn
from sidecar.leases.flights import MAX_FLIGHTS
from sidecar.leases.table import Covered
from tests.support.scripted_ledger import CustomerBook
from tests.unit.leases.test_keeper import House


def two_customers() -> House:
    """Both with a budget for each user."""
    house = House(CustomerBook(budgets=(Budget("b", "usd", 1000, Cadence.LIFETIME, each=Each.USER),)))
    house.ledger.customers["globex"] = CustomerBook(budgets=(Budget("g", "usd", 1000, Cadence.LIFETIME),))
    return house


def test_each_customer_has_one_before_any_has_a_second() -> None:
    """Of many things some are taken, customer by customer; a customer's own keep their order."""
    things = [*(f"a{number}" for number in range(9)), "b0", "c0", "b1"]
    assert in_turn(things, lambda one: one[0], 5) == ["a0", "b0", "c0", "a1", "b1"]
    assert in_turn(things, lambda one: one[0], 2) == ["a0", "b0"]
    assert sorted(in_turn(things, lambda one: one[0], 99)) == sorted(things)
    assert in_turn([], str, 5) == []


async def test_who_waits_is_let_in_customer_by_customer() -> None:
    """A hundred of one that came first keep another's one waiting for a single turn; never are there more at once."""
    turns, inside, order = CustomerTurns(2), 0, []

    async def go(name: str) -> None:
        nonlocal inside
        async with turns.of(name[0]):
            inside += 1
            assert inside <= 2
            order.append(name)
            await asyncio.sleep(0)
            inside -= 1

    names = [*(f"a{number}" for number in range(100)), "b0", "c0", "b1"]
    await asyncio.gather(*map(go, names))
    assert sorted(order) == sorted(names)
    assert order.index("b0") < 5
    assert order.index("c0") < 6
    assert order.index("b1") < 10
    assert [name for name in order if name[0] == "a"] == names[:100]


async def test_one_that_is_gone_keeps_no_turn() -> None:
    """Whether it was still waiting or its turn had just come: the next one gets it, and the number stays what it is."""
    turns = CustomerTurns(1)
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def hold(customer: str) -> str:
        async with turns.of(customer):
            entered.set()
            await leave.wait()
            return customer

    first = asyncio.create_task(hold("a"))
    await entered.wait()
    waiting, next_one = asyncio.create_task(hold("b")), asyncio.create_task(hold("c"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    leave.set()
    await asyncio.sleep(0)
    assert first.done()
    next_one.cancel()  # its turn has come, and it has not run since
    last = asyncio.create_task(hold("d"))
    async with asyncio.timeout(5):
        assert await last == "d"
    assert {waiting.cancelled(), next_one.cancelled()} == {True}
    async with asyncio.timeout(5), turns.of("e"):
        pass


async def test_a_flood_of_new_users_keeps_no_other_customer_waiting() -> None:
    """A call of another customer that has to ask stands behind those that are asked already, and behind no more."""
    house = two_customers()
    house.ledger.gate = asyncio.Event()
    flood = [asyncio.create_task(house.cover(1, Subject("acme", user=f"user-{number}"))) for number in range(500)]
    await asyncio.sleep(0.01)
    other = asyncio.create_task(house.cover(1, Subject("globex")))
    await asyncio.sleep(0.01)
    house.ledger.gate.set()
    assert isinstance(await other, Covered)
    asked = [request.subject.customer for request in house.ledger.resolves]
    assert asked.index("globex") <= MAX_FLIGHTS + 1
    assert all(isinstance(one, Covered) for one in await asyncio.gather(*flood))


async def test_standings_are_kept_fresh_for_each_customer_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of one customer's are about to be stale, another's is asked for at the same refresh."""
    monkeypatch.setattr(keeper, "MAX_BACKGROUND_QUESTIONS", 4)
    house = two_customers()
    for number in range(10):
        await house.cover(0, Subject("acme", user=f"user-{number}"))
    await house.cover(0, Subject("globex"))
    house.ledger.resolves.clear()
    house.clock.advance(50)  # of the 60 s for which they are fresh
    for number in range(10):
        await house.cover(0, Subject("acme", user=f"user-{number}"))
    await house.cover(0, Subject("globex"))
    await house.keeper.refresh()
    asked = [request.subject.customer for request in house.ledger.resolves]
    assert sorted(asked) == ["acme", "acme", "acme", "globex"]


async def test_leases_are_reported_of_each_customer_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of one customer goes with the next sync, however many of another's are due before it; none is lost."""
    monkeypatch.setattr(renewal, "MAX_LEASES_PER_SYNC", 4)
    house = two_customers()
    for number in range(10):
        await house.cover(1, Subject("acme", user=f"user-{number}"))
    await house.cover(1, Subject("globex"))
    house.clock.advance(1)
    await house.keeper.refresh()
    rounds = []
    while house.keeper.has_due:
        rounds.append({customer: len(reports) for customer, reports in house.keeper.due().items()})
    assert rounds == [{"acme": 3, "globex": 1}, {"acme": 4}, {"acme": 3}]
