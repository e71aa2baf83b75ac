"""What a running process does for the keys that it holds (S-21, S-22, S-59)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.bad_input.conftest import Started
from tests.support.besieged import GOOD_BODY, Besieged

FIRST = "canaryFirst6b1f09d2ce"
SECOND = "canarySecond3e8d75aa41"
"""Keys of no known form: only who has loaded them can know them in a line of the log."""

READ_AGAIN_WITHIN_S = 20.0
LOGGED_WITHIN_S = 5.0


def settled_by(siege: Besieged, *users: str) -> list[str]:
    """The log's lines about a call of each of these users, one after the other."""
    found = []
    for user in users:
        answer = siege.post(GOOD_BODY, f"Spend-User: {user}")
        assert answer.status == 200
        mark = f"request_id={answer.headers['spend-request-id']}"
        until = time.monotonic() + LOGGED_WITHIN_S
        while mark not in siege.product.log():
            assert time.monotonic() < until, siege.product.log()
            time.sleep(0.02)
        found += [line for line in siege.product.log().splitlines() if mark in line]
    return found


def test_loaded_keys_are_known_in_the_log_and_rotated_without_a_restart(started: Started, tmp_path: Path) -> None:
    """S-21, S-22: by their exact value, wherever they stand in a line; also the one that was replaced.

    A user's id is the caller's own word and belongs in the log, so it shows what stands in any other place.
    """
    secret = tmp_path / "key"
    secret.write_text(FIRST)
    with started(SPEND_UPSTREAMS__OPENAI__KEY_FILE=str(secret), SPEND_LOG__LEVEL="DEBUG") as siege:
        first, second = settled_by(siege, FIRST, SECOND)
        assert "user=[redacted]" in first.replace('"', "")
        assert f"user={SECOND}" in second, "nothing else would have taken the first one out"

        fresh = tmp_path / "fresh"
        fresh.write_text(SECOND)
        fresh.rename(secret)
        until = time.monotonic() + READ_AGAIN_WITHIN_S
        while siege.provider.requests[-1].headers["authorization"] != f"Bearer {SECOND}":
            assert time.monotonic() < until, "the new key is never used"
            time.sleep(0.2)
            assert siege.post().status == 200
        for line in settled_by(siege, FIRST, SECOND):
            assert "user=[redacted]" in line.replace('"', "")
            assert "canary" not in line


def test_the_process_leaves_nothing_behind_that_holds_a_key(started: Started) -> None:
    """S-21, S-59: no memory dump of any size, and files that only their owner reads; asked of the running process."""
    with started() as siege:
        assert siege.product.process is not None
        about = Path(f"/proc/{siege.product.process.pid}")
        limits = {line[:26].strip(): line[26:].split()[:2] for line in (about / "limits").read_text().splitlines()}
        assert limits["Max core file size"] == ["0", "0"]
        umask = next(line for line in (about / "status").read_text().splitlines() if line.startswith("Umask:"))
        assert umask.split()[1] == "0077"
        files = [siege.product.data, *siege.product.data.rglob("*")]
        assert len(files) > 3
        assert [path for path in files if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("token", ["spend_admin_abcdefgh234567", "spend_sidecar_abcdefgh234567"])
def test_our_own_tokens_are_known_by_their_looks(token: str) -> None:
    """S-22: those for the ledger have a form of their own, so no process has to have loaded them."""
    from sidecar.telemetry.logs import redact

    assert redact(f"the token {token} is refused") == "the token [redacted] is refused"
