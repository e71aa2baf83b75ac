"""The ledger is away for a while, really: what goes on, what is refused, and what the book says afterwards (L47)."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.end_to_end.test_fleet import Fleet, running_fleet, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms
from tests.support.fleet import SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product

GRACE_CALLS = 6
HITS_BEFORE = 100
REFRESH_S = 0.5
LONGEST_PAUSE_S = 1.0

FIRST_TRIES = 12
"""What a sidecar may ask at once when the ledger goes or comes: its connections, its questions, a few probes."""

LEAST_WINDOW = 100
"""Settlements that it may send in one message, at least."""


def metric(sidecar: SidecarProcess | Product, name: str) -> int:
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


@dataclass
class Hits:
    """Calls that a lease covers: how long each took, in seconds."""

    fleet: Fleet
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)

    def call_before(self) -> None:
        """While all is well, one after the other, until what is lent covers an outage of that."""
        for number in range(HITS_BEFORE):
            sidecar = self.fleet.sidecars[number % 2]
            begun = time.monotonic()
            assert call(sidecar, "acme", f"old-{sidecar.data.name}") == (200, "")
            self.before.append(time.monotonic() - begun)

    def call_during(self, seconds: float) -> None:
        """While the ledger is away, one at each sidecar every half second: none of them asks anybody."""
        ends_at = time.monotonic() + seconds
        misses = [metric(sidecar, "spend_lease_misses_total") for sidecar in self.fleet.sidecars]
        while len(self.during) < 6 or time.monotonic() < ends_at:
            for sidecar in self.fleet.sidecars:
                begun = time.monotonic()
                found = call(sidecar, "acme", f"old-{sidecar.data.name}")
                self.during.append(time.monotonic() - begun)
                assert found == (200, "ledger_unavailable")
            time.sleep(0.5)
        assert [metric(sidecar, "spend_lease_misses_total") for sidecar in self.fleet.sidecars] == misses

    def __str__(self) -> str:
        ratio = median(self.during) / median(self.before)
        tail = quantiles(self.during, n=100)[98] / quantiles(self.before, n=100)[98]
        return f"{len(self.during)} hits during the outage: median {ratio:.2f}, p99 {tail:.2f} of {HITS_BEFORE} before"


def run_outage(folder: Path, provider: LLMProvider, seconds: float) -> None:
    """Stop the ledger for so long, call meanwhile, start it, and hold the book against the provider's truth."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    settings = {
        "SPEND_LEASES__REFRESH_EVERY_S": str(REFRESH_S),
        "SPEND_LEASES__COVER_S": str(seconds + 60),
        "SPEND_SHIPPING__MAX_BACKOFF_S": "1",
        "SPEND_PROBING__MAX_PAUSE_S": str(LONGEST_PAUSE_S),
    }
    with running_fleet(folder, provider, **settings) as fleet:
        set_up(fleet)
        hits = Hits(fleet)
        hits.call_before()
        assert fleet.ledger.stop() == 0
        gone_at = time.monotonic()
        one, two = fleet.sidecars
        until(lambda: all(metric(sidecar, "spend_ledger_away") for sidecar in fleet.sidecars))
        hits.call_during(seconds)
        print(hits)
        assert call(one, "strict", "new-0") == (503, "ledger_unavailable")
        new = [call(sidecar, "acme", f"new-{n}") for n in range(4) for sidecar in fleet.sidecars]
        assert new.count((200, "grace")) >= GRACE_CALLS
        refused = [found for found in new if found[0] != 200]
        assert refused.count((503, "ledger_unavailable")) == len(refused)
        check_probes(fleet, gone_at)
        two.kill()  # and coming back refills nothing
        two.start()
        assert call(two, "acme", "new-9") == (503, "ledger_unavailable")
        served = len(provider.served)
        back_at, backlog = time.monotonic(), [metric(sidecar, "spend_outbox_depth") for sidecar in fleet.sidecars]
        fleet.ledger.start()
        until(lambda: len(fleet.ledger.usage("acme")) + len(fleet.ledger.usage("strict")) == served)
        until(lambda: not any(metric(sidecar, "spend_outbox_depth") for sidecar in fleet.sidecars))
        check_no_herd(fleet, back_at, backlog)
        check_book(fleet)
        until(lambda: all(call(sidecar, "acme", "new-0") == (200, "") for sidecar in fleet.sidecars))
        until(lambda: all(call(sidecar, "strict", "new-0") == (200, "") for sidecar in fleet.sidecars))
        assert fleet.ledger.problems("acme") == fleet.ledger.problems("strict") == []


def check_probes(fleet: Fleet, gone_at: float) -> None:
    """F-04: however many called, each sidecar tried the way to the ledger no more often than its probes may."""
    lasted_s = time.monotonic() - gone_at
    for way in fleet.ways:
        tried = sum(at > gone_at for at in way.opened)
        print(f"{tried} tries at the ledger in {lasted_s:.0f} s")
        assert tried <= FIRST_TRIES + lasted_s / (LONGEST_PAUSE_S / 2)


def check_no_herd(fleet: Fleet, back_at: float, backlog: list[int]) -> None:
    """F-59: for its backlog a sidecar asks as often as it takes, and beside that no more often than ever."""
    lasted_s = time.monotonic() - back_at
    for way, waiting in zip(fleet.ways, backlog, strict=True):
        asked = Counter(path for at, path in way.asked if at > back_at)
        print(f"asked in {lasted_s:.1f} s after it was back, for {waiting} settlements: {dict(asked)}")
        assert asked.total() <= FIRST_TRIES + waiting / LEAST_WINDOW + lasted_s / REFRESH_S


def check_book(fleet: Fleet) -> None:
    """What went on grace is booked as such, and is as much as was lent for it at most."""
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


def test_an_outage(tmp_path: Path, provider: LLMProvider) -> None:
    """F-01, L47: hits go on and ask nobody; new sessions follow `on_outage`; all is booked, grace as such."""
    run_outage(tmp_path, provider, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_outage_of_ten_minutes(tmp_path: Path, provider: LLMProvider) -> None:
    """The same, as long as an operator sleeps."""
    run_outage(tmp_path, provider, 600.0)
