"""The file by which the command line finds a running ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.admin_file import AdminFile, default_data_folder, read_admin_file, write_admin_file
from sidecar.errors import ConfigurationError

FACTS = AdminFile("http://127.0.0.1:8403", "spend_admin_x", "http://127.0.0.1:8402", "http://127.0.0.1:9402")


def test_it_is_private_and_whole(tmp_path: Path) -> None:
    """0600 whatever stood there, replaced at once; what was written is read; the token is not in its repr."""
    path = tmp_path / "admin.json"
    path.write_text("old")
    path.chmod(0o644)
    write_admin_file(tmp_path, FACTS)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_admin_file(tmp_path) == FACTS
    assert FACTS.token not in repr(FACTS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["admin.json"]


def test_it_does_not_follow_a_link_that_waits_for_it(tmp_path: Path) -> None:
    """Somebody who could guess the temporary name cannot have the token written elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "admin.json").symlink_to(elsewhere)
    write_admin_file(tmp_path, FACTS)
    assert not elsewhere.exists()
    assert not (tmp_path / "admin.json").is_symlink()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", "{}", '{"address":"http://x"}', '{"address":1,"token":"canary"}']
)
def test_what_is_no_admin_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    """Named, and not quoted: half a file may still hold a token."""
    (tmp_path / "admin.json").write_text(text)
    with pytest.raises(ConfigurationError, match="remove it") as raised:
        read_admin_file(tmp_path)
    assert "canary" not in str(raised.value)


def test_where_there_is_none(tmp_path: Path) -> None:
    """No file, no folder, or a file for a folder: none."""
    (tmp_path / "file").touch()
    assert read_admin_file(tmp_path) is None
    assert read_admin_file(tmp_path / "none") is None
    assert read_admin_file(tmp_path / "file") is None


def test_the_default_folder() -> None:
    """The variable, else the home folder, else a question; never the folder one happens to be in."""
    assert default_data_folder({"SPEND_DATA": "/d", "HOME": "/h"}) == Path("/d")
    assert default_data_folder({"SPEND_DATA": "", "HOME": "/h"}) == Path("/h/.spend")
    with pytest.raises(ConfigurationError, match="--data"):
        default_data_folder({})
