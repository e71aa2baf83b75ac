"""The compose file keeps what it says: its services are held against the image, the command line and the settings."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import yaml

from sidecar.app.settings import PREFIX, Settings, load_settings, uses_demo
from sidecar.cli.main import COMMANDS
from tests.support import compose
from tests.support.containers import IMAGE

SERVICES = compose.services()
OURS = ("ledger", "token", "sidecar")


def settings_of(name: str, said: dict[str, str] | None = None) -> Settings:
    """What the process makes of its variables."""
    variables = compose.container(name, said).variables()
    ours = {key: value for key, value in variables.items() if key.startswith(PREFIX)}
    return load_settings(None, ours, {}, alone=name == "ledger")


def test_it_has_a_ledger_and_an_application_with_its_sidecar() -> None:
    """And nothing that is not used."""
    assert set(SERVICES) == {*OURS, "application", "postgres", "redis"}
    used = {volume for name in SERVICES for volume in compose.mounts(name)}
    assert set(yaml.safe_load(compose.FILE.read_text())["volumes"]) == used


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_variable_is_one_that_there_is(name: str) -> None:
    """A misspelt variable would stop the process; this one says so before."""
    assert compose.container(name).arguments[0] in COMMANDS
    settings_of(name)


@pytest.mark.parametrize("name", OURS)
def test_no_container_has_more_than_it_needs(name: str) -> None:
    """The image's own user, a root that cannot be written, no capabilities; time to end live calls."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "30s"
    assert {"user", "privileged"}.isdisjoint(service)
    assert (compose.FILE.parent / service["build"] / "Dockerfile").exists()


def test_redis_is_put_to_use() -> None:
    """By the sidecar for rate limits and by the ledger for changes, by its service's name; it keeps nothing."""
    assert settings_of("sidecar").sidecar.redis.url == settings_of("ledger").ledger.redis.url == "redis://redis:6379"
    assert SERVICES["redis"]["command"][1:5] == ["--save", "", "--appendonly", "no"]
    assert "ports" not in SERVICES["redis"]


def test_ports_are_those_that_are_listened_on() -> None:
    """Published on this machine only; the proxy's is not, for it is on its namespace's loopback."""
    ledger, ours = settings_of("ledger").ledger, settings_of("sidecar").sidecar
    assert SERVICES["ledger"]["ports"] == [f"127.0.0.1:{at.port}:{at.port}" for at in (ledger.listen, ledger.health)]
    assert SERVICES["sidecar"]["ports"] == [f"127.0.0.1:{ours.health.port}:{ours.health.port}"]
    assert {ledger.listen.host, ledger.health.host, ours.health.host} == {"0.0.0.0"}
    assert ours.listen.host == "127.0.0.1"
    assert SERVICES["application"]["network_mode"] == "service:sidecar"
    assert SERVICES["application"]["command"][-1] == f"http://localhost:{ours.listen.port}/v1/chat/completions"
    for name, health in (("ledger", ledger.health), ("sidecar", ours.health)):
        assert f"http://127.0.0.1:{health.port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]
        assert SERVICES[name]["healthcheck"]["test"][:2] == ["CMD", "python"]


def test_the_sidecar_asks_the_ledger_by_its_name() -> None:
    """With the token that stands in its own volume, where it was put for it."""
    variables = compose.container("sidecar").variables()
    assert variables["SPEND_LEDGER_URL"] == f"http://ledger:{settings_of('ledger').ledger.listen.port}"
    token = compose.container("token")
    assert variables["SPEND_LEDGER_TOKEN_FILE"] == token.arguments[token.arguments.index("--out") + 1]
    assert compose.container("sidecar").mount_of(variables["SPEND_LEDGER_TOKEN_FILE"]) == IMAGE.one("VOLUME")
    assert compose.mounts("token")["outbox"] == compose.mounts("sidecar")["outbox"] == IMAGE.one("VOLUME")


def test_the_token_is_made_at_the_ledger_s_own_side() -> None:
    """In its namespace, where the address in `admin.json` holds, and with its volume, which it cannot write."""
    ledger, token = compose.container("ledger").variables()["SPEND_DATA"], compose.container("token")
    assert SERVICES["token"]["network_mode"] == "service:ledger"
    below = ledger.removeprefix(compose.mounts("ledger")["ledger"])
    assert token.variables()["SPEND_DATA"] == compose.mounts("token")["ledger"] + below
    assert f"ledger:{compose.mounts('token')['ledger']}:ro" in SERVICES["token"]["volumes"]


@pytest.mark.parametrize("said", [{}, {"POSTGRES_PASSWORD": "better"}])
def test_the_ledger_s_book_is_in_the_database(said: dict[str, str]) -> None:
    """By the name, the user and the password that the database is made with; nothing else reaches it."""
    made = compose.container("postgres", said).environment
    url = urlsplit(settings_of("ledger", said).ledger.database.url)
    assert (url.hostname, url.username, url.password) == ("postgres", made["POSTGRES_USER"], made["POSTGRES_PASSWORD"])
    assert (url.port, url.path) == (5432, f"/{made['POSTGRES_USER']}")
    assert "ports" not in SERVICES["postgres"]
    assert SERVICES["postgres"]["healthcheck"]["test"][1] == "pg_isready"


def test_each_waits_for_what_it_needs() -> None:
    """Each for one that serves, and the sidecar for its token."""
    waits = {name: service.get("depends_on") for name, service in SERVICES.items()}
    assert waits == {
        "postgres": None,
        "redis": None,  # nobody waits for it: without it changes are looked for, and rate limits go by share
        "ledger": {"postgres": {"condition": "service_healthy"}},
        "token": {"ledger": {"condition": "service_healthy"}},
        "sidecar": {"token": {"condition": "service_completed_successfully"}},
        "application": {"sidecar": {"condition": "service_healthy"}},
    }


def test_the_demo_provider_answers_until_it_is_told_not_to() -> None:
    """As the comment at the top says."""
    assert uses_demo(settings_of("sidecar"), {})
    assert not uses_demo(settings_of("sidecar", {"SPEND_DEMO": "off"}), {})
    assert "SPEND_DEMO=off docker compose up" in compose.FILE.read_text()


def test_the_first_steps_name_services_and_commands_that_there_are() -> None:
    """`exec ledger spend …`, and the application's own."""
    steps = compose.first_steps()
    execs = [words[3:] for words in steps if words[2] == "exec"]
    assert {words[0] for words in execs} == {"ledger"}
    assert {words[2] for words in execs} <= set(COMMANDS)
    assert [words[-1] for words in steps if words[2] == "run"] == ["application"]
