"""What the shared book asks and reads for one call: with those of others, and the rows that are its own.

A connection keeps the plans that it made when the tables were empty, and an index that every row is in looks as cheap
to it then as the right one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from sidecar.contract.messages import RegisterRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from tests.support.engines import postgres_url
from tests.support.ledger import Desk, usd

CUSTOMERS = 120
MOST_ROWS = 12
"""That a table is read for one call, once by each statement that needs them; a customer has but one of each."""

READ = "SELECT relname, coalesce(seq_tup_read + idx_tup_fetch, 0) AS rows FROM pg_stat_user_tables"


MOST_STATEMENTS = 0.5
"""For one call of a crowd: some twenty go for each group of customers, however many these are."""


class Counted(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A connection that counts what it is asked."""

    asked = 0

    __slots__ = ()

    async def fetch(self, *args: Any, **more: Any) -> Any:
        Counted.asked += 1
        return await super().fetch(*args, **more)

    async def execute(self, *args: Any, **more: Any) -> Any:
        Counted.asked += 1
        return await super().execute(*args, **more)


async def test_customers_that_come_together_are_asked_for_together() -> None:
    """Who may borrow was asked for each alone, behind that one's wall: three statements more for every call."""
    book = await open_postgres(DatabaseOptions(postgres_url()), connection_class=Counted)
    desk = Desk(book)
    await desk.service.register(RegisterRequest("s1", "s1-inc"))
    for number in range(CUSTOMERS):
        await desk.service.add_customer(f"customer-{number}", "none", desk.act())
        await desk.service.set_budget(NewBudget(f"customer-{number}", usd(1000), "month"), desk.act())
    before = Counted.asked
    replies = await asyncio.gather(
        *(desk.service.resolve(desk.request(Subject(f"customer-{n}"), 10)) for n in range(CUSTOMERS))
    )
    assert all(reply.leases for reply in replies)
    assert Counted.asked - before <= MOST_STATEMENTS * CUSTOMERS
    await book.close()


async def test_a_lease_reads_no_row_of_other_customers() -> None:
    """All leases were read to count who holds one account, by a plan that was made for an empty table."""
    url = postgres_url()
    book = await open_postgres(DatabaseOptions(url))
    desk = Desk(book)
    await desk.service.register(RegisterRequest("s1", "s1-inc"))
    for number in range(CUSTOMERS):
        await desk.service.add_customer(f"customer-{number}", "none", desk.act())
        await desk.service.set_budget(NewBudget(f"customer-{number}", usd(1000), "month"), desk.act())
    for _ in range(3):
        replies = await asyncio.gather(
            *(desk.service.resolve(desk.request(Subject(f"customer-{n}"), 10)) for n in range(CUSTOMERS))
        )
        assert all(reply.leases for reply in replies)
    await book.close()  # which is when the database has counted it all
    watcher = await asyncpg.connect(url)
    rows = {row["relname"]: row["rows"] for row in await watcher.fetch(READ)}
    await watcher.close()
    assert rows["leases"] >= CUSTOMERS
    acts = 3 * CUSTOMERS  # beside as many calls: two for each customer, which look at their own rows too
    assert {table: count for table, count in rows.items() if count > MOST_ROWS * (3 * CUSTOMERS + acts)} == {}
