"""A sidecar that starts while the ledger is stopped, really: what a Redis tells it, and that nothing passes by it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from sidecar.contract.codec import encode
from sidecar.contract.warm_copies import WarmCopy, read_copy
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.storage.redis_client import Client, connect
from sidecar.storage.redis_options import RedisOptions
from tests.end_to_end.test_fleet import running_fleet, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms
from tests.end_to_end.test_outage import metric
from tests.support.fleet import SidecarProcess
from tests.support.llm_provider import LLMProvider
from tests.support.product import provider_environment, running
from tests.support.redis import Cluster, Server, needs_redis

STRICT = Subject("strict")


def call(sidecar: SidecarProcess, customer: str) -> tuple[int, dict[str, Any]]:
    """One call; its status, and what its refusal says."""
    headers = {"spend-customer": customer, "content-type": "application/json"}
    request = urllib.request.Request(sidecar.proxy + PATH, BODY.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {}
    except HTTPError as refused:
        with refused:
            said: dict[str, Any] = json.loads(refused.read())["error"]
            return refused.code, said


async def forge(client: Client) -> None:
    """Write over the copies of `strict` that it has a wallet, and no budget."""
    now_ms = int((await client.time())[0]) * 1000 if not hasattr(client, "get_nodes") else None
    async for key in client.scan_iter(match="spend:{strict}:policies:*"):
        data = await client.get(key)
        stamp = now_ms or int((await client.time(target_nodes=client.get_nodes()[0]))[0]) * 1000
        found = read_copy(data, STRICT, now_ms=stamp)
        assert found is not None
        free = type(found[0])("strict", (), "", Wallet.REQUIRED, found[0].currency, (), (), "forged@1", 10**6, 60_000)
        await client.set(key, encode(WarmCopy("strict", (), "", stamp, free)))


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_l47_a_sidecar_that_starts_in_an_outage(tmp_path: Path, provider: LLMProvider, kind: str) -> None:
    """L47, L16a: a fresh sidecar refuses every call, tells which limits there are, and goes on when the ledger is back.

    A copy that somebody forged lets nothing through either; a Redis that has gone leaves the plain refusal.
    """
    needs_redis()
    servers = Server() if kind == "single" else Cluster()
    settings = {"SPEND_REDIS__URL": servers.url, "SPEND_REDIS__DEADLINE_S": "5"}
    if kind == "cluster":
        settings["SPEND_REDIS__CLUSTER"] = "true"
    with running_fleet(tmp_path, provider, **settings) as fleet:
        spend = fleet.ledger.spend
        for customer in ("strict", "soft", "unseen"):
            spend("customers", "add", customer, "--wallet", "none")
        for customer in ("strict", "unseen"):
            spend("budgets", "set", customer, "--limit", amount(100 * ceiling_atoms()), "--per", "lifetime")
        spend("budgets", "set", "soft", "--limit", "1000", "--per", "lifetime", "--soft")
        assert call(fleet.sidecars[0], "strict")[0] == 200
        assert call(fleet.sidecars[0], "soft")[1]["code"] == "no_limit_applies"
        until(lambda: metric(fleet.sidecars[0], "spend_policy_copies_written") == 2)
        token = fleet.ledger.token("late")
        assert fleet.ledger.stop() == 0
        served = len(provider.served)

        late = SidecarProcess(
            tmp_path / "late", provider_environment(provider.address) | settings, fleet.ledger.ledger, token
        )
        with running(late):
            status, said = call(late, "strict")
            assert (status, said["code"]) == (503, "ledger_unavailable")
            (budget,) = said["spend"]["consulted"]
            assert budget["hard"] is True
            assert budget["limit_atoms"] == 100 * ceiling_atoms()
            assert "copy" in said["message"]
            assert said["spend"]["standing_age_ms"] >= 0
            assert call(late, "soft")[1]["code"] == "no_limit_applies"
            status, said = call(late, "unseen")
            assert (status, said["code"], "consulted" in said["spend"]) == (503, "ledger_unavailable", False)
            assert metric(late, "spend_policy_copies_read") == 2
            late.stop()

            client = connect(RedisOptions(servers.url, cluster=kind == "cluster"))
            await forge(client)
            await client.aclose()
            late.start()
            for _ in range(20):
                status, said = call(late, "strict")
                assert (status, said["code"]) == (503, "ledger_unavailable")
            assert "copy" in said["message"]
            assert metric(late, "spend_policy_copies_read") >= 1
            late.stop()

            servers.remove()
            late.start()
            status, said = call(late, "strict")
            assert (status, said["code"], "consulted" in said["spend"]) == (503, "ledger_unavailable", False)
            assert len(provider.served) == served
            fleet.ledger.start()
            until(lambda: call(late, "strict")[0] == 200)
        assert fleet.ledger.problems("strict") == []
