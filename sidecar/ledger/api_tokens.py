"""Tokens of the ledger's API in the book: what each may do, where, and until when.

A token is made by who asks for it, and the book gets its SHA-256 alone. A name is used once: it is
the actor of every entry that its token brings about, and must not mean two.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

import msgspec

from sidecar.core.governance.rights import REACHES, Role, Scope, read_scope
from sidecar.core.governance.tenancy import format_path, is_id
from sidecar.errors import Conflict, NotFound, Rejected
from sidecar.ledger.administration import Act, KnownToken, NewToken
from sidecar.ledger.history import system_journal
from sidecar.ledger.idempotency import Asked, once
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import load_paths
from sidecar.ledger.reading import page_size
from sidecar.ledger.showing import whole_path
from sidecar.ledger.views import TokenView
from sidecar.ports import Row, Transaction

MAX_TOKENS: Final = 4096
"""Tokens of one customer, or of the whole ledger, that were ever made."""

MAX_LIFE_MS: Final = 10 * 366 * 86_400_000
WHOLE_LEDGER: Final = "_system"
"""Whose the tokens are that reach over all customers."""

OURS: Final = frozenset({"admin", "anybody"})
"""Names of actors that no token may have."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check(form: NewToken) -> Scope:
    """Where a token to make shall reach.

    Raises:
        Rejected: fields at fault.
    """
    problems: dict[str, str] = {}
    if not is_id(form.name) or form.name in OURS:
        problems["name"] = f"expected at most 128 of [A-Za-z0-9._:@-], and not {' or '.join(sorted(OURS))}"
    if not _SHA256.fullmatch(form.token_sha256):
        problems |= {"token_sha256": "expected 64 hex digits, the SHA-256 of the token"}
    if form.expires_in_ms is not None and not 0 < form.expires_in_ms <= MAX_LIFE_MS:
        problems["expires_in_ms"] = f"expected 1 to {MAX_LIFE_MS}"
    scope = Scope()
    try:
        scope = read_scope(form.path)
    except ValueError as problem:
        problems["path"] = str(problem)
    if form.role not in set(Role):
        problems["role"] = f"expected one of {', '.join(Role)}"
    elif "path" not in problems and scope.reach not in REACHES[Role(form.role)]:
        problems["path"] = f"a {form.role} is of: {', '.join(sorted(REACHES[Role(form.role)]))}"
    if problems:
        raise Rejected("invalid_field", problems)
    return scope


async def make(tx: Transaction, wall_ms: int, form: NewToken, act: Act) -> TokenView:
    """Take a token into the book, and its making into the journal of its customer.

    Raises:
        Rejected: fields at fault, or MAX_TOKENS.
        NotFound: the customer or the node.
        Conflict: the name or the digest was used before.
    """
    scope = check(form)
    journal = await _journal(tx, scope.customer, wall_ms, act)
    path = await _whole_path(tx, scope)
    owner = scope.customer or WHOLE_LEDGER

    async def effect() -> TokenView:
        await _check_free(tx, owner, form)
        now_ms = journal.now_ms
        expires_at_ms = None if form.expires_in_ms is None else now_ms + form.expires_in_ms
        await tx.execute(
            "INSERT INTO api_tokens (customer, name, token_sha256, role, path, created_at_ms, created_by,"
            " expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (owner, form.name, form.token_sha256, form.role, path, now_ms, act.actor, expires_at_ms),
        )
        facts: dict[str, object] = {"name": form.name, "role": form.role, "path": path}
        if expires_at_ms is not None:
            facts["expires_at_ms"] = expires_at_ms
        journal.post("token_made", actor=act.actor, facts=facts, key=f"token:{form.name}")
        await journal.write()
        return await one(tx, owner, form.name)

    asked = Asked(owner, "make_token", act, msgspec.structs.asdict(form))
    view, _ = await once(tx, asked, effect, answer_type=TokenView, wall_ms=wall_ms)
    return view


async def revoke(tx: Transaction, wall_ms: int, customer: str, name: str, act: Act) -> TokenView:
    """Let nobody in by a token any more; twice is once.

    Args:
        tx: on the customer's book.
        wall_ms: Unix milliseconds.
        customer: whose token; `` for one of the whole ledger.
        name: its name.
        act: who says so.

    Raises:
        NotFound: there is none.
    """
    owner = customer or WHOLE_LEDGER
    journal = await _journal(tx, customer, wall_ms, act)

    async def effect() -> TokenView:
        view = await one(tx, owner, name)
        if view.revoked_at_ms is not None:
            return view
        now_ms = journal.now_ms
        await tx.execute(
            "UPDATE api_tokens SET revoked_at_ms = ?, revoked_by = ? WHERE customer = ? AND name = ?",
            (now_ms, act.actor, owner, name),
        )
        journal.post("token_revoked", actor=act.actor, facts={"name": name}, key=f"token:{name}")
        await journal.write()
        return await one(tx, owner, name)

    asked = Asked(owner, "revoke_token", act, {"name": name})
    view, _ = await once(tx, asked, effect, answer_type=TokenView, wall_ms=wall_ms)
    return view


async def find(tx: Transaction, digest: bytes, now_ms: int) -> KnownToken | None:
    """The good token with this digest; None: there is none, it was revoked, or it has expired."""
    rows = await tx.fetch("SELECT * FROM api_tokens WHERE token_sha256 = ? AND revoked_at_ms IS NULL", (digest.hex(),))
    if len(rows) != 1 or not hmac.compare_digest(digest, bytes.fromhex(rows[0]["token_sha256"])):
        return None  # and one that two customers have would be neither's
    row = rows[0]
    if row["expires_at_ms"] is not None and row["expires_at_ms"] <= now_ms:
        return None
    return KnownToken(row["name"], Role(row["role"]), read_scope(row["path"]))


async def tokens(tx: Transaction, customer: str, after: str, limit: int) -> tuple[list[TokenView], str]:
    """The tokens of a customer, or (``) those of the whole ledger, by name, and the name to go on behind."""
    size = page_size(limit)
    rows = await tx.fetch(
        "SELECT * FROM api_tokens WHERE customer = ? AND name > ? ORDER BY name LIMIT ?",
        (customer or WHOLE_LEDGER, after, size + 1),
    )
    return [view_of(row) for row in rows[:size]], rows[size - 1]["name"] if len(rows) > size else ""


async def one(tx: Transaction, owner: str, name: str) -> TokenView:
    """One token.

    Raises:
        NotFound: there is none of that name.
    """
    rows = await tx.fetch("SELECT * FROM api_tokens WHERE customer = ? AND name = ?", (owner, name))
    if not rows:
        raise NotFound("token", name)
    return view_of(rows[0])


async def _journal(tx: Transaction, customer: str, wall_ms: int, act: Act) -> Journal:
    """The journal of a customer, or (``) the ledger's own, for an act.

    Raises:
        NotFound: the customer.
    """
    if not customer:
        return await system_journal(tx, wall_ms, act)
    journal = await Journal.open(tx, customer, wall_ms)
    if journal is None:
        raise NotFound("customer", customer)
    journal.act = act
    return journal


async def _whole_path(tx: Transaction, scope: Scope) -> str:
    """Where a scope is, with every node above it; a user need not have been seen before.

    Raises:
        NotFound: its node.
    """
    node = scope.node
    if node is None:
        return scope.customer
    found = (await load_paths(tx, scope.customer, [node])).get(node)
    if found is None and node.kind != "user":
        raise NotFound("node", f"{scope.customer}/{node}")
    return whole_path(scope.customer, format_path(found or (node,)))


async def _check_free(tx: Transaction, owner: str, form: NewToken) -> None:
    if await tx.fetch("SELECT name FROM api_tokens WHERE customer = ? AND name = ?", (owner, form.name)):
        raise Conflict(f"there is or was a token {form.name!r}: it stands for its actor in the journal; take another")
    if await tx.fetch_of_everyone("SELECT name FROM api_tokens WHERE token_sha256 = ?", (form.token_sha256,)):
        raise Conflict("there is a token with this SHA-256; make another")
    counted = await tx.fetch("SELECT count(*) AS n FROM api_tokens WHERE customer = ?", (owner,))
    if counted[0]["n"] >= MAX_TOKENS:
        raise Rejected("too_many_tokens", {"name": f"at most {MAX_TOKENS} tokens"})


def view_of(row: Row) -> TokenView:
    """A row of `api_tokens` as it is shown."""
    return TokenView(
        customer=read_scope(row["path"]).customer,
        name=row["name"],
        role=row["role"],
        path=row["path"],
        created_at_ms=row["created_at_ms"],
        created_by=row["created_by"],
        expires_at_ms=row["expires_at_ms"],
        revoked_at_ms=row["revoked_at_ms"],
        revoked_by=row["revoked_by"],
    )
