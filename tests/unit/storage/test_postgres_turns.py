"""Of several transactions that have something to compute, the first that came goes on."""

from __future__ import annotations

import asyncio

from sidecar.storage.postgres_turns import Place, Turns


async def settled() -> None:
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Row:
    """Takers of turns, and in which order they had theirs."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.had: list[str] = []

    async def take(self, name: str, place: Place) -> asyncio.Task[None]:
        """Somebody wants the turn."""

        async def one() -> None:
            await self.turns.take(place)
            self.had.append(name)

        task = asyncio.create_task(one())
        await settled()
        return task


async def test_who_came_first_goes_first_and_before_all_what_many_wait_for() -> None:
    """Not in the order in which they ask for a turn, but in that in which they came."""
    row = Row()
    first, second, third = (row.turns.place() for _ in range(3))
    short = row.turns.place(first=True)
    tasks = [await row.take("second", second), await row.take("third", third)]
    tasks += [await row.take("first", first), await row.take("short", short)]
    assert row.had == ["second"]
    for place in (second, short, first, third):
        row.turns.give(place)
        await settled()
    assert row.had == ["second", "short", "first", "third"]
    await asyncio.gather(*tasks)


async def test_who_has_it_lets_those_before_it_go_on() -> None:
    """And has it again behind them; of those behind it, nobody goes first."""
    row = Row()
    first, second, third = (row.turns.place() for _ in range(3))
    tasks = [await row.take("second", second), await row.take("third", third)]
    await row.turns.pass_by(second)
    assert row.had == ["second"]
    tasks.append(await row.take("first", first))
    passing = asyncio.create_task(row.turns.pass_by(second))
    await settled()
    assert (row.had, passing.done()) == (["second", "first"], False)
    row.turns.give(first)
    await passing
    assert row.had == ["second", "first"]
    row.turns.give(second)
    await settled()
    assert row.had == ["second", "first", "third"]
    await asyncio.gather(*tasks)


async def test_who_is_given_up_while_it_waits_or_just_then_holds_up_nobody() -> None:
    """Nor can one give away a turn that it has no more."""
    row = Row()
    places = [row.turns.place() for _ in range(4)]
    tasks = [await row.take(str(number), place) for number, place in enumerate(places)]
    tasks[1].cancel()
    row.turns.give(places[0])  # 2 has it, and does not know yet
    tasks[2].cancel()
    await settled()
    assert row.had == ["0", "3"]
    row.turns.give(places[0])
    last = await row.take("4", row.turns.place())
    assert row.had == ["0", "3"]
    row.turns.give(places[3])
    await last
    await asyncio.gather(*tasks, return_exceptions=True)
