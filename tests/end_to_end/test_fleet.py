"""One `spend ledger`, two `spend sidecar`, one provider that counts: real processes, killable."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms, uses_the_whole_ceiling
from tests.end_to_end.test_kill import CALLS_PER_ROUND, compare, start_load
from tests.support.caller import call_from_processes
from tests.support.fleet import LedgerProcess, SidecarProcess, without_changes
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import provider_environment, running
from tests.support.switch import Switch, switched

PATIENCE_S = 30.0
NEVER_S = "3600"


class Fleet(NamedTuple):
    """The processes."""

    ledger: LedgerProcess
    sidecars: tuple[SidecarProcess, SidecarProcess]
    ways: tuple[Switch, Switch]
    """By which each of them reaches the ledger."""


@contextmanager
def running_fleet(folder: Path, provider: LLMProvider, **settings: str) -> Iterator[Fleet]:
    """A ledger and two sidecars with a token each, ready to serve."""
    environment = provider_environment(provider.address) | settings
    with running(LedgerProcess(folder / "ledger", {})) as ledger:
        port = int(ledger.ledger.rpartition(":")[2])
        with switched(port) as first, switched(port) as second:
            one, two = (
                SidecarProcess(folder / name, environment, f"http://127.0.0.1:{way.port}", ledger.token(name))
                for name, way in (("one", first), ("two", second))
            )
            with running(one), running(two):
                until(lambda: ready(one) and ready(two))
                yield Fleet(ledger, (one, two), (first, second))


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come"
        time.sleep(0.05)


def ready(sidecar: SidecarProcess) -> bool:
    """Whether it says so."""
    try:
        with urllib.request.urlopen(f"{sidecar.health}/readyz", timeout=5):
            return True
    except HTTPError:
        return False


def call(sidecar: SidecarProcess, **headers: str) -> tuple[int, str]:
    """One call; gives its status and, where it was refused, the code."""
    calls = [{"headers": {"spend-customer": "acme", **headers}, "body": BODY}]
    (result,) = call_from_processes(sidecar.proxy, PATH, calls, processes=1, head_start_s=0.0)
    return result["status"], result["code"]


def set_limit(fleet: Fleet, calls: int) -> None:
    """A limit worth so many calls, for good."""
    limit = amount(calls * ceiling_atoms())
    fleet.ledger.spend("budgets", "set", "acme", "--limit", limit, "--per", "lifetime")


def test_two_sidecars_admit_what_one_budget_has_room_for(tmp_path: Path, provider: LLMProvider) -> None:
    """L0, L39, L45: 200 calls at one instant on two sidecars never pass the limit; those refused for now get the rest.

    A sidecar that still holds too little for a call gives it back when the other asks for it.
    """
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    with running_fleet(tmp_path, provider, SPEND_LEASES__REFRESH_EVERY_S="0.5") as fleet:
        fleet.ledger.spend("customers", "add", "acme", "--wallet", "none")
        set_limit(fleet, 20)
        calls = [{"headers": {"spend-customer": "acme"}, "body": BODY} for _ in range(100)]
        with ThreadPoolExecutor(2) as pool:
            both = pool.map(lambda one: call_from_processes(one.proxy, PATH, calls, processes=1), fleet.sidecars)
            results = [result for some in both for result in some]
        served = sum(result["status"] == 200 for result in results)
        assert served == len(provider.served) <= 20
        refused = {(result["status"], result["code"]) for result in results if result["status"] != 200}
        assert refused <= {(402, "budget_exceeded"), (429, "budget_in_flight")}, refused
        assert served == 20 or (429, "budget_in_flight") in refused

        def all_used() -> bool:
            for sidecar in fleet.sidecars:
                call(sidecar)
            return len(provider.served) >= 20

        until(all_used)
        assert [call(sidecar)[0] for sidecar in fleet.sidecars] == [402, 402]
        assert len(provider.served) == 20
        until(lambda: len(fleet.ledger.usage("acme")) == 20)
        assert sum(row["charge"]["atoms"] for row in fleet.ledger.usage("acme")) == 20 * ceiling_atoms()
        assert fleet.ledger.problems("acme") == []


def test_kills_of_a_sidecar_and_of_the_ledger_lose_nothing(tmp_path: Path, provider: LLMProvider) -> None:
    """L25, L29, L46, L49: `kill -9` of either under load, in turn: every call that was served is booked, once."""
    chance = random.Random(20261126)
    provider.plan = Plan(usage=lambda _body, raw: (40 + len(raw) % 7, 60), chunks=12, chunk_delay_s=0.01, delay_s=0.02)
    quick = {"SPEND_SHIPPING__MAX_BACKOFF_S": "1", "SPEND_LEASES__OUTAGE_RETRY_S": "0.1"}
    with running_fleet(tmp_path, provider, **quick) as fleet:
        spend = fleet.ledger.spend
        spend("customers", "add", "acme")
        spend("grants", "add", "acme", "3", "--expires", "30d")
        spend("grants", "add", "acme", "1000")
        spend("budgets", "set", "acme", "--limit", "1000", "--per", "month")
        whole: set[str] = set()
        for number in range(8):
            victim: LedgerProcess | SidecarProcess = fleet.ledger if number % 2 else fleet.sidecars[number // 2 % 2]
            firsts = [(2 * number + at) * CALLS_PER_ROUND for at in (0, 1)]
            loads = [start_load(one, first) for one, first in zip(fleet.sidecars, firsts, strict=True)]
            until(lambda begun=firsts: all(reached(provider, first) for first in begun))  # type: ignore[misc]
            time.sleep(chance.random() * 0.5)
            victim.kill()
            time.sleep(chance.random() * 0.3)
            victim.start()
            for load, first in zip(loads, firsts, strict=True):
                if load.stdout is None:
                    raise RuntimeError("no standard output")
                results: list[dict[str, Any]] = json.loads(load.stdout.read())
                load.stdout.close()
                load.wait(30)
                whole |= {f"s{first + at}" for at, one in enumerate(results) if one["status"] == 200 and one["whole"]}
        until(lambda: all(map(ready, fleet.sidecars)))
        until(lambda: {served.body["messages"][0]["content"] for served in provider.served} <= booked(fleet))
        assert len(whole) > 8 * CALLS_PER_ROUND
        assert [sidecar.stop() for sidecar in fleet.sidecars] == [0, 0]
        compare(fleet.ledger, provider, whole)
        assert fleet.ledger.problems("acme") == []
        grants = fleet.ledger.balance("acme")["grants"]
        charged = sum(row["charge"]["atoms"] for row in fleet.ledger.usage("acme"))
        assert sum(grant["consumed"]["atoms"] for grant in grants) == charged
        until(lambda: [grant["leased"]["atoms"] for grant in fleet.ledger.balance("acme")["grants"]] == [0, 0])


def reached(provider: LLMProvider, first: int) -> bool:
    """Whether a call of a load that begins with this number has come to the provider: a kill before meets nothing."""
    prompts = {f"call {number}" for number in range(first, first + CALLS_PER_ROUND)}
    return any(served.body["messages"][0]["content"] in prompts for served in provider.served)


def booked(fleet: Fleet) -> set[str]:
    """The prompts of all calls in the book."""
    return {f"call {row['session'].removeprefix('s')}" for row in fleet.ledger.usage("acme")}


def test_a_new_limit_is_pushed_to_every_sidecar(tmp_path: Path, provider: LLMProvider) -> None:
    """L35: down and up again, at both, though neither would ask the ledger for an hour."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    with running_fleet(tmp_path, provider, SPEND_LEASES__REFRESH_EVERY_S=NEVER_S) as fleet:
        fleet.ledger.spend("customers", "add", "acme", "--wallet", "none")
        for calls, status in ((1000, 200), (0, 402), (1000, 200)):
            set_limit(fleet, calls)
            until(lambda status=status: [call(one)[0] for one in fleet.sidecars] == [status, status])  # type: ignore[misc]


def test_a_freeze_is_pushed_to_every_sidecar(tmp_path: Path, provider: LLMProvider) -> None:
    """L35: both stop, though neither would ask the ledger for an hour, and the command counts both; then thawed."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    with running_fleet(tmp_path, provider, SPEND_LEASES__REFRESH_EVERY_S=NEVER_S) as fleet:
        spend = fleet.ledger.spend
        spend("customers", "add", "acme", "--wallet", "none")
        spend("nodes", "add", "acme/region:north/plant:p1/squad:data")
        set_limit(fleet, 1000)
        squad, other = {"spend-path": "squad:data"}, {"spend-user": "ada"}
        assert [call(one, **squad)[0] for one in fleet.sidecars] == [200, 200]
        frozen = json.loads(spend("nodes", "freeze", "acme/plant:p1", "--reason", "a test", "--json").stdout)
        assert frozen["heard"] == {"holders": 2, "acknowledged": 2, "waiting": []}
        assert [call(one, **squad) for one in fleet.sidecars] == [(403, "node_frozen")] * 2
        assert [call(one, **other)[0] for one in fleet.sidecars] == [200, 200]
        spend("nodes", "unfreeze", "acme/plant:p1", "--reason", "it is over")
        assert [call(one, **squad)[0] for one in fleet.sidecars] == [200, 200]
        assert fleet.ledger.problems("acme") == []


def test_a_new_limit_arrives_where_changes_are_cut(tmp_path: Path, provider: LLMProvider) -> None:
    """L35: a sidecar that never gets a stream of changes notices at its next sync; no lease of its own tells it."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    environment = provider_environment(provider.address) | {"SPEND_LEASES__REFRESH_EVERY_S": "0.5"}
    with (
        running(LedgerProcess(tmp_path / "ledger", {})) as ledger,
        without_changes(ledger.ledger) as address,
        running(SidecarProcess(tmp_path / "one", environment, address, ledger.token("one"))) as sidecar,
    ):
        until(lambda: ready(sidecar))
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        ledger.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
        assert call(sidecar)[0] == 200
        ledger.spend("budgets", "set", "acme", "--limit", "0", "--per", "day")
        until(lambda: call(sidecar)[0] == 402)
        assert "changes_followed" not in sidecar.log()


def test_a_sidecar_starts_without_its_ledger_and_outlives_it(tmp_path: Path, provider: LLMProvider) -> None:
    """L41, L47: refused until somebody is known; later its leases go on while the ledger is away."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    environment = provider_environment(provider.address) | {"SPEND_SHIPPING__MAX_BACKOFF_S": "1"}
    with running(LedgerProcess(tmp_path / "ledger", {})) as ledger:
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        ledger.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
        sidecar = SidecarProcess(tmp_path / "one", environment, ledger.ledger, ledger.token("one"))
        ledger.kill()
        with running(sidecar):
            assert not ready(sidecar)
            assert call(sidecar) == (503, "ledger_unavailable")
            ledger.start()
            until(lambda: ready(sidecar))
            until(lambda: call(sidecar)[0] == 200)
            ledger.kill()
            assert [call(sidecar)[0] for _ in range(3)] == [200, 200, 200]
            assert call(sidecar, **{"spend-user": "nobody-known"}) == (503, "ledger_unavailable")
            served = len(provider.served)
            ledger.start()
            until(lambda: len(ledger.usage("acme")) == served)
            assert sidecar.stop() == 0
        assert ledger.problems("acme") == []
