"""What the shared book reads for one call: the rows that are its own, however many others there are.

A connection keeps the plans that it made when the tables were empty, and an index that every row is in looks as cheap
to it then as the right one.
"""

from __future__ import annotations

import asyncio

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
