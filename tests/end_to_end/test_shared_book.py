"""Three `spend sidecar`, two `spend ledger`, one PostgreSQL: real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.test_fleet import NEVER_S, call, ready, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms, uses_the_whole_ceiling
from tests.support.caller import call_from_processes
from tests.support.engines import postgres_url
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import provider_environment, running

LATER = {(402, "budget_exceeded"), (429, "budget_in_flight")}
"""Refusals of a budget that is used or lent to its end."""


class SharedFleet(NamedTuple):
    """The processes; the first sidecar goes to the first ledger, the others to the second."""

    ledgers: tuple[LedgerProcess, LedgerProcess]
    sidecars: tuple[SidecarProcess, ...]


@contextmanager
def running_fleet(folder: Path, provider: LLMProvider, **settings: str) -> Iterator[SharedFleet]:
    """All of them, ready to serve."""
    database = {"SPEND_LEDGER__DATABASE__URL": postgres_url()}
    environment = provider_environment(provider.address) | settings
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(LedgerProcess(folder / name, database))) for name in ("first", "second")
        )
        sidecars = []
        for number, ledger in enumerate((first, second, second)):
            token = first.token(f"sidecar-{number}")
            one = SidecarProcess(folder / f"sidecar-{number}", environment, ledger.ledger, token)
            sidecars.append(stack.enter_context(running(one)))
        until(lambda: all(map(ready, sidecars)))
        yield SharedFleet((first, second), tuple(sidecars))


def one_budget_on_three(folder: Path, provider: LLMProvider, calls: int, room: int) -> None:
    """`calls` at one instant against a hard budget with room for `room`; then one by one until it is used."""
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    with running_fleet(folder, provider, SPEND_LEASES__REFRESH_EVERY_S="0.5") as fleet:
        first, second = fleet.ledgers
        first.spend("customers", "add", "acme", "--wallet", "none")
        second.spend("budgets", "set", "acme", "--limit", amount(room * ceiling_atoms()), "--per", "lifetime")
        each = [{"headers": {"spend-customer": "acme"}, "body": BODY} for _ in range(calls // 3)]
        with ThreadPoolExecutor(3) as pool:
            some = pool.map(lambda one: call_from_processes(one.proxy, PATH, each, processes=1), fleet.sidecars)
            results = [result for results in some for result in results]
        served = sum(result["status"] == 200 for result in results)
        assert served == len(provider.served) <= room
        assert {(result["status"], result["code"]) for result in results if result["status"] != 200} <= LATER

        def all_used() -> bool:
            for sidecar in fleet.sidecars:
                call(sidecar)
            return len(provider.served) >= room

        until(all_used)
        assert [call(sidecar)[0] for sidecar in fleet.sidecars] == [402, 402, 402]
        assert len(provider.served) == room
        until(lambda: len(first.usage("acme")) == room)
        assert sum(row["charge"]["atoms"] for row in second.usage("acme")) == room * ceiling_atoms()
        assert first.problems("acme") == second.problems("acme") == []


@pytest.mark.timeout(900)
def test_three_sidecars_on_two_ledgers_admit_what_one_budget_has_room_for(
    tmp_path: Path, provider: LLMProvider
) -> None:
    """L0, L39: 300 at one instant never pass the limit, whichever ledger lent; those refused for now get the rest."""
    one_budget_on_three(tmp_path, provider, 300, 60)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_thousand_calls_on_two_ledgers(tmp_path: Path, provider: LLMProvider) -> None:
    """The same with 10,000."""
    one_budget_on_three(tmp_path, provider, 10_000, 3_000)


@pytest.mark.timeout(900)
def test_what_is_tightened_at_one_ledger_acts_on_every_sidecar(tmp_path: Path, provider: LLMProvider) -> None:
    """L35: a lowered limit, a freeze and a revoked key, though no sidecar would ask its ledger for an hour."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    with running_fleet(tmp_path, provider, SPEND_LEASES__REFRESH_EVERY_S=NEVER_S) as fleet:
        first, second = fleet.ledgers
        first.spend("customers", "add", "acme", "--wallet", "none")
        first.spend("nodes", "add", "acme/team:data")
        for ledger, calls, status in ((first, 1000, 200), (second, 0, 402), (first, 1000, 200)):
            ledger.spend("budgets", "set", "acme", "--limit", amount(calls * ceiling_atoms()), "--per", "lifetime")
            until(lambda status=status: [call(one)[0] for one in fleet.sidecars] == [status] * 3)  # type: ignore[misc]
        team = {"spend-path": "team:data"}
        assert [call(one, **team)[0] for one in fleet.sidecars] == [200] * 3
        second.spend("nodes", "freeze", "acme/team:data", "--reason", "a test")
        until(lambda: [call(one, **team) for one in fleet.sidecars] == [(403, "node_frozen")] * 3)
        assert [call(one)[0] for one in fleet.sidecars] == [200] * 3
        first.spend("nodes", "unfreeze", "acme/team:data", "--reason", "it is over")
        until(lambda: [call(one, **team)[0] for one in fleet.sidecars] == [200] * 3)
        made = json.loads(first.spend("keys", "create", "acme", "--json").stdout)
        keyed = {"spend-key": made["key"]}
        assert [call(one, **keyed)[0] for one in fleet.sidecars] == [200] * 3
        second.spend("keys", "revoke", "acme", made["key_id"])
        until(lambda: [call(one, **keyed) for one in fleet.sidecars] == [(401, "invalid_api_key")] * 3)
        assert [call(one)[0] for one in fleet.sidecars] == [200] * 3
        assert json.loads(second.spend("verify", "acme", "--json").stdout)["problems"] == []
