"""Tokens of the API in the book."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.governance.checked_tokens import digest_of
from sidecar.core.governance.rights import Role, Scope
from sidecar.core.governance.tenancy import Node
from sidecar.errors import Conflict, IdempotencyConflict, NotFound, Rejected
from sidecar.ledger import api_tokens
from sidecar.ledger.administration import Act, KnownToken, NewToken
from tests.support.ledger import Desk

DIGEST = digest_of("spend_api_x")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An embedded book."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def form(name: str = "ci", role: str = "org_owner", path: str = "acme", **more: Any) -> NewToken:
    """A token to make."""
    return NewToken(name, role, more.pop("token_sha256", DIGEST.hex()), path, **more)


async def test_a_token_is_good_until_it_is_revoked(desk: Desk) -> None:
    """Its making and its end are entries with their actor, and the book verifies; the token stands nowhere."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.add_nodes("acme/department:a/team:b", desk.act())
    made = await desk.service.make_token(form(role="team_manager", path="acme/team:b"), desk.act())
    assert made.path == "acme/department:a/team:b"
    assert await desk.service.find_token(DIGEST) == KnownToken(
        "ci", Role.TEAM_MANAGER, Scope("acme", Node("team", "b"))
    )
    for _ in range(2):
        gone = await desk.service.revoke_token("acme", "ci", desk.act())
        assert gone.revoked_by == "ada@example.com"
    assert await desk.service.find_token(DIGEST) is None
    entries, _ = await desk.service.entries("acme", after=0, kind="", limit=100)
    assert [(one.kind, one.actor) for one in entries[-2:]] == [
        ("token_made", "ada@example.com"),
        ("token_revoked", "ada@example.com"),
    ]
    assert await desk.problems() == ()
    with pytest.raises(Conflict, match="stands for its actor"):
        await desk.service.make_token(form(token_sha256="ab" * 32), desk.act())


async def test_a_token_ends_by_the_ledgers_clock(desk: Desk) -> None:
    """At its very instant it is good no more."""
    await desk.service.make_token(form(role="auditor", path="", expires_in_ms=1000), desk.act())
    desk.clock.advance(0.999)
    assert await desk.service.find_token(DIGEST) is not None
    desk.clock.advance(0.001)
    assert await desk.service.find_token(DIGEST) is None


async def test_a_token_is_made_once_per_key(desk: Desk) -> None:
    """L27: the same key and body the same answer; another body is a conflict that names the field."""
    await desk.service.add_customer("acme", "none", desk.act())
    for path, role in (("acme", "org_owner"), ("", "auditor")):
        digest = digest_of(path).hex()
        repeated: list[str] = []
        act = Act("ada", "same key", on_repeat=partial(repeated.append, "again"))
        once = await desk.service.make_token(form(role=role, path=path, token_sha256=digest), act)
        assert await desk.service.make_token(form(role=role, path=path, token_sha256=digest), act) == once
        assert repeated == ["again"]
        with pytest.raises(IdempotencyConflict) as conflict:
            await desk.service.make_token(form(name="other", role=role, path=path, token_sha256=digest), act)
        assert conflict.value.field == "name"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "admin"}, "name"),
        ({"name": "a b"}, "name"),
        ({"role": "sidecar"}, "role"),
        ({"role": "platform_admin"}, "path"),
        ({"role": "team_manager"}, "path"),
        ({"path": ""}, "path"),
        ({"path": "acme/team"}, "path"),
        ({"expires_in_ms": 0}, "expires_in_ms"),
        ({"token_sha256": "AB" * 32}, "token_sha256"),
    ],
)
async def test_a_token_that_cannot_be(desk: Desk, changes: dict[str, Any], field: str) -> None:
    """Names that are ours, roles that are not the API's, a reach that is not the role's: by field."""
    with pytest.raises(Rejected) as refused:
        await desk.service.make_token(form(**changes), desk.act())
    assert list(refused.value.problems) == [field]


async def test_a_token_of_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would reach must exist; tokens are bounded; a digest of two is nobody's."""
    with pytest.raises(NotFound):
        await desk.service.make_token(form(), desk.act())
    await desk.service.add_customer("acme", "none", desk.act())
    with pytest.raises(NotFound):
        await desk.service.make_token(form(role="member", path="acme/team:no"), desk.act())
    await desk.service.make_token(form(role="member", path="acme/user:ada"), desk.act())
    with pytest.raises(Conflict, match="SHA-256"):
        await desk.service.make_token(form(name="two", role="auditor", path=""), desk.act())
    monkeypatch.setattr(api_tokens, "MAX_TOKENS", 1)
    with pytest.raises(Rejected, match="at most 1"):
        await desk.service.make_token(form(name="two", token_sha256="ab" * 32), desk.act())
    with pytest.raises(NotFound):
        await desk.service.revoke_token("", "ci", desk.act())


async def test_tokens_are_listed_by_name(desk: Desk) -> None:
    """Page by page; those of the whole ledger are a list of their own."""
    await desk.service.add_customer("acme", "none", desk.act())
    for name in ("b", "a", "c"):
        await desk.service.make_token(form(name=name, token_sha256=digest_of(name).hex()), desk.act())
    await desk.service.make_token(form(name="root", role="auditor", path=""), desk.act())
    first, cursor = await desk.service.tokens("acme", after="", limit=2)
    rest, end = await desk.service.tokens("acme", after=cursor, limit=2)
    assert ([one.name for one in first], [one.name for one in rest], end) == (["a", "b"], ["c"], "")
    assert [one.name for one in (await desk.service.tokens("", after="", limit=9))[0]] == ["root"]


async def test_acts_on_no_customer_happen_once_per_key(desk: Desk) -> None:
    """L27: also the clock, and the tokens of sidecars."""
    act = desk.act()
    await desk.service.set_sidecar_token("pod", "ab" * 32, act)
    await desk.service.set_sidecar_token("pod", "cd" * 32, desk.act())
    await desk.service.set_sidecar_token("pod", "ab" * 32, act)
    assert await desk.service.token_digests() == {b"\xcd" * 32: "pod"}
    with pytest.raises(IdempotencyConflict) as conflict:
        await desk.service.set_sidecar_token("pod", "ef" * 32, act)
    assert conflict.value.field == "token_sha256"
    gone = desk.act()
    assert await desk.service.revoke_sidecar_token("pod", gone) == await desk.service.revoke_sidecar_token("pod", gone)
    accepted = desk.act()
    before = await desk.service.accept_clock(accepted)
    desk.clock.advance(10)
    assert await desk.service.accept_clock(accepted) == before


async def test_cursors_are_signed_with_one_secret(desk: Desk) -> None:
    """The same for whoever asks, and kept."""
    secret = await desk.service.cursor_secret()
    assert len(secret) == 32
    assert await desk.service.cursor_secret() == secret
