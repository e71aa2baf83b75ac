"""What a revoked token has made: others of the API end with it, keys are counted (S-13)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from sidecar.errors import IdempotencyConflict
from sidecar.ledger.administration import Act, NewKey, NewToken
from tests.support.ledger import Desk


def digest(text: str) -> str:
    """SHA-256."""
    return sha256(text.encode()).hexdigest()


async def token(desk: Desk, name: str, role: str, path: str, by: str) -> None:
    """One made by another."""
    await desk.service.make_token(NewToken(name, role, digest(f"{path} {name}"), path), Act(by, f"{path} {name}"))


async def good(desk: Desk, customer: str) -> set[str]:
    """The names of those that let somebody in."""
    rows, _ = await desk.service.tokens(customer, after="", limit=99)
    return {row.name for row in rows if row.revoked_at_ms is None}


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    """An owner's token that made two, one of which made a third; and what others made."""
    desk = Desk(tmp_path)
    for customer in ("acme", "globex"):
        await desk.service.add_customer(customer, "none", desk.act())
    await desk.service.add_nodes("acme/team:data", desk.act())
    await token(desk, "root", "platform_admin", "", "admin")
    await token(desk, "owner", "org_owner", "acme", "root")
    await token(desk, "manager", "team_manager", "acme/team:data", "owner")
    await token(desk, "member", "member", "acme/team:data", "manager")
    await token(desk, "auditor", "auditor", "acme", "admin")
    await token(desk, "money", "finance", "acme", "owner")  # by another of that name: no owner can make one
    await token(desk, "owner", "org_owner", "globex", "admin")
    await token(desk, "visitor", "auditor", "globex", "owner")
    await desk.service.add_key(NewKey("acme", digest("key")), Act("owner", "k1"))
    return desk


async def test_tokens_end_with_the_one_that_made_them(desk: Desk) -> None:
    """Also those made by these; not what another made, nor what it could not have made, nor of another customer."""
    view = await desk.service.revoke_token("acme", "owner", Act("admin", "r1", "stolen"))
    assert (view.also_ended, view.keys_left) == (("acme/manager", "acme/member"), 1)
    assert await good(desk, "acme") == {"auditor", "money"}
    assert await good(desk, "globex") == {"owner", "visitor"}
    acts, _ = await desk.service.audit(customer="acme", actor="admin", since_ms=0, until_ms=2**62, after="", limit=99)
    ended = {str(act.facts["name"]): act.reason for act in acts if act.kind == "token_revoked"}
    assert ended == {
        "owner": "stolen",
        "manager": "made by owner, which is revoked",
        "member": "made by manager, which is revoked",
    }
    assert await desk.problems() == ()
    desk.close()


async def test_a_token_of_the_whole_ledger_takes_all_along(desk: Desk) -> None:
    """Over all customers; and what an earlier try left is ended by the next."""
    view = await desk.service.revoke_token("", "root", desk.act())
    assert view.also_ended == ("acme/owner", "acme/manager", "acme/member")
    await token(desk, "late", "auditor", "globex", "root")  # as if it had been made in that very moment
    assert (await desk.service.revoke_token("", "root", desk.act())).also_ended == ("globex/late",)
    desk.close()


async def test_a_key_of_ones_own_answers_nobody_else(desk: Desk) -> None:
    """L27: who guesses the idempotency key of another is not given that one's answer, and does what it asks."""
    first = await desk.service.add_key(NewKey("acme", digest("one")), Act("ada", "same"))
    second = await desk.service.add_key(NewKey("acme", digest("two")), Act("eve", "same"))
    assert first.key_id != second.key_id
    assert await desk.service.add_key(NewKey("acme", digest("one")), Act("ada", "same")) == first
    with pytest.raises(IdempotencyConflict):
        await desk.service.add_key(NewKey("acme", digest("three")), Act("ada", "same"))
    desk.close()
