"""How much of a budget several sidecars use before they refuse, and how rarely they ask: on two ledgers, one book."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.test_fleet import call, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms, uses_the_whole_ceiling
from tests.end_to_end.test_shared_book import SharedFleet, running_fleet
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-test", "Spend-Customer": "acme"}

CALLERS = 3
"""At each sidecar, one call of each at a time."""

OPEN_SHARE = 200
"""The budget is so many times what all callers can hold together, which is then 0.5 % of it."""


class Crowd:
    """Callers that ask one sidecar each, call after call, until it refuses for good or all calls are made."""

    def __init__(self, fleet: SharedFleet, calls: int) -> None:
        self._fleet = fleet
        self._left = calls
        self._lock = threading.Lock()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.served_at_first_refusal: int | None = None

    def run(self) -> None:
        """Until all have ended."""
        with ThreadPoolExecutor(CALLERS * len(self._fleet.sidecars)) as pool:
            for done in [pool.submit(self._ask, one) for one in self._fleet.sidecars for _ in range(CALLERS)]:
                done.result()

    def _ask(self, sidecar: SidecarProcess) -> None:
        wire = http.client.HTTPConnection(sidecar.proxy.removeprefix("http://"), timeout=60)
        while self._take():
            wire.request("POST", PATH, BODY, HEADERS)
            with wire.getresponse() as answer:
                body = answer.read()
            code = "" if answer.status == 200 else json.loads(body)["error"]["code"]
            with self._lock:
                self.answers[answer.status, code] += 1
                if answer.status != 200 and self.served_at_first_refusal is None:
                    self.served_at_first_refusal = self.answers[200, ""]
        wire.close()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


@pytest.mark.parametrize("calls", [2_500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_one_budget_is_used_to_its_end_and_no_further(tmp_path: Path, provider: LLMProvider, calls: int) -> None:
    """L0, L39, L44: to the atom, over three sidecars and two ledgers; nobody is refused before 99 % of it are used.

    What all open calls hold together is half a percent of the budget.
    """
    provider.plan = Plan(usage=uses_the_whole_ceiling)
    room = OPEN_SHARE * CALLERS * 3
    assert calls > room
    quick = {"SPEND_LEASES__REFRESH_EVERY_S": "1", "SPEND_SHIPPING__MAX_BACKOFF_S": "1"}
    quick["SPEND_LEASES__MISS_TIMEOUT_S"] = "20"  # a busy machine is slow to answer, and not away
    with running_fleet(tmp_path, provider, **quick) as fleet:
        ledger = fleet.ledgers[1]
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        ledger.spend("budgets", "set", "acme", "--limit", amount(room * ceiling_atoms()), "--per", "lifetime")
        crowd = Crowd(fleet, calls)
        crowd.run()
        assert sum(crowd.answers.values()) == calls
        assert crowd.answers[200, ""] == len(provider.served) <= room
        refused = {answer for answer in crowd.answers if answer[0] != 200}
        assert refused <= {(402, "budget_exceeded"), (429, "budget_in_flight")}, crowd.answers
        assert crowd.served_at_first_refusal is not None
        assert crowd.served_at_first_refusal >= 0.99 * room, crowd.answers
        until(lambda: sum(asked(one) for one in fleet.sidecars) >= room)
        assert len(provider.served) == room
        until(lambda: booked(ledger) >= room * ceiling_atoms())
        assert [one.stop() for one in fleet.sidecars] == [0, 0, 0]
        assert booked(ledger) == room * ceiling_atoms()
        assert [one.problems("acme") for one in fleet.ledgers] == [[], []]


def test_far_from_a_limit_hardly_a_call_asks_the_ledger(tmp_path: Path, provider: LLMProvider) -> None:
    """L40, L44: at least 99 of 100 calls are decided by what was lent before, on three sidecars together."""
    provider.plan = Plan(usage=uses_the_whole_ceiling)
    calls = 1_500
    with running_fleet(tmp_path, provider) as fleet:
        spend = fleet.ledgers[0].spend
        spend("customers", "add", "acme", "--wallet", "none")
        spend("budgets", "set", "acme", "--limit", amount(100 * calls * ceiling_atoms()), "--per", "lifetime")
        Crowd(fleet, calls // 10).run()  # the first calls of a customer have to ask
        before = misses(fleet)
        assert before
        crowd = Crowd(fleet, calls)
        crowd.run()
        assert crowd.answers == {(200, ""): calls}
        asking = misses(fleet) - before
        print(f"{asking} of {calls} calls asked the ledger first, and {before} of those before them")
        assert asking <= calls // 100


def asked(sidecar: SidecarProcess) -> int:
    """Ask once more, so that what another held at the end is used; gives how many calls its sidecar has served."""
    call(sidecar)
    return counted(sidecar, 'spend_requests_total{provider="openai",status="2xx"}')


def misses(fleet: SharedFleet) -> int:
    """How many calls had to ask a ledger first."""
    return sum(counted(one, "spend_lease_misses_total") for one in fleet.sidecars)


def counted(sidecar: SidecarProcess, name: str) -> int:
    """One of its counters."""
    with urllib.request.urlopen(f"{sidecar.health}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)))


def booked(ledger: LedgerProcess) -> int:
    """What the book says was charged."""
    sums = json.loads(ledger.spend("usage", "--customer", "acme", "--by", "model", "--json").stdout)
    return int(sums["charge"]["atoms"])
