"""`spend sidecar` and `spend ledger`: what the command line makes of their options."""

from __future__ import annotations

import hashlib
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.cli.conftest import Shell


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been started."""
    calls: list[Any] = []

    def serve(*said: Any) -> int:
        calls.append(said)
        return 0

    for name in ("sidecar", "ledger"):
        monkeypatch.setitem(sys.modules, f"sidecar.app.{name}", SimpleNamespace(serve=serve))
    return calls


def test_a_sidecar_needs_an_address_and_a_token(shell: Shell, started: list[Any], tmp_path: Path) -> None:
    """Each from its option or its variable; what is missing is named, with what to type."""
    file = tmp_path / "token"
    assert "--ledger URL" in shell.run("sidecar", code=2).stderr
    assert "sidecar-token NAME" in shell.run("sidecar", "--ledger", "http://l:1", code=2).stderr
    shell.run("sidecar", "--ledger", "http://l:1", "--token-file", str(file), "--port", "0", "--data", str(tmp_path))
    shell.run("sidecar", SPEND_LEDGER_URL="http://l:2", SPEND_LEDGER_TOKEN_FILE=str(file))
    (settings, data, _, address, token), (_, default, _, other, _) = started
    assert (settings.sidecar.listen.port, data, address, token) == (0, tmp_path, "http://l:1", file)
    assert (default, other) == (shell.data, "http://l:2")


def test_a_ledger_runs_with_or_without_the_word(shell: Shell, started: list[Any], tmp_path: Path) -> None:
    """It may listen beyond loopback, which `spend up` and `spend sidecar` may not."""
    shell.run("ledger", "--data", str(tmp_path), "--ledger-port", "0", "--health-port", "7")
    shell.run("ledger", "serve", SPEND_LEDGER__LISTEN__HOST="0.0.0.0")
    shell.run("--data", str(tmp_path), "ledger")
    (settings, data, _), (open_to_all, default, _), (_, before, _) = started
    assert (settings.ledger.listen.port, settings.ledger.health.port, data) == (0, 7, tmp_path)
    assert (open_to_all.ledger.listen.host, default, before) == ("0.0.0.0", shell.data, tmp_path)
    assert "loopback" in shell.run("up", code=1, SPEND_LEDGER__LISTEN__HOST="0.0.0.0").stderr
    assert "loopback" in shell.run("ledger", code=1, SPEND_LISTEN__HOST="0.0.0.0").stderr


def test_a_token_is_made_here_and_its_hash_alone_is_sent(shell: Shell) -> None:
    """Another at each time; revoked, it is gone, and a second time there is none."""
    first = shell.run("ledger", "sidecar-token", "checkout").stdout.strip()
    assert first.startswith("spend_sidecar_")
    assert shell.administration.sidecars == {"checkout": hashlib.sha256(first.encode()).hexdigest()}
    (second,) = shell.json("ledger", "sidecar-token", "checkout")
    assert second["name"] == "checkout"
    assert shell.administration.sidecars == {"checkout": hashlib.sha256(second["token"].encode()).hexdigest()}
    assert first != second["token"]
    shell.run("ledger", "sidecar-token", "checkout", "--revoke")
    assert shell.administration.sidecars == {}
    assert "sidecar-token NAME" in shell.run("ledger", "sidecar-token", "checkout", "--revoke", code=1).stderr


def test_a_token_can_be_put_into_a_file_of_its_owners_alone(shell: Shell, tmp_path: Path) -> None:
    """What stood there is replaced as a whole; nothing is printed that a log could keep."""
    file = tmp_path / "token"
    file.write_text("the last one")
    file.chmod(0o644)
    done = shell.run("ledger", "sidecar-token", "checkout", "--out", str(file))
    token = file.read_text().strip()
    assert shell.administration.sidecars == {"checkout": hashlib.sha256(token.encode()).hexdigest()}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in done.stdout + done.stderr
    assert shell.json("ledger", "sidecar-token", "checkout", "--out", str(file)) == [
        {"name": "checkout", "out": str(file)}
    ]
    assert [path.name for path in tmp_path.iterdir() if "token" in path.name] == ["token"]


def test_a_file_that_cannot_be_written_leaves_the_token_that_is_in_use(shell: Shell, tmp_path: Path) -> None:
    """And one that the ledger does not take leaves the file."""
    shell.run("ledger", "sidecar-token", "checkout")
    before = dict(shell.administration.sidecars)
    error = shell.run("ledger", "sidecar-token", "checkout", "--out", str(tmp_path / "no" / "token"), code=1).stderr
    assert "No such file" in error
    assert "--out" in error
    assert shell.administration.sidecars == before
    file = tmp_path / "token"
    file.write_text("in use")
    shell.run("ledger", "sidecar-token", "checkout", "--out", str(file), "--token", "spend_admin_no", code=1)
    assert file.read_text() == "in use"
    assert "--out" in shell.run("ledger", "sidecar-token", "checkout", "--revoke", "--out", str(file), code=2).stderr
