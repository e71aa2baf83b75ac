"""What the chart and the compose file say is run: their own arguments and variables, as processes of this machine."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.support import charts, compose
from tests.support.containers import ContainerProcess
from tests.support.engines import POSTGRES, SQLITE, postgres_url
from tests.support.helm_engine import render
from tests.support.product import Product, running

ASK = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
WAIT_S = 20


def probe(spec: Mapping[str, Any], product: Product) -> list[int]:
    """What each of a container's probes is answered."""
    paths = [spec[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    return [httpx.get(product.health + path, timeout=WAIT_S).status_code for path in paths]


def wait_until_ready(product: Product) -> None:
    """As `depends_on` and a kubelet do."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if httpx.get(f"{product.health}/readyz", timeout=WAIT_S).status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError(product.log())


@pytest.mark.parametrize("engine", [SQLITE, POSTGRES])
def test_what_the_chart_renders_serves_a_call_and_refuses_the_next(tmp_path: Path, engine: str) -> None:
    """The ledger's container, a token as NOTES makes it, and the sidecar's container of the README's example."""
    shared = engine == POSTGRES
    released = render({"ledger": {"replicas": 2, "databaseSecret": {"name": "database"}}} if shared else None)
    database = {charts.DATABASE_URL: postgres_url()} if shared else {}
    values = {"sidecar": {"demo": "auto", "customer": "acme"}}
    folder = tmp_path / "application"
    folder.mkdir()
    application = charts.render_application(folder, values)
    ledger_volume, sidecar_volume, secret = (tmp_path / name for name in ("book", "pod", "secret"))
    for made in (ledger_volume, sidecar_volume, secret):
        made.mkdir()
    container = charts.ledger(released)
    with running(ContainerProcess(container, {container.mounts[0]: ledger_volume}, database)) as ledger:
        spec = charts.pod(released.one("StatefulSet"))["containers"][0]
        assert probe(spec, ledger) == [200, 200, 200]
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        ledger.spend("budgets", "set", "acme", "--limit", "0.00005", "--per", "day")
        (secret / "token").write_text(ledger.spend("ledger", "sidecar-token", "checkout").stdout)
        container = charts.sidecar(application)
        address = container.variables()["SPEND_LEDGER_URL"]
        service = released.one("Service")  # in the README's example the release is in `default`
        assert urlsplit(address).netloc == f"{service['metadata']['name']}.default.svc:{urlsplit(address).port}"
        assert urlsplit(address).port == service["spec"]["ports"][0]["port"]
        volumes = {"/var/lib/spend": sidecar_volume, "/etc/spend/token": secret}
        with running(ContainerProcess(container, volumes, {address: ledger.ledger})) as sidecar:
            wait_until_ready(sidecar)
            assert probe(charts.sidecar_spec(application), sidecar) == [200, 200, 200]
            answers = [httpx.post(f"{sidecar.proxy}/v1/chat/completions", json=ASK, timeout=WAIT_S) for _ in range(4)]
            assert answers[0].status_code == 200
            assert answers[-1].status_code == 402
            assert sidecar.stop() == 0
        assert ledger.usage("acme")[0]["model"] == "gpt-4o-mini"
        assert ledger.stop() == 0


def test_what_the_compose_file_says_is_what_it_does(tmp_path: Path) -> None:
    """Its services in the order of their waits, and then the commands of its own comment, to the refusal."""
    volumes = {name: tmp_path / name for name in ("ledger", "outbox")}
    for volume in volumes.values():
        volume.mkdir()

    def placed(service: str) -> dict[str, Path]:
        return {place: volumes[name] for name, place in compose.mounts(service).items()}

    container = compose.container("ledger")
    database = {container.variables()["SPEND_LEDGER__DATABASE__URL"]: postgres_url()}
    with running(ContainerProcess(container, placed("ledger"), database)) as ledger:
        wait_until_ready(ledger)
        token = ContainerProcess(compose.container("token"), placed("token"), {})
        assert token.data == ledger.data
        token.run_to_its_end()
        container = compose.container("sidecar")
        named = {container.variables()["SPEND_LEDGER_URL"]: ledger.ledger}
        with running(ContainerProcess(container, placed("sidecar"), named)) as sidecar:
            wait_until_ready(sidecar)
            assert "a demo provider answers in place of the real ones" in sidecar.log()
            for words in compose.first_steps():
                if words[2:4] == ["exec", "ledger"] and words[5] != "usage":
                    ledger.spend(*words[5:])
            said = [ask_as_the_application(sidecar) for _ in range(10)]
        assert said[0]["object"] == "chat.completion"
        assert said[-1]["error"]["code"] == "budget_exceeded"
        assert 0 < len(ledger.usage("acme")) < 10


def ask_as_the_application(sidecar: Product) -> dict[str, Any]:
    """Its command, with curl, at the port that the proxy has here."""
    *options, address = compose.services()["application"]["command"]
    command = ["curl", *options, sidecar.proxy + urlsplit(address).path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
