"""Which book a ledger stands on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sidecar.app.books import opened_book, secrets_of
from sidecar.app.data_folder import BOOK
from sidecar.errors import ConfigurationError
from sidecar.storage.options import DatabaseOptions
from tests.support.engines import postgres_url


async def test_without_a_database_it_is_a_file(tmp_path: Path) -> None:
    """Of this process alone."""
    async with opened_book(DatabaseOptions(), tmp_path) as opened:
        assert not opened.is_shared
        assert list(opened.obstacles()) == []
    assert (tmp_path / BOOK).exists()


async def test_with_a_database_it_is_shared(tmp_path: Path) -> None:
    """And goes by the database's clock; nothing is kept in the folder."""
    async with opened_book(DatabaseOptions(postgres_url()), tmp_path) as opened:
        assert opened.is_shared
        assert abs(opened.clock.wall_ms() - await opened.book.read("acme", _now_ms)) < 1000
    assert list(tmp_path.iterdir()) == []


async def _now_ms(tx: object) -> int:
    rows = await tx.fetch("SELECT CAST(extract(epoch FROM now()) * 1000 AS BIGINT) AS n")  # type: ignore[attr-defined]
    found: int = rows[0]["n"]
    return found


async def test_what_cannot_be_opened_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a mistake of the configuration, and without the password."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match=r"ledger\.database\.url") as raised:
        async with opened_book(DatabaseOptions("postgresql://spend:hunter22@127.0.0.1:1/book"), tmp_path):
            pass
    assert "hunter22" not in str(raised.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("postgresql://spend@db/book", set()),
        ("postgresql://spend:hunter22@db/book", {"hunter22"}),
        ("postgresql://spend:a%2Fb%40c@db/book", {"a%2Fb%40c", "a/b@c"}),
        ("postgresql://[", {"postgresql://["}),
    ],
)
def test_a_password_is_a_secret_however_it_is_written(url: str, secrets: set[str]) -> None:
    """As it stands in the URL, and as it is meant; of a URL that is none, all of it."""
    assert set(secrets_of(url)) == secrets
