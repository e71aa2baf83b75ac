"""Tokens of sidecars in the book."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import NotFound, Rejected
from sidecar.ledger import sidecar_tokens
from tests.support.ledger import Desk


async def test_a_name_has_one_token_and_the_book_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second replaces the first; what is no name or no hash is refused; so is one name too many."""
    desk = Desk(tmp_path)
    service = desk.service
    for digest in ("aa" * 32, "bb" * 32):
        await service.set_sidecar_token("one", digest, desk.act())
    assert await service.token_digests() == {b"\xbb" * 32: "one"}
    for name, digest in (("", "aa" * 32), ("a b", "aa" * 32), ("two", "aa"), ("two", "AA" * 32)):
        with pytest.raises(Rejected):
            await service.set_sidecar_token(name, digest, desk.act())
    monkeypatch.setattr(sidecar_tokens, "MAX_SIDECAR_TOKENS", 1)
    with pytest.raises(Rejected, match="at most 1"):
        await service.set_sidecar_token("two", "cc" * 32, desk.act())
    await service.set_sidecar_token("one", "cc" * 32, desk.act())
    assert [view.name for view in await service.sidecar_tokens()] == ["one"]
    await service.revoke_sidecar_token("one", desk.act())
    assert await service.token_digests() == {}
    with pytest.raises(NotFound):
        await service.revoke_sidecar_token("one", desk.act())
    desk.close()
