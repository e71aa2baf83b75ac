"""The ledger is away for a while, really: what goes on, what is refused, and what the book says afterwards (L47)."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.end_to_end.test_fleet import Fleet, running_fleet, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms
from tests.support.fleet import SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product

GRACE_CALLS = 6

HITS = 6
"""At each sidecar, of a session that it knows: as many before the outage as in it."""


def metric(sidecar: Product, name: str) -> int:
    """A gauge or counter without labels."""
    with urllib.request.urlopen(f"{sidecar.health}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith(f"{name} "))))


def call(sidecar: SidecarProcess, customer: str, session: str) -> tuple[int, str]:
    """One call; its status, and how far its answer says that it was decided without the ledger, or the refusal."""
    headers = {"spend-customer": customer, "spend-session": session, "content-type": "application/json"}
    request = urllib.request.Request(sidecar.proxy + PATH, BODY.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers.get("spend-degraded", "")
    except HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())["error"]["code"]


def set_up(fleet: Fleet) -> None:
    """`acme` lets calls go on during an outage, `strict` does not; every session has a budget of its own."""
    spend = fleet.ledger.spend
    for customer in ("acme", "strict"):
        spend("customers", "add", customer, "--wallet", "none")
    each = ("--limit", amount(1000 * ceiling_atoms()), "--per", "lifetime", "--each", "session")
    spend("budgets", "set", "acme", *each, "--grace", amount(GRACE_CALLS * ceiling_atoms()))
    spend("budgets", "set", "strict", *each)
    for sidecar in fleet.sidecars:
        for customer in ("acme", "strict"):
            for _ in range(5):
                assert call(sidecar, customer, f"old-{sidecar.data.name}")[0] == 200
    half = GRACE_CALLS // 2 * ceiling_atoms()
    until(lambda: [metric(one, "spend_grace_atoms") for one in fleet.sidecars] == [half, half])


def budget(fleet: Fleet) -> dict[str, Any]:
    """The budget of acme, as the command line tells it."""
    found: dict[str, Any] = json.loads(fleet.ledger.spend("budgets", "list", "acme", "--json").stdout)
    return found


def timed_hit(sidecar: SidecarProcess, degraded: str) -> float:
    """A call that its session's lease pays for; how many milliseconds it took."""
    began = time.monotonic()
    assert call(sidecar, "acme", f"old-{sidecar.data.name}") == (200, degraded)
    return 1000 * (time.monotonic() - began)


def run_outage(folder: Path, provider: LLMProvider, seconds: float) -> None:
    """Stop the ledger for so long, call meanwhile, start it, and hold the book against the provider's truth."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    quick = {"SPEND_LEASES__REFRESH_EVERY_S": "0.5", "SPEND_SHIPPING__MAX_BACKOFF_S": "1"}
    with running_fleet(folder, provider, **quick) as fleet:
        set_up(fleet)
        before = [timed_hit(sidecar, "") for sidecar in fleet.sidecars for _ in range(HITS)]
        assert fleet.ledger.stop() == 0
        one, two = fleet.sidecars
        until(lambda: all(metric(sidecar, "spend_ledger_away") for sidecar in fleet.sidecars))
        misses = [metric(sidecar, "spend_lease_misses_total") for sidecar in fleet.sidecars]
        during = [timed_hit(sidecar, "ledger_unavailable") for sidecar in fleet.sidecars for _ in range(HITS // 2)]
        time.sleep(seconds)
        during += [timed_hit(sidecar, "ledger_unavailable") for sidecar in fleet.sidecars for _ in range(HITS // 2)]
        print(f"a hit took {median(before):.1f} ms (median) before, {median(during):.1f} ms while the ledger was away")
        assert [metric(sidecar, "spend_lease_misses_total") for sidecar in fleet.sidecars] == misses
        assert call(one, "strict", "new-0") == (503, "ledger_unavailable")
        new = [call(sidecar, "acme", f"new-{n}") for n in range(4) for sidecar in fleet.sidecars]
        assert new.count((200, "grace")) >= GRACE_CALLS
        refused = [found for found in new if found[0] != 200]
        assert refused.count((503, "ledger_unavailable")) == len(refused)
        two.kill()  # and coming back refills nothing
        two.start()
        assert call(two, "acme", "new-9") == (503, "ledger_unavailable")
        served = len(provider.served)
        fleet.ledger.start()
        until(lambda: len(fleet.ledger.usage("acme")) + len(fleet.ledger.usage("strict")) == served)
        rows = fleet.ledger.usage("acme")
        on_grace = [row for row in rows if "grace" in row["flags"]]
        assert {row["session"] for row in on_grace} == {f"new-{n}" for n in range(4)}
        charged = sum(row["charge"]["atoms"] for row in on_grace)
        view = budget(fleet)
        assert view["grace_used"]["atoms"] == charged <= view["grace"]["atoms"]
        used = sum(child["used"]["atoms"] for child in view["children"])
        assert used == sum(row["charge"]["atoms"] for row in rows)
        explained = json.loads(fleet.ledger.spend("explain", on_grace[0]["request_id"], "--json").stdout)
        assert (explained["decision"]["source"], explained["flags"]) == ("grace", ["grace"])
        until(lambda: not any(metric(sidecar, "spend_outbox_depth") for sidecar in fleet.sidecars))
        until(lambda: all(call(sidecar, "acme", "new-0") == (200, "") for sidecar in fleet.sidecars))
        until(lambda: all(call(sidecar, "strict", "new-0") == (200, "") for sidecar in fleet.sidecars))
        assert fleet.ledger.problems("acme") == fleet.ledger.problems("strict") == []


def test_an_outage(tmp_path: Path, provider: LLMProvider) -> None:
    """F-01, L47: hits go on and ask nobody; new sessions follow `on_outage`; all is booked, grace as such."""
    run_outage(tmp_path, provider, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_outage_of_ten_minutes(tmp_path: Path, provider: LLMProvider) -> None:
    """The same, as long as an operator sleeps."""
    run_outage(tmp_path, provider, 600.0)
