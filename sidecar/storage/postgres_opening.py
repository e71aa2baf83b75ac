"""What is done to a PostgreSQL database before it is used as a book."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

import asyncpg

from sidecar.storage import migrate
from sidecar.storage.postgres_faults import CONTENTION, MADE_MEANWHILE, MAX_TRIES, code
from sidecar.storage.postgres_rows import BEGIN_OF_EVERYONE

MIGRATION_TIMEOUT_S: Final = 600.0
"""For a migration, or for waiting until another ledger has made it."""

LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '2s'"
"""Whoever waits to change a table holds up all that come after: where somebody has it for longer, such as a backup,
calls go on meanwhile, and it is tried again."""

LONGEST_PAUSE_S: Final = 1.0
"""Between two tries."""

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

    Of several ledgers that start together the first locks the row of number 0, and the others find everything
    done. Ledgers that run already go on meanwhile: where their transactions and ours stand in each other's way, ours is
    tried again, for as long as a migration may take.
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
    give_up_at = asyncio.get_running_loop().time() + MIGRATION_TIMEOUT_S
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _migrate(connection, insert)
        except asyncpg.PostgresError as problem:
            if code(problem) not in CONTENTION or asyncio.get_running_loop().time() > give_up_at:
                raise
            logger.warning("migration_tried_again", extra={"facts": {"tries": attempt, "problem": code(problem)}})
        await connection.execute("ROLLBACK")
        await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_S, 0.05 * 2 ** min(attempt, 10))))


async def _migrate(connection: asyncpg.Connection, insert: str) -> None:
    timeout = MIGRATION_TIMEOUT_S
    await connection.execute(BEGIN_OF_EVERYONE)
    await connection.fetch("SELECT number FROM migrations WHERE number = 0 FOR UPDATE", timeout=timeout)
    rows = await connection.fetch("SELECT number, sha256 FROM migrations WHERE number > 0")
    applied = {row["number"]: row["sha256"] for row in rows}
    await connection.execute(LOCK_TIMEOUT)
    for migration in migrate.pending(migrate.shipped("postgres"), applied, where="ledger.database"):
        await connection.execute(migration.sql, timeout=timeout)
        await connection.execute(insert, migration.number, migration.name, migration.sha256)
    await connection.execute("COMMIT")
