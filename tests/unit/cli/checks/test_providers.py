"""Providers: in reach or not, and whose key they get."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.app.settings import load_settings
from sidecar.cli.checks import providers
from sidecar.cli.checks.finding import Finding, Setup, State
from sidecar.errors import ConfigurationError


@pytest.fixture
def listening() -> Iterator[str]:
    """A port on which somebody accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def examine(**environ: str) -> dict[str, Finding]:
    """What is found in a shell with these variables."""
    setup = Setup(load_settings(None, environ, {}), Path("c"), None, None, None, environ)
    return {one.check: one for one in providers.providers(setup)}


def test_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no provider set and no key there is nothing to reach: nobody is called."""
    monkeypatch.setattr(providers, "connect", lambda _: pytest.fail("a provider was called"))
    found = examine()
    assert found["upstreams"].state is State.OK
    assert "OPENAI_API_KEY" in found["upstreams"].then


def test_in_reach_and_out_of_reach(listening: str) -> None:
    """One that somebody set is a problem, and all are tried at once."""
    environ = {
        "SPEND_UPSTREAMS__OPENAI__BASE_URL": f"http://{listening}",
        "SPEND_UPSTREAMS__ANTHROPIC__BASE_URL": "http://127.0.0.1:9",
    }
    found = examine(**environ)
    assert found["upstream openai"].state is State.OK
    assert found["upstream anthropic"].state is State.PROBLEM
    assert "Connection refused" in found["upstream anthropic"].what
    assert "SPEND_UPSTREAMS__ANTHROPIC__BASE_URL" in found["upstream anthropic"].then
    assert found["key openai"].state is State.OK


def test_one_that_nobody_set_may_be_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, unless its key is in this shell."""
    monkeypatch.setattr(providers, "connect", lambda _: "Network is unreachable")
    found = examine(OPENAI_API_KEY="k")
    assert (found["upstream openai"].state, found["upstream anthropic"].state) == (State.PROBLEM, State.WARNING)


def test_tls_with_nobody_behind_it(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and says nothing is not in reach of a provider's protocol."""
    monkeypatch.setattr(providers, "CONNECT_TIMEOUT_S", 0.3)
    began = time.monotonic()
    found = examine(
        SPEND_UPSTREAMS__OPENAI__BASE_URL=f"https://{listening}",
        SPEND_UPSTREAMS__ANTHROPIC__BASE_URL=f"http://{listening}",
    )
    assert found["upstream openai"].state is State.PROBLEM
    assert found["upstream anthropic"].state is State.OK
    assert time.monotonic() - began < providers.WAIT_S


def test_a_name_that_never_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs is not waited for."""
    monkeypatch.setattr(providers, "WAIT_S", 0.1)
    monkeypatch.setattr(providers, "connect", lambda _: time.sleep(1) or "")  # type: ignore[func-returns-value]
    assert "no answer within" in examine(OPENAI_API_KEY="k")["upstream openai"].what


def test_virtual_keys_that_no_provider_s_key_stands_behind(listening: str, tmp_path: Path) -> None:
    """Each call would be refused with provider_key_missing; not where there is a key, or none is wanted."""
    file = tmp_path / "key"
    file.write_text("sk-real")
    environ = {"SPEND_REQUIRE_KEY": "true", "SPEND_UPSTREAMS__OPENAI__BASE_URL": f"http://{listening}"}
    assert examine(**environ)["key openai"].state is State.WARNING
    assert "Spend-Key" in examine(**environ)["key openai"].then
    file.chmod(0o600)
    assert examine(**environ, SPEND_UPSTREAMS__OPENAI__KEY_FILE=str(file))["key openai"].state is State.OK
    assert examine(**environ, SPEND_UPSTREAMS__OPENAI__NEEDS_KEY="false")["key openai"].state is State.OK


def test_keys_in_files(listening: str, tmp_path: Path) -> None:
    """There, one word, and not everybody's to read; the key itself is never shown."""
    file = tmp_path / "key"
    environ = {
        "SPEND_UPSTREAMS__OPENAI__BASE_URL": f"http://{listening}",
        "SPEND_UPSTREAMS__ANTHROPIC__BASE_URL": f"http://{listening}",
        "SPEND_UPSTREAMS__OPENAI__KEY_FILE": str(file),
    }
    assert examine(**environ)["key openai"].state is State.PROBLEM
    file.write_text("sk-canary two\n")
    found = examine(**environ)["key openai"]
    assert found.state is State.PROBLEM
    assert "canary" not in found.what
    file.write_text("sk-canary\n")
    file.chmod(0o604)
    found = examine(**environ)["key openai"]
    assert (found.state, found.then) == (State.WARNING, f"chmod 600 {file}")
    file.chmod(0o600)
    assert examine(**environ)["key openai"].state is State.OK


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/api/openai"])
def test_an_address_with_a_path(path: str) -> None:
    """The caller's own path is appended, so /v1 would stand there twice; the line to type is without it."""
    environ = {"SPEND_UPSTREAMS__OPENAI__BASE_URL": f"https://api.openai.com{path}"}
    with pytest.raises(ConfigurationError) as raised:
        load_settings(None, environ, {})
    (found,) = [providers.settings_problem(text, environ, None) for text in raised.value.problems]
    assert found.then == "export SPEND_UPSTREAMS__OPENAI__BASE_URL=https://api.openai.com"
    assert ("twice" in found.what) == ("/v1" in path)
    load_settings(None, {"SPEND_UPSTREAMS__OPENAI__BASE_URL": found.then.partition("=")[2]}, {})


def test_other_mistakes_in_the_settings(tmp_path: Path) -> None:
    """Each names where it stands, and what to do there."""
    assert providers.settings_problem("SPEND_DEMO: expected auto or off", {}, None).then.startswith("unset SPEND_DEMO")
    config = tmp_path / "spend.yaml"
    assert str(config) in providers.settings_problem("spend.yaml:3: sidecar.x: unknown key", {}, config).then
