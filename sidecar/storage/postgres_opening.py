"""What is done to a PostgreSQL database before it is used as a book."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import asyncpg

from sidecar.storage import migrate
from sidecar.storage.postgres_faults import MADE_MEANWHILE, MAX_TRIES, code
from sidecar.storage.postgres_rows import BEGIN_OF_EVERYONE

MIGRATION_TIMEOUT_S: Final = 600.0
"""For a migration, or for waiting until another ledger has made it."""

logger = logging.getLogger(__name__)


async def warn_of_losses(connection: asyncpg.Connection) -> None:
    """Say it where the database answers a commit before it is safe: a lease could then be lent twice (L50a)."""
    rows = await connection.fetch(
        "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off' ORDER BY name"
    )
    if rows:
        facts = {"off": " ".join(row["name"] for row in rows)}
        logger.warning("database_may_lose_what_it_answered", extra={"facts": facts})


async def prepare(connection: asyncpg.Connection) -> None:
    """Apply the migrations that the database lacks, all in one transaction.

    Of several ledgers that start together the first locks the row of number 0, and the others find
    everything done.
    """
    for attempt in range(MAX_TRIES):
        try:
            await connection.execute(migrate.TABLE)
            break
        except asyncpg.PostgresError as problem:
            if code(problem) not in MADE_MEANWHILE:
                raise
            await asyncio.sleep(0.01 * attempt)
    insert = "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3) ON CONFLICT (number) DO NOTHING"
    await connection.execute(insert, 0, "lock", "")
    timeout = MIGRATION_TIMEOUT_S
    await connection.execute(BEGIN_OF_EVERYONE)
    await connection.fetch("SELECT number FROM migrations WHERE number = 0 FOR UPDATE", timeout=timeout)
    rows = await connection.fetch("SELECT number, sha256 FROM migrations WHERE number > 0")
    applied = {row["number"]: row["sha256"] for row in rows}
    for migration in migrate.pending(migrate.shipped("postgres"), applied, where="ledger.database"):
        await connection.execute(migration.sql, timeout=timeout)
        await connection.execute(insert, migration.number, migration.name, migration.sha256)
    await connection.execute("COMMIT")
