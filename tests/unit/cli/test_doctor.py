"""`spend doctor` as a whole: it never stops at the first thing that is wrong, and its exit code tells."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar import errors
from sidecar.app.admin_file import AdminFile, read_admin_file, write_admin_file
from sidecar.cli.checks import providers
from tests.unit.cli.conftest import Shell


@pytest.fixture(autouse=True)
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of this file calls a real provider."""
    monkeypatch.setattr(providers, "connect", lambda _: "")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def findings(shell: Shell, *arguments: str, code: int = 1, said: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What it found, by check, in a shell that says these variables."""
    shell = dataclasses.replace(shell, environ=dict(said or {}))
    lines = shell.run("doctor", "--json", *arguments, code=code).stdout.splitlines()
    return {one["check"]: one for one in map(json.loads, lines)}


def test_warnings_are_no_failure(acme: Shell) -> None:
    """Exit 0; every line that is not well has its next step."""
    acme.data.chmod(0o700)
    acme.run("grants", "add", "acme", "5")
    found = findings(acme, code=0)
    assert found["ledger"]["state"] == found["customers"]["state"] == found["folder"]["state"] == "ok"
    assert found["OPENAI_BASE_URL"]["state"] == "warning"
    assert all(one["next"] for one in found.values() if one["state"] != "ok")
    text = acme.run("doctor").stdout
    assert "0 problems" in text.splitlines()[-1]
    assert "→ export OPENAI_BASE_URL=" in text


def test_one_problem_is(acme: Shell) -> None:
    """Exit 1, in both manners, and the rest is looked at all the same."""
    acme.data.chmod(0o755)
    found = findings(acme)
    assert found["folder"]["state"] == "problem"
    assert "leases" in found
    assert acme.run("doctor", code=1).stdout.splitlines()[-1].startswith("1 problem, ")


def test_without_a_ledger(shell: Shell, tmp_path: Path) -> None:
    """What can be looked at without it is."""
    none = tmp_path / "none"
    found = findings(shell, "--data", str(none))
    assert found["ledger"]["next"] == f"spend up --data {none}"
    assert {"settings", "files", "clocks", "upstreams", "prices"} <= set(found)
    assert not {"customers", "models", "sidecar", "folder"} & set(found)
    (shell.data / "admin.json").write_text("[]")
    assert "not what `spend up` writes" in findings(shell)["ledger"]["what"]


def test_a_ledger_without_a_sidecar(acme: Shell) -> None:
    """No word of what only a sidecar has: its providers, its outbox, the addresses of applications, `spend up`."""
    acme.data.chmod(0o700)
    health = "http://127.0.0.1:1"
    write_admin_file(acme.data, dataclasses.replace(read(acme.data), health=health))
    found = findings(acme)
    assert found["health"]["next"] == f"spend ledger --data {acme.data}"
    assert found["ledger"]["state"] == found["folder"]["state"] == found["disk"]["state"] == "ok"
    assert not {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "upstreams", "outbox"} & set(found)
    assert {"files", "clocks", "prices", "customer acme", "models", "leases"} <= set(found)
    assert "spend up" not in json.dumps(found)
    assert "outbox" not in json.dumps(found)
    write_admin_file(acme.data, dataclasses.replace(read(acme.data), health=health, proxy=health))
    assert findings(acme)["health"]["next"] == f"spend up --data {acme.data}"


def read(data: Path) -> AdminFile:
    found = read_admin_file(data)
    assert found is not None
    return found


def test_another_ledger(shell: Shell, tmp_path: Path) -> None:
    """By its address nothing of this machine's folders is looked into; a wrong token is said and not shown."""
    found = findings(shell, "--ledger", shell.address, "--token", "canary", said={"SPEND_DATA": str(tmp_path / "none")})
    assert "does not take this token" in found["ledger"]["what"]
    assert "folder" not in found
    assert "canary" not in json.dumps(found)


def test_an_address_that_is_none(shell: Shell) -> None:
    """It is a finding like any other, and no mistake in the command."""
    found = findings(shell, said={"SPEND_LEDGER_URL": "ftp://127.0.0.1", "SPEND_TOKEN": "t"})
    assert found["ledger"]["state"] == "problem"
    assert "SPEND_LEDGER_URL" in found["ledger"]["next"]


def test_mistakes_in_settings_and_prices(acme: Shell, tmp_path: Path) -> None:
    """All of them, and the rest is examined with the product's own settings."""
    acme.data.chmod(0o700)
    prices = tmp_path / "prices.yaml"
    prices.write_text("currencies: {}\nrate_cards: 3\n")
    environ = {"SPEND_UPSTREAMS__OPENAI__BASE_URL": "https://api.openai.com/v1"}
    found = findings(acme, "--catalog", str(prices), said=environ)
    assert found["settings"]["next"] == "export SPEND_UPSTREAMS__OPENAI__BASE_URL=https://api.openai.com"
    assert found["catalog"]["next"] == f"spend catalog check {prices}"
    assert "prices" not in found
    assert "leases" in found


def test_how_old_prices_may_be(shell: Shell) -> None:
    """A number of days."""
    shell.run("doctor", "--older-than", "0", code=2)
    shell.data.chmod(0o700)
    assert findings(shell, "--older-than", "3650", code=0)["prices"]["state"] == "ok"


def test_a_ledger_that_cannot_now(acme: Shell) -> None:
    """It answers its health and nothing else: told once, and it ends."""
    acme.administration.failure = errors.LedgerUnavailable("the disk is slow")
    assert "the disk is slow" in findings(acme)["customers"]["what"]
