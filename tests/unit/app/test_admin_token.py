"""The administrator's token: one's own, or one that several ledgers were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.admin_file import AdminFile, write_admin_file
from sidecar.app.admin_token import lasting_token
from sidecar.errors import ConfigurationError
from sidecar.ledger.http_access import admin_token, is_admin_token

TOKEN = admin_token(bytes(range(32)))


def test_one_of_our_own_lasts(tmp_path: Path) -> None:
    """A new one at first; then the one that `admin.json` has."""
    first = lasting_token(tmp_path)
    assert is_admin_token(first)
    write_admin_file(tmp_path, AdminFile("http://127.0.0.1:1", TOKEN))
    assert lasting_token(tmp_path) == TOKEN != first


def test_one_that_was_given_comes_first(tmp_path: Path) -> None:
    """Whatever the folder's own is."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    write_admin_file(tmp_path, AdminFile("http://127.0.0.1:1", admin_token(bytes(32))))
    assert lasting_token(tmp_path, tmp_path / "token") == TOKEN


@pytest.mark.parametrize("text", ["", "hunter2", TOKEN[:-1], f"{TOKEN}\n{TOKEN}", "spend_admin_\xe9"])
def test_a_file_without_a_token_is_a_mistake(tmp_path: Path, text: str) -> None:
    """What stands in it is not repeated."""
    file = tmp_path / "token"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="admin_token_file") as raised:
        lasting_token(tmp_path, file)
    assert not text or text not in str(raised.value)
    file.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        lasting_token(tmp_path, file)
