"""So much of one customer is under way at a time, and only while others ask."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.contract.messages import CustomerPart
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ledger import portions
from sidecar.ledger.portions import MAX_CALLS, MAX_WORKS, Crowd, Portions, cut
from tests.support.ledger import Desk


class Queue:
    """Who is in the book's queue, in the order in which they came."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.portions = Portions(self.crowd)
        self.inside: list[int] = []

    async def enter(self, *calls: int, customer: str = "acme", waits: bool = True) -> list[asyncio.Task[None]]:
        """Works of so many calls each, all at the same instant."""

        async def one(count: int) -> None:
            await self.portions.enter(customer, count, waits=waits)
            self.inside.append(count)

        tasks = [asyncio.create_task(one(count)) for count in calls]
        await settled()
        return tasks

    async def leave(self, calls: int, customer: str = "acme") -> None:
        """One has been booked."""
        self.inside.remove(calls)
        self.portions.leave(customer, calls)
        await settled()


async def settled() -> None:
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def parts(desk: Desk, *calls: int, customer: str = "acme") -> list[CustomerPart]:
    """Parts of a customer with so many calls each."""
    return [
        CustomerPart(customer, tuple(desk.event(f"r{number}", Subject(customer), 1) for number in range(count)))
        for count in calls
    ]


@pytest.fixture
def queue() -> Queue:
    """Nobody is there."""
    return Queue()


async def test_a_customer_is_alone_until_another_asks_and_a_while_after(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-35: two of its own requests are no crowd."""
    monkeypatch.setattr(portions, "OTHERS_FOR_S", 0.02)
    crowd, told = queue.crowd, list[bool]()
    for come in ("acme", "acme", "umbrella"):
        crowd.come(come)
        told.append(crowd.is_several)
    for go in ("umbrella", "acme"):
        crowd.go(go)
    told.append(crowd.is_several)
    await asyncio.sleep(0.05)
    told.append(crowd.is_several)
    crowd.come("umbrella")  # one of acme's is under way yet
    told.append(crowd.is_several)
    assert told == [False, False, True, True, False, True]


async def test_who_has_few_calls_goes_with_others_and_who_has_many_goes_alone(queue: Queue) -> None:
    """S-35: in their order, as many as there is room for; more calls than that at once only by themselves."""
    tasks = await queue.enter(MAX_CALLS - 10, 10, 1, MAX_CALLS + 5, 2)
    assert queue.inside == [MAX_CALLS - 10, 10]
    await queue.leave(10)
    assert queue.inside == [MAX_CALLS - 10, 1]
    await queue.leave(1)
    assert queue.inside == [MAX_CALLS - 10]  # the large one is next, and nobody overtakes it
    await queue.leave(MAX_CALLS - 10)
    assert queue.inside == [MAX_CALLS + 5]
    await queue.leave(MAX_CALLS + 5)
    assert queue.inside == [2]
    await asyncio.gather(*tasks)


async def test_small_works_are_counted_too(queue: Queue) -> None:
    """S-35: each takes time of its own, however little is in it."""
    tasks = await queue.enter(*[0] * (MAX_WORKS + 3))
    assert len(queue.inside) == MAX_WORKS
    await queue.leave(0)
    assert len(queue.inside) == MAX_WORKS
    await queue.leave(0)
    await queue.leave(0)
    assert len(queue.inside) == MAX_WORKS
    await asyncio.gather(*tasks)


async def test_one_customer_does_not_wait_for_another(queue: Queue) -> None:
    """S-35: nor does anybody wait who need not."""
    await queue.enter(MAX_CALLS)
    assert [task.done() for task in await queue.enter(MAX_CALLS, customer="umbrella")] == [True]
    assert [task.done() for task in await queue.enter(MAX_CALLS, waits=False)] == [True]


async def test_who_has_gone_holds_up_nobody(queue: Queue) -> None:
    """S-35: neither where it waited nor where it was let in just then."""
    await queue.enter(MAX_CALLS)
    waiting, next_one, last = await queue.enter(MAX_CALLS, MAX_CALLS - 1, 3)
    waiting.cancel()
    await queue.leave(MAX_CALLS)
    assert queue.inside == [MAX_CALLS - 1]
    assert next_one.done()
    queue.inside.clear()
    queue.portions.leave("acme", MAX_CALLS - 1)
    last.cancel()  # it has been let in, and does not know yet
    await settled()
    assert [task.done() for task in await queue.enter(MAX_CALLS)] == [True]


async def test_more_than_so_many_do_not_wait(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-35, L48: the wait is bounded over all customers; one more is refused and may come again."""
    monkeypatch.setattr(portions, "MAX_WAITING", 2)
    tasks = await queue.enter(MAX_CALLS, 1, 1, 1)
    assert isinstance(tasks[3].exception(), LedgerUnavailable)
    for task in tasks[1:3]:
        task.cancel()
    await asyncio.gather(*tasks[1:3], return_exceptions=True)
    assert [task.done() for task in await queue.enter(1)] == [False]


async def test_portions_are_needed_where_there_is_a_crowd_and_much_to_book(queue: Queue, tmp_path: Path) -> None:
    """S-35: of one that is alone nothing is cut; nor of a fleet's syncs, each with some calls of many customers."""
    desk = Desk(tmp_path)
    try:
        large, small = parts(desk, MAX_CALLS + 1), parts(desk, MAX_CALLS, 2)
        assert not queue.portions.are_needed(large)
        queue.crowd.come("acme")
        queue.crowd.come("umbrella")
        assert queue.portions.are_needed(large)
        assert not queue.portions.are_needed(small)
        await queue.enter(1)
        assert queue.portions.are_needed(small)
        assert not queue.portions.are_needed(small[1:])
    finally:
        desk.close()


@pytest.mark.parametrize(("calls", "sizes"), [(0, [0]), (1, [1]), (MAX_CALLS, [MAX_CALLS]), (130, [64, 64, 2])])
async def test_a_part_is_cut_in_order(calls: int, sizes: list[int], tmp_path: Path) -> None:
    """S-35, L29: every call is in one portion."""
    desk = Desk(tmp_path)
    try:
        (part,) = parts(desk, calls)
    finally:
        desk.close()
    found = cut(part)
    assert [len(one.events) for one in found] == sizes
    assert tuple(event for one in found for event in one.events) == part.events
