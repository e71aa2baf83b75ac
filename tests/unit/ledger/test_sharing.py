"""What waits for the same customer goes together, and nobody waits for company."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sidecar.errors import LedgerUnavailable, NotFound, SidecarError
from sidecar.ledger import portions, sharing
from sidecar.ledger.portions import Crowd
from sidecar.ledger.sharing import MAX_BESIDE_OTHERS, MAX_TOGETHER, Sharing


class Book:
    """Remembers what was asked together; each run takes until `step` is called."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, list[int]]] = []
        self.gate = asyncio.Semaphore(0)
        self.broken: set[int] = set()
        self.away = False

    async def run(self, customer: str, requests: Sequence[int]) -> list[int | SidecarError]:
        """Ten times what is asked; 404 is not found."""
        self.runs.append((customer, list(requests)))
        await self.gate.acquire()
        if self.away:
            raise LedgerUnavailable("away")
        if self.broken.intersection(requests):
            raise ValueError("a rule was broken")
        return [NotFound("number", "404") if one == 404 else 10 * one for one in requests]

    async def step(self, times: int = 1) -> None:
        """Let runs end."""
        for _ in range(times):
            self.gate.release()
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.fixture
def book() -> Book:
    """Nothing was asked yet."""
    return Book()


async def ask(shared: Sharing[int, int], *requests: int, customer: str = "acme") -> list[asyncio.Task[int]]:
    """Ask, all at the same instant."""
    tasks = [asyncio.create_task(shared.ask(customer, request)) for request in requests]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_who_comes_while_another_runs_goes_with_the_next(book: Book) -> None:
    """The first alone and at once; then all that came meanwhile, together and in their order."""
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1), *await ask(shared, 2, 3), *await ask(shared, 4)]
    assert book.runs == [("acme", [1])]
    await book.step()
    assert book.runs[1:] == [("acme", [2, 3, 4])]
    await book.step()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
    await ask(shared, 5)
    assert book.runs[2:] == [("acme", [5])]
    await book.step()


async def test_customers_do_not_wait_for_each_other(book: Book) -> None:
    """Each has a lane of its own."""
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1, customer="acme"), *await ask(shared, 2, customer="umbrella")]
    assert [customer for customer, _ in book.runs] == ["acme", "umbrella"]
    await book.step(2)
    assert await asyncio.gather(*tasks) == [10, 20]


async def test_a_run_has_a_bound(book: Book) -> None:
    """The rest goes with the one after."""
    shared = Sharing(book.run, Crowd())
    tasks = await ask(shared, 0, *range(1, MAX_TOGETHER + 3))
    await book.step(3)
    assert [len(requests) for _, requests in book.runs] == [MAX_TOGETHER, 3]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("others_for_s", "runs"), [(60.0, [MAX_BESIDE_OTHERS] * 2 + [1]), (0.0, [17])])
async def test_it_is_lower_while_others_ask(
    book: Book, monkeypatch: pytest.MonkeyPatch, others_for_s: float, runs: list[int]
) -> None:
    """S-35: another customer's one request waits for less of a flood; where it asked long ago, all goes together."""
    monkeypatch.setattr(portions, "OTHERS_FOR_S", others_for_s)
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1, customer="umbrella"), *await ask(shared, *range(2 * MAX_BESIDE_OTHERS + 1))]
    await book.step(4)
    assert [len(some) for who, some in book.runs if who == "acme"] == runs
    await asyncio.gather(*tasks)


async def test_a_refusal_is_its_askers_alone(book: Book) -> None:
    """The others are answered by the same run."""
    shared = Sharing(book.run, Crowd())
    tasks = await ask(shared, 1, 404, 3)
    await book.step(2)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [10, 30]
    assert isinstance(outcomes[1], NotFound)
    assert len(book.runs) == 1


async def test_what_breaks_one_is_found_by_asking_each_alone(book: Book) -> None:
    """Nothing of a failed run was kept, so all but the one at fault are answered."""
    book.broken = {2}
    shared = Sharing(book.run, Crowd())
    tasks = await ask(shared, 1, 2, 3)
    await book.step(9)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [10, 30]
    assert isinstance(outcomes[1], ValueError)
    assert [requests for _, requests in book.runs] == [[1, 2, 3], [1], [2], [3]]


async def test_a_book_that_is_away_is_not_asked_again_by_itself(book: Book) -> None:
    """All hear so: what became of their run is unknown."""
    book.away = True
    shared = Sharing(book.run, Crowd())
    tasks = await ask(shared, 1, 2)
    await book.step(3)
    assert all(isinstance(one, LedgerUnavailable) for one in await asyncio.gather(*tasks, return_exceptions=True))
    assert len(book.runs) == 1


async def test_who_has_gone_is_not_asked_for(book: Book) -> None:
    """While it waited; the others are not disturbed."""
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1), *await ask(shared, 2, 3)]
    tasks[1].cancel()
    await book.step(3)
    assert book.runs == [("acme", [1]), ("acme", [3])]
    assert [await tasks[0], await tasks[2]] == [10, 30]


async def test_too_many_that_wait_are_told_so(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all customers; as soon as some are served there is room again."""
    monkeypatch.setattr(sharing, "MAX_WAITING", 3)
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1), *await ask(shared, 2, 3), *await ask(shared, 4, customer="umbrella")]
    late = await ask(shared, 5, 6)
    assert [task.done() for task in late] == [False, True]
    with pytest.raises(LedgerUnavailable):
        await late[1]
    await book.step(9)
    assert await asyncio.gather(*tasks, late[0], *await ask(shared, 7)) == [10, 20, 30, 40, 50, 70]


async def test_one_customer_leaves_room_for_the_others(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-35: of its requests no more than so many wait; another's is taken meanwhile."""
    monkeypatch.setattr(sharing, "MAX_WAITING_OF_ONE", 2)
    shared = Sharing(book.run, Crowd())
    tasks = [*await ask(shared, 1), *await ask(shared, 2, 3, 4)]
    assert [task.done() for task in tasks] == [False, False, False, True]
    with pytest.raises(LedgerUnavailable):
        await tasks.pop()
    other = await ask(shared, 5, customer="umbrella")
    await book.step(9)
    assert await asyncio.gather(*tasks, *other) == [10, 20, 30, 50]
