"""Works of several customers in one transaction of PostgreSQL, in step.

A statement and the way there and back cost PostgreSQL and us many times what a row does. What is done for one
customer is much alike what is done for another: lock the row, read the accounts, write them. So those works
that wait at the same time go together. Each runs until it asks the database for something; what several of them ask
in the same words is asked once, with the values of all of them as arrays, and each gets its own rows. A work
is written as if it were alone, knows of no other, and may wait for nothing but its book. A statement is joined only
where it says for each customer that it means that one's own rows (`postgres_rows`).

Who is ahead waits for who is behind: of what is asked at a time, that comes first which is usually asked early. If
they part ways nevertheless, nothing is lost but a statement.

Rows are locked in the order of the customers, in every ledger, so that no two transactions wait for one another
in a circle.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import asyncpg

from sidecar.ports import Row, Transaction
from sidecar.storage.postgres_connections import Parameters, Statements
from sidecar.storage.postgres_faults import Unsettled
from sidecar.storage.postgres_rows import EVERYONE, ONE_AGAIN, beginning_for_one_of_them, beginning_for_several
from sidecar.storage.postgres_sql import MARK, MAX_STATEMENTS, locking, numbered, owners, with_one
from sidecar.storage.postgres_turns import Place, Turns

MAX_TURN_S: Final = 0.005
"""For so long the works compute before others on the event loop have a turn."""

_PLACE: Final = attrgetter("place")

Work = Callable[[Transaction], Awaitable[Any]]
Outcome = tuple[Any, Exception | None]
"""What a work gave, or what it raised before it had written anything."""


class _Words:
    """What is asked in: there is one object for each text.

    Attributes:
        sql: the text.
        is_query: whether it has rows.
        may_be_joined: whether it can be asked for several sets of parameters at a time.
        is_of_everyone: whether it is about the rows of all customers.
        owners: which parameters say whose rows it means (`postgres_sql.owners`).
        place: how late in a work it came at the latest.
    """

    __slots__ = ("is_of_everyone", "is_query", "may_be_joined", "owners", "place", "sql")

    def __init__(self, sql: str, is_query: bool, may_be_joined: bool, is_of_everyone: bool) -> None:
        self.sql = sql
        self.is_query = is_query
        self.may_be_joined = may_be_joined
        self.is_of_everyone = is_of_everyone
        self.owners = owners(sql)
        self.place = 0


@lru_cache(maxsize=MAX_STATEMENTS)
def _words(sql: str, is_query: bool, may_be_joined: bool, is_of_everyone: bool = False) -> _Words:
    return _Words(sql, is_query, may_be_joined, is_of_everyone)


class _Question:
    """Something that a work asks the database, with one or more sets of parameters; awaiting it gives all rows."""

    __slots__ = ("sets", "words")

    def __init__(self, words: _Words, sets: Sequence[Parameters]) -> None:
        self.words = words
        self.sets = sets

    def __await__(self) -> Generator[_Question, Sequence[Row], Sequence[Row]]:
        return (yield self)


class WorkTransaction:
    """`ports.Transaction` of one work. `wrote` becomes true with the first statement that may change something."""

    __slots__ = ("wrote",)

    def __init__(self) -> None:
        self.wrote = False

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """All rows of a query."""
        is_plain = sql.startswith("SELECT")
        if not is_plain:
            self.wrote = True
        return await _Question(_words(sql, True, is_plain and bool(parameters)), [parameters])

    async def fetch_locked(self, sql: str, parameters: Parameters = (), *, share: bool = False) -> Sequence[Row]:
        """All rows of a query, which nobody else may change before this transaction ends."""
        return await self.fetch(locking(sql, share=share), parameters)

    async def fetch_of_everyone(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """All rows of a query, whosever they are."""
        return await _Question(_words(sql, True, False, True), [parameters])

    async def fetch_in(
        self, sql: str, first: Parameters, values: Sequence[Sequence[str]], *, share: bool = False
    ) -> Sequence[Row]:
        """All rows of a query for any of several values."""
        one = with_one(sql, len(values[0]))
        if share:
            one = locking(one, share=True)
        return await _Question(_words(one, True, True), [(*first, *value) for value in values])

    async def execute(self, sql: str, parameters: Parameters = ()) -> None:
        """A statement without rows."""
        self.wrote = True
        await _Question(_words(sql, False, bool(parameters)), [parameters])

    async def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        """One statement for each set of parameters."""
        self.wrote = True
        if parameters:
            await _Question(_words(sql, False, True), parameters)


class Together:
    """Runs works on one connection, on which a transaction has begun.

    Args:
        connection: where.
        statements: what was prepared before.
        turns: who computes when.
        place: ours among them.
    """

    def __init__(self, connection: asyncpg.Connection, statements: Statements, turns: Turns, place: Place) -> None:
        self._connection = connection
        self._statements = statements
        self._turns = turns
        self._place = place
        self._customers: list[str] = []

    async def run(self, lanes: Sequence[tuple[str, Sequence[Work]]]) -> list[list[Outcome]]:
        """Run the works of each lane, a customer's, one after another, the lanes in step.

        Returns:
            For each lane the outcomes of its works.

        Raises:
            Unsettled: a work failed after it had written: all of it must be taken back.
            asyncpg.PostgresError, OSError …: the database failed.
        """
        voices = [_Voice(customer, works) for customer, works in lanes]
        self._customers = [customer for customer, _ in lanes]
        try:
            await self._go_on([(voice, ()) for voice in voices])
            while asking := [voice for voice in voices if voice.words is not None]:
                words = min([voice.words for voice in asking if voice.words is not None], key=_PLACE)
                some = [voice for voice in asking if voice.words is words]
                answers = await self._ask(words, some)
                await self._go_on(list(zip(some, answers, strict=True)))
        finally:
            for voice in voices:
                voice.close()
        return [voice.outcomes for voice in voices]

    async def _go_on(self, answered: Sequence[tuple[_Voice, Sequence[Row]]]) -> None:
        await self._turns.take(self._place)
        try:
            until = time.monotonic() + MAX_TURN_S
            for voice, rows in answered:
                voice.go_on(rows)
                if time.monotonic() > until:
                    await self._turns.pass_by(self._place)
                    until = time.monotonic() + MAX_TURN_S
        finally:
            self._turns.give(self._place)

    async def _ask(self, words: _Words, asking: Sequence[_Voice]) -> list[Sequence[Row]]:
        """The rows that each asker gets."""
        if len(self._customers) == 1:
            return [await self._ask_for_one(words, asking[0].sets)]
        if words.may_be_joined and all(_is_about(voice.customer, words, voice.sets) for voice in asking):
            return await self._ask_for_several(words, [voice.sets for voice in asking])
        answers = []
        for voice in asking:
            await self._connection.execute(beginning_for_one_of_them(voice.customer))
            answers.append(await self._ask_for_one(words, voice.sets))
        await self._connection.execute(beginning_for_several("SET LOCAL spend.customer = ''", self._customers))
        return answers

    async def _ask_for_one(self, words: _Words, sets: Sequence[Parameters]) -> Sequence[Row]:
        if words.is_of_everyone:
            await self._connection.execute(EVERYONE)
        rows: Sequence[Row] = ()
        if not words.is_query:
            await self._statements.execute(self._connection, words.sql, sets)
        elif len(sets) > 1:
            rows = await self._statements.fetch(self._connection, words.sql, sets)
        else:
            rows = await self._connection.fetch(numbered(words.sql), *sets[0])
        if words.is_of_everyone:
            await self._connection.execute(ONE_AGAIN)
        return rows

    async def _ask_for_several(self, words: _Words, asked: Sequence[Sequence[Parameters]]) -> list[Sequence[Row]]:
        if words.is_query and not words.owners:
            return await self._ask_once_for_all(words, asked)
        sets = [one for some in asked for one in some]
        if not words.is_query:
            await self._statements.execute(self._connection, words.sql, sets)
            return [()] * len(asked)
        rows = await self._statements.fetch(self._connection, words.sql, sets)
        whose = [asker for asker, some in enumerate(asked) for _ in some]
        apart: list[list[Row]] = [[] for _ in asked]
        for row in rows:
            apart[whose[row[MARK] - 1]].append(row)
        return list(apart)

    async def _ask_once_for_all(self, words: _Words, asked: Sequence[Sequence[Parameters]]) -> list[Sequence[Row]]:
        """Of what is nobody's, each row is the same for everybody: what many ask alike is looked up once."""
        sets = list(dict.fromkeys(tuple(one) for some in asked for one in some))
        if len(sets) == 1:
            rows: Sequence[Row] = await self._connection.fetch(numbered(words.sql), *sets[0])
            return [[row for _ in some for row in rows] for some in asked]
        found: dict[Parameters, list[Row]] = {one: [] for one in sets}
        for row in await self._statements.fetch(self._connection, words.sql, sets):
            found[sets[row[MARK] - 1]].append(row)
        return [[row for one in some for row in found[tuple(one)]] for some in asked]


def _is_about(customer: str, words: _Words, sets: Sequence[Parameters]) -> bool:
    """Whether a statement says by its parameters that it means this customer's rows, or a table that is nobody's."""
    where = words.owners
    if where is None:
        return False
    for (
        number
    ) in where:  # asked for each customer and statement: a loop takes a third of what `all` of a generator does
        for one in sets:
            if one[number] != customer:
                return False
    return True


class _Voice:
    """The works of one customer, one after another."""

    __slots__ = ("_place", "_steps", "_tx", "_works", "customer", "outcomes", "sets", "words")

    def __init__(self, customer: str, works: Sequence[Work]) -> None:
        self.customer = customer
        self._works: Iterator[Work] = iter(works)
        self._place = 0
        self._tx = WorkTransaction()
        self._steps: Generator[Any, Any, Any] | None = None
        self.words: _Words | None = None  # of what it asks, if it asks anything
        self.sets: Sequence[Parameters] = ()
        self.outcomes: list[Outcome] = []

    def go_on(self, rows: Sequence[Row]) -> None:
        """Compute with an answer until the next question, or to the end of all works.

        Raises:
            Unsettled: a work failed after it had written.
        """
        answer: Sequence[Row] | None = rows
        self.words = None
        while True:
            if self._steps is None:
                work = next(self._works, None)
                if work is None:
                    return
                self._tx, self._place, answer = WorkTransaction(), 0, None
                self._steps = work(self._tx).__await__()
            try:
                question = self._steps.send(answer)
                if not isinstance(question, _Question):
                    self._steps.close()
                    raise RuntimeError("a transaction may wait for nothing but its book")
            except StopIteration as end:
                self._steps = None
                self.outcomes.append((end.value, None))
            except Exception as raised:
                self._steps = None
                if self._tx.wrote:
                    raise Unsettled(raised, 1) from raised
                self.outcomes.append((None, raised))
            else:
                words = question.words
                words.place = max(words.place, self._place)
                self._place += 1
                self.words, self.sets = words, question.sets
                return

    def close(self) -> None:
        """Give up what is not done."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None
