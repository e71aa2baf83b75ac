"""The second wall between customers: which rows a transaction may see and write, kept by the database (S-31).

Every table that has a customer has a policy (migration 0012): a row can be seen and written where its
customer is the transaction's, `spend.customer`. What goes over all customers says so by `spend.everyone`.
Both are set for one transaction alone, for the next one on the same connection is another customer's; where
neither is set there are no rows. So a query that forgot its WHERE finds nothing of anybody else.

Several customers that share a transaction (`postgres_together`) are its `spend.customers` (migration 0014): what it
does for all of them in one statement may see their rows and nobody else's, and is done so only if the statement says
for each of them that it means their own. Whatever does not say so is done for one of them at a time, behind that one's
wall.

Owners obey (FORCE ROW LEVEL SECURITY); superusers, and roles with BYPASSRLS, never do. A superuser
therefore lays its rights down: it makes the role `spend_ledger`, and works as that. Of BYPASSRLS the log tells.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import asyncpg

from sidecar.core.governance.tenancy import ID_PATTERN
from sidecar.errors import WireFormatError
from sidecar.storage.postgres_faults import MADE_MEANWHILE, MAX_TRIES, code

ROLE: Final = "spend_ledger"
"""As what a ledger works whose own role no policy binds: it owns nothing, and cannot log in."""

EVERYONE: Final = "SET LOCAL spend.everyone = 'on'"
"""From here to the end of the transaction, the rows of all customers."""

BEGIN_OF_EVERYONE: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED; {EVERYONE}"

ONE_AGAIN: Final = "SET LOCAL spend.everyone = 'off'"

_BYPASSES: Final = (
    "SELECT rolsuper OR rolbypassrls AS bypasses, rolsuper AS makes_roles FROM pg_roles WHERE rolname = current_user"
)
_JOURNAL: Final = ("entries", "calls", "acts")
"""What the role may add to and read, and nothing else (S-76)."""

_LACKING: Final = (
    "SELECT quote_ident(n.nspname) AS place, quote_ident(c.relname) AS named FROM pg_class AS c"
    " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind = 'r'"
    " AND NOT has_table_privilege('spend_ledger', c.oid, 'INSERT')"
)

_PLAIN: Final = re.compile(ID_PATTERN, re.ASCII)

logger = logging.getLogger(__name__)


@lru_cache(maxsize=4096)
def beginning(begin: str, customer: str) -> str:
    """The statements that begin a transaction on one customer's rows, in one message.

    Args:
        begin: `BEGIN …`.
        customer: any text; each of its letters is written by its number, so that none of them means anything.

    Raises:
        WireFormatError: a text that no customer's name can be: with NUL, or no Unicode.
    """
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in customer):
        raise WireFormatError("the asker", "a text or number that the book cannot hold")
    letters = "".join(f"\\+{ord(letter):06x}" for letter in customer)
    return f"{begin}; SET LOCAL spend.customer = U&'{letters}'"


def may_share(customer: str) -> bool:
    """Whether a customer's name can stand in a list of several; each that was made by an act can."""
    return _PLAIN.fullmatch(customer) is not None


def beginning_for_several(begin: str, customers: Sequence[str]) -> str:
    """The statements that begin a transaction on the rows of several customers, or that go back to them.

    Raises:
        ValueError: one of the names cannot stand in a list (`may_share`).
    """
    if not all(map(may_share, customers)):
        raise ValueError("not names of customers")
    return f"{begin}; SET LOCAL spend.customer = ''; SET LOCAL spend.customers = ' {' '.join(customers)} '"


def beginning_for_one_of_them(customer: str) -> str:
    """The statements by which, within such a transaction, only one customer's rows are seen and written."""
    return beginning("SET LOCAL spend.customers = ''", customer)


async def role_of_rows(connection: asyncpg.Connection) -> dict[str, str]:
    """Make sure that policies bind who works on the book's connections; gives the settings that these need.

    For a connection on which the tables have just been made.
    """
    (us,) = await connection.fetch(_BYPASSES)
    if not us["bypasses"]:
        return {}
    if not us["makes_roles"]:
        logger.warning("row_level_security_is_bypassed", extra={"facts": {"fix": "a role without BYPASSRLS"}})
        return {}
    for attempt in range(MAX_TRIES):
        try:
            if not await connection.fetch("SELECT 1 FROM pg_roles WHERE rolname = 'spend_ledger'"):
                await connection.execute("CREATE ROLE spend_ledger NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE")
            await _grant(connection)
            break
        except asyncpg.PostgresError as problem:  # another ledger does the same, in this database or in another
            if code(problem) not in MADE_MEANWHILE | {"XX000"} or attempt == MAX_TRIES - 1:
                raise
            await asyncio.sleep(0.02 * (attempt + 1))
    place = (await connection.fetch("SELECT quote_ident(current_schema()) AS place"))[0]["place"]
    return {"role": ROLE, "search_path": place}


async def _grant(connection: asyncpg.Connection) -> None:
    """What the role needs of the tables that it does not have yet."""
    lacking = await connection.fetch(_LACKING)
    if not lacking:
        return
    statements = [f"GRANT USAGE ON SCHEMA {lacking[0]['place']} TO spend_ledger"]
    for row in lacking:
        rights = "SELECT, INSERT" if row["named"] in _JOURNAL else "SELECT, INSERT, UPDATE, DELETE"
        statements.append(f"GRANT {rights} ON {row['place']}.{row['named']} TO spend_ledger")
    await connection.execute("; ".join(statements))
