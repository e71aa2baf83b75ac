"""What whoever runs a fleet sees of it, while sidecars are updated, drained, killed and lost: real processes."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from sidecar.app.data_folder import BOOK, NAME_FILE
from sidecar.app.serving import product_version
from tests.end_to_end.test_fleet import call, ready, running_fleet, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms, uses_the_whole_ceiling
from tests.end_to_end.test_operations import ASK
from tests.end_to_end.test_shared_book import LATER
from tests.support.caller import call_from_processes
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import provider_environment, running

ROOM = 16
"""Calls that the hard budget has room for."""


def listed(ledger: LedgerProcess) -> dict[str, dict[str, Any]]:
    """`spend fleet --json`, by sidecar."""
    rows = [json.loads(line) for line in ledger.spend("fleet", "--json").stdout.splitlines()]
    return {row["sidecar"]: row for row in rows}


def held(row: dict[str, Any], of: str = "holds") -> int:
    """How much, in atoms."""
    return sum(one["atoms"] for one in row[of])


def name_of(sidecar: SidecarProcess) -> str:
    """As the ledger knows it."""
    return (sidecar.data / NAME_FILE).read_text().strip()


def metric(ledger: LedgerProcess, name: str, sidecar: str) -> dict[str, float]:
    """A gauge of one sidecar, by its other labels."""
    with urllib.request.urlopen(f"{ledger.health}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^spend_ledger_sidecar_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    label = f'sidecar="{sidecar}"'
    return {labels.replace(label, "").strip(","): float(value) for labels, value in found if label in labels}


def one_hour_later(ledger: LedgerProcess) -> None:
    """As if no sidecar had been heard for so long: no test waits for it."""
    ledger.kill()
    with closing(sqlite3.connect(ledger.data / BOOK)) as book, book:
        book.execute("UPDATE leases SET pays_until_ms = pays_until_ms - 3600000")
    ledger.start()


@pytest.mark.timeout(600)
def test_a_sidecar_is_drained_and_another_is_lost(tmp_path: Path, provider: LLMProvider) -> None:
    """F-32, F-33, L46: how each is, by the list and by metrics; who stops in order leaves nothing behind.

    The drained one ends its stream, books it, gives all back, and is no longer listed. What the lost one held counts as
    spent, stands in quarantine and in exposure under its name, and is lent again when a person has said what became
    of it, not before.
    """
    provider.plan = Plan(usage=uses_the_whole_ceiling)
    with running_fleet(tmp_path, provider, SPEND_LEASES__REFRESH_EVERY_S="0.5") as fleet:
        ledger, (one, two) = fleet.ledger, fleet.sidecars
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        ledger.spend("budgets", "set", "acme", "--limit", amount(ROOM * ceiling_atoms()), "--per", "lifetime")
        for sidecar in (one, two, one, two):
            assert call(sidecar)[0] == 200
        first, second = name_of(one), name_of(two)
        until(lambda: len(ledger.usage("acme")) == 4)
        until(lambda: all(not row["unbooked"] for row in listed(ledger).values()))
        rows = listed(ledger)
        assert rows.keys() == {first, second}
        for row in rows.values():
            assert row["software"] == product_version()
            assert row["outbox_bytes"] > 0
            assert row["overbooked"] == row["quarantined"] == []
            assert row["heard_at_ms"]
        version = f'version="{product_version()}"'
        until(lambda: metric(ledger, "info", first) == {version: 1.0})
        assert metric(ledger, "overbooked_atoms", first).keys() <= {'currency="usd"'}
        assert sum(metric(ledger, "overbooked_atoms", first).values()) == 0

        drain(one, provider)
        assert listed(ledger).keys() == {second}
        assert len(ledger.usage("acme")) == 5
        assert all(row["state"] == "final" for row in ledger.usage("acme"))

        until(lambda: call(two)[0] == 200)
        until(lambda: held(listed(ledger)[second]) > 0)
        two.kill()
        shutil.rmtree(two.data)  # the pod, and its volume
        one_hour_later(ledger)
        lost = listed(ledger)[second]
        assert held(lost) == held(lost, "quarantined") > 0
        until(lambda: sum(metric(ledger, "quarantined_atoms", second).values()) == held(lost))
        (out,) = [json.loads(line) for line in ledger.spend("exposure", "acme", "--json").stdout.splitlines()]
        assert out["exposure"] == out["quarantined"]
        assert [(holder["sidecar"], holder["quarantined"]) for holder in out["holders"]] == [(second, True)]

        replace_it(tmp_path, ledger, provider, second)
        assert ledger.problems("acme") == []


def drain(sidecar: SidecarProcess, provider: LLMProvider) -> None:
    """SIGTERM with a stream under way: it ends whole, and the exit code is 0."""
    provider.plan = Plan(usage=lambda _body, _raw: (30, 20), chunks=20, chunk_delay_s=0.05)
    headers = {"spend-customer": "acme", "authorization": "Bearer x"}
    body = ASK | {"stream": True}
    with httpx.stream("POST", f"{sidecar.proxy}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        text = next(pieces)
        assert sidecar.process is not None
        sidecar.process.terminate()
        text += b"".join(pieces)
    assert text.rstrip().endswith(b"data: [DONE]")
    assert sidecar.process.wait(40) == 0
    provider.plan = Plan(usage=uses_the_whole_ceiling)


def replace_it(folder: Path, ledger: LedgerProcess, provider: LLMProvider, lost: str) -> None:
    """Another in the place of a lost one: it has all but what that held, and that too once it is said to be unspent."""
    environment = provider_environment(provider.address) | {"SPEND_LEASES__REFRESH_EVERY_S": "0.5"}
    three = SidecarProcess(folder / "three", environment, ledger.ledger, ledger.token("three"))
    with running(three):
        until(lambda: ready(three))
        served = use_up(three, provider)
        quarantined = held(listed(ledger)[lost], "quarantined")
        left = ROOM * ceiling_atoms() - sum(row["charge"]["atoms"] for row in ledger.usage("acme"))
        assert quarantined <= left < quarantined + ceiling_atoms()
        (lease,) = [json.loads(line) for line in ledger.spend("leases", "list", "--json").stdout.splitlines()]
        assert (lease["sidecar"], lease["state"]) == (lost, "quarantined")
        ledger.spend(
            "leases", "resolve", "acme", lease["lease_id"], "--as", "returned", "--reason", "its volume is gone"
        )
        assert lost not in listed(ledger) or not listed(ledger)[lost]["holds"]
        if left >= ceiling_atoms():
            until(lambda: call(three)[0] == 200)
            assert use_up(three, provider) > served
        assert three.stop() == 0
    assert listed(ledger).keys() <= {lost}


def use_up(sidecar: SidecarProcess, provider: LLMProvider) -> int:
    """Call until nothing more is let through; gives how many the provider served, all told."""
    calls = [{"headers": {"spend-customer": "acme"}, "body": BODY}] * 4
    refused: list[bool] = []

    def is_used() -> bool:
        results = call_from_processes(sidecar.proxy, PATH, calls, processes=1, head_start_s=0.0)
        seen = {(result["status"], result["code"]) for result in results}
        assert seen <= {(200, ""), *LATER}, seen
        refused.append(seen <= LATER)
        return refused[-2:] == [True, True]

    until(is_used)
    return len(provider.served)
