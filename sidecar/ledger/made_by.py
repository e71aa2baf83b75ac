"""What a token of the API has made: who lets one in by a stolen token must not stay in when that one ends (S-13).

A token's name is the actor of what it made. Names of one customer are used once, but a token of the whole
ledger may have the name of a customer's; so only what a token could have made counts as made by it.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.governance.rights import Role, may_make, read_scope
from sidecar.ledger import api_tokens
from sidecar.ledger.views import TokenView
from sidecar.ports import Transaction

MAX_NAMED: Final = 100
"""Tokens named in the answer to a revocation."""


async def good_tokens_of(tx: Transaction, maker: TokenView) -> list[TokenView]:
    """The tokens that are not revoked and that one has made; of a token of the whole ledger, over all customers."""
    rows = await tx.fetch(
        "SELECT * FROM api_tokens WHERE (? = '' OR customer = ?) AND created_by = ? AND revoked_at_ms IS NULL"
        " ORDER BY customer, name",
        (maker.customer, maker.customer, maker.name),
    )
    return [view for view in map(api_tokens.view_of, rows) if _could_make(maker, view)]


async def good_keys_of(tx: Transaction, maker: TokenView) -> int:
    """How many virtual keys that are not revoked it has made."""
    rows = await tx.fetch(
        "SELECT count(*) AS n FROM virtual_keys WHERE (? = '' OR customer = ?) AND created_by = ?"
        " AND revoked_at_ms IS NULL",
        (maker.customer, maker.customer, maker.name),
    )
    found: int = rows[0]["n"]
    return found


def _could_make(maker: TokenView, made: TokenView) -> bool:
    nodes = tuple(made.path.split("/")[1:])
    return may_make(Role(maker.role), Role(made.role)) and read_scope(maker.path).holds(made.customer, nodes)
