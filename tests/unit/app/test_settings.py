"""Settings: file, environment, command line; every mistake in one report."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.settings import LEAST, Settings, default_config, load_settings
from sidecar.errors import ConfigurationError


def problems_of(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """What is wrong with a configuration."""
    path = tmp_path / "spend.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(path, environ, {})
    return list(raised.value.problems)


def test_the_file_shows_every_key_at_its_default(tmp_path: Path) -> None:
    """What the shipped file says is what holds without it."""
    empty = tmp_path / "spend.yaml"
    empty.write_text("")
    assert load_settings(Path(default_config()), {}, {}) == load_settings(empty, {}, {})


def test_environment_over_file_and_command_line_over_both(tmp_path: Path) -> None:
    """The stable variables, and the flags of `spend up`."""
    path = tmp_path / "spend.yaml"
    path.write_text(
        "sidecar:\n  unknown_model: deny\n  listen: {port: 1}\n  upstreams: {groq: {base_url: https://g.example}}\n"
    )
    environ = {
        "SPEND_UPSTREAMS__OPENAI__BASE_URL": "http://127.0.0.1:9000",
        "SPEND_UNKNOWN_MODEL": "meter",
        "SPEND_PASS_THROUGH": "GET /v1/models, POST /v1/rerank",
        "SPEND_LISTEN__PORT": "2",
        "SPEND_LEDGER__RULES__DEBT_LIMIT_ATOMS": "5",
        "SPEND_PROVIDER__DRAIN_S": "0.5",
        "SPEND_DATA": "/ignored",
        "PATH": "/bin",
    }
    settings = load_settings(path, environ, {"port": 0})
    ours = settings.sidecar
    assert ours.upstreams["openai"].base_url == "http://127.0.0.1:9000"
    assert set(ours.upstreams) == {"openai", "anthropic", "groq"}
    assert (ours.unknown_model, ours.listen.port, ours.provider.drain_s) == ("meter", 0, 0.5)
    assert ours.pass_through == ("GET /v1/models", "POST /v1/rerank")
    assert settings.ledger.rules.debt_limit_atoms == 5
    assert settings.configured_upstreams == {"openai", "groq"}
    assert load_settings(path, {}, {}).configured_upstreams == {"groq"}


def test_all_mistakes_come_in_one_report(tmp_path: Path) -> None:
    """Each with file and line, or the variable; none hides another."""
    found = problems_of(
        tmp_path,
        "sidecar:\n  listne: {}\n  unknown_model: maybe\n  door: {max_requests: -1}\nledger: []\n",
        SPEND_UPSTREAMS__OPENAI__BASE_URI="http://x",
        SPEND_TYPO="1",
        SPEND_HEALTH__PORT="many",
    )
    text = "\n".join(found)
    for part in ("spend.yaml:2 sidecar.listne", "spend.yaml:3 sidecar.unknown_model: expected deny or meter",
                 "spend.yaml:4 sidecar.door.max_requests", "spend.yaml:5 ledger", "SPEND_UPSTREAMS__OPENAI__BASE_URI",
                 "SPEND_TYPO", "SPEND_HEALTH__PORT"):  # fmt: skip
        assert part in text, (part, text)


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        ({"SPEND_LISTEN__HOST": "0.0.0.0"}, "loopback"),
        ({"SPEND_LEDGER__LISTEN__HOST": "10.0.0.1"}, "loopback"),
        ({"SPEND_LISTEN__PORT": "70000"}, "65535"),
        ({"SPEND_UPSTREAMS__OPENAI__BASE_URL": "https://api.openai.com/v1"}, "SPEND_UPSTREAMS__OPENAI__BASE_URL"),
        ({"SPEND_UPSTREAMS__OPENAI__BASE_URL": "ftp://x"}, "SPEND_UPSTREAMS__OPENAI__BASE_URL"),
        ({"SPEND_SUBJECT__CUSTOMER": "a b"}, "at most 128"),
        ({"SPEND_SUBJECT__PATH": "team"}, "kind:id"),
        ({"SPEND_UNKNOWN_MODEL": ""}, "deny or meter"),
        ({"SPEND_PROVIDER__DRAIN_S": "nan"}, "number of seconds"),
        ({"SPEND_COMPAT_STATUS": "500"}, "402 or 429"),
        ({"SPEND_UPSTREAMS": "x"}, "SPEND_UPSTREAMS: expected a mapping"),
        ({"SPEND_CONFIGURED_UPSTREAMS": "openai"}, "unknown key"),
        ({"SPEND_LOG__FORM": "xml"}, "text or json"),
        ({"SPEND_LOG__LEVEL": "loud"}, "DEBUG or INFO"),
        ({"SPEND_LEASES__REFRESH_EVERY_S": "0"}, "0.1 or more"),
        ({"SPEND_OUTBOX__SEGMENT_BYTES": "0"}, "65536 or more"),
        ({"SPEND_OUTBOX__MAX_BYTES": "1000"}, "expected room for 3 segments"),
        ({"SPEND_SHIPPING__MAX_BACKOFF_S": "0.1"}, "no less than min_backoff_s"),
        ({"SPEND_UPSTREAMS__OPENAI__KEY_HEADER": "bad header"}, "the name of a header"),
        ({"SPEND_UPSTREAMS__OPENAI__KEY_FILE": ""}, "expected a path"),
    ],
)
def test_what_is_refused(tmp_path: Path, environ: dict[str, str], part: str) -> None:
    """B-C13, B-C14: an empty value is not an unset one; no port beyond loopback without callers being told apart."""
    assert part in "\n".join(problems_of(tmp_path, "", **environ))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """B-C11: no silent defaults in the place of a file that somebody named."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml", {}, {})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path, {}, {})


def test_defaults() -> None:
    """The ports that the README names."""
    settings = Settings()
    assert (settings.sidecar.listen.port, settings.sidecar.health.port, settings.ledger.listen.port) == (
        8402,
        9402,
        8403,
    )


def test_a_list_in_the_place_of_a_mapping_is_said(tmp_path: Path) -> None:
    """With its line, not with a traceback."""
    assert problems_of(tmp_path, "sidecar:\n  upstreams: [1]\n") == [
        "spend.yaml:2 sidecar.upstreams: expected a mapping"
    ]


def test_what_the_reader_finds_out_cannot_be_written(tmp_path: Path) -> None:
    """A key that would be passed over in silence is an unknown one."""
    (problem,) = problems_of(tmp_path, "configured_upstreams: [openai]\n")
    assert problem == "spend.yaml:1 configured_upstreams: unknown key; known are ledger, sidecar"


def test_every_least_is_a_setting() -> None:
    """A bound on a key that was renamed would bound nothing."""
    for place in LEAST:
        found: object = Settings()
        for part in place:
            found = getattr(found, part)
        assert isinstance(found, int | float)
        assert found >= LEAST[place]


def test_callers_from_elsewhere_need_a_virtual_key(tmp_path: Path) -> None:
    """S-03, S-10: beyond loopback the sidecar listens with require_key only; `spend up`'s ledger not at all."""
    outside = {"SPEND_LISTEN__HOST": "0.0.0.0"}
    (problem,) = problems_of(tmp_path, "sidecar:\n  listen: {host: 10.0.0.7}\n")
    assert problem.startswith("spend.yaml:2 sidecar.listen.host: expected a loopback address")
    assert "require_key: true" in problem
    settings = load_settings(None, outside | {"SPEND_REQUIRE_KEY": "true"}, {})
    assert (settings.sidecar.listen.host, settings.sidecar.require_key) == ("0.0.0.0", True)
    (problem,) = problems_of(tmp_path, "sidecar: {require_key: true}\nledger:\n  listen: {host: 10.0.0.7}\n")
    assert "spend ledger" in problem


def test_health_may_be_seen_from_outside() -> None:
    """A kubelet's probes come from beyond loopback; there is nothing to spend there and nothing to read of anybody."""
    assert load_settings(None, {"SPEND_HEALTH__HOST": "0.0.0.0"}, {}).sidecar.health.host == "0.0.0.0"


def test_a_ledgers_database(tmp_path: Path) -> None:
    """From the environment, as a secret comes; an address that is none is told without what it holds."""
    settings = load_settings(None, {"SPEND_LEDGER__DATABASE__URL": "postgresql://spend:hunter22@db/spend"}, {})
    assert settings.ledger.database.url == "postgresql://spend:hunter22@db/spend"
    assert settings.ledger.admin_token_file is None
    found = problems_of(
        tmp_path,
        "ledger:\n  database: {connections: 0, isolation: maybe}\n",
        SPEND_LEDGER__DATABASE__URL="mysql://spend:hunter22@db/spend",
    )
    assert len(found) == 2
    found = problems_of(tmp_path, "", SPEND_LEDGER__DATABASE__URL="mysql://spend:hunter22@db/spend")
    assert found == ["SPEND_LEDGER__DATABASE__URL: expected postgresql://USER@HOST:PORT/DATABASE"]
