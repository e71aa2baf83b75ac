"""`spend up`: what the command line makes of its options, before anything is started."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.app.settings import Settings, default_catalog
from sidecar.errors import ConfigurationError
from tests.unit.cli.conftest import Shell


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Path, Path]]:
    """What would have been started."""
    calls: list[Any] = []

    def serve(*said: Any) -> int:
        calls.append(said)
        return 0

    monkeypatch.setitem(sys.modules, "sidecar.app.up", SimpleNamespace(serve=serve))
    return calls


def test_ports_and_files(shell: Shell, tmp_path: Path, started: list[tuple[Settings, Path, Path]]) -> None:
    """The options win over the environment, and what is not said is the product's own."""
    data = tmp_path / "mine"
    ports = ("--port", "1234", "--health-port", "0", "--ledger-port", "2345")
    shell.run("up", "--data", str(data), *ports, "--catalog", "prices.yaml", SPEND_LISTEN__PORT="9")
    shell.run("up")
    shell.run("--data", str(data), "up")
    (settings, folder, catalog), (plain, default, shipped), (_, before, _) = started
    ours = settings.sidecar
    assert (ours.listen.port, ours.health.port, settings.ledger.listen.port) == (1234, 0, 2345)
    assert (folder, catalog) == (data, Path("prices.yaml"))
    assert (plain.sidecar.listen.port, default, shipped) == (8402, shell.data, Path(default_catalog()))
    assert before == data


def test_it_ends_with_the_code_it_is_given(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a mistake in a setting is every mistake, in words, with exit code 1."""
    monkeypatch.setitem(sys.modules, "sidecar.app.up", SimpleNamespace(serve=lambda *_: 3))
    shell.run("up", code=3)

    def broken(*_: object) -> int:
        raise ConfigurationError(["one is wrong", "two is wrong"])

    monkeypatch.setitem(sys.modules, "sidecar.app.up", SimpleNamespace(serve=broken))
    text = shell.run("up", code=1).stderr
    assert "one is wrong\ntwo is wrong" in text


def test_a_misspelt_setting_is_not_ignored(shell: Shell, started: list[Any]) -> None:
    """A misspelt limit is no limit: it is named, and nothing is started."""
    assert "SPEND_UNKNWON_MODEL" in shell.run("up", code=1, SPEND_UNKNWON_MODEL="deny").stderr
    assert started == []


def test_the_catalog_is_checked(shell: Shell, tmp_path: Path) -> None:
    """F-38: the shipped one is well; of a bad one every mistake is told, exit code 1."""
    text = shell.run("catalog", "check").stdout
    assert "all well" in text
    assert re.search(r"providers +anthropic, .*openai, ", text)
    bad = tmp_path / "bad.yaml"
    bad.write_text("currencies:\n  usd: {scale: 99}\nrate_cards: 3\n")
    text = shell.run("catalog", "check", str(bad), code=1).stderr
    assert "scale" in text
    assert "rate_cards" in text
