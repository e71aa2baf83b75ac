"""The tables are changed while calls go on: ledgers of two versions on one PostgreSQL, real processes (F-17).

The older version is the one that is tested; the next is a copy of it with migrations of its own, as a later one will
have them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.ports import Ledger
from tests.end_to_end.test_fleet import call, ready, until
from tests.end_to_end.test_hard_limit import BODY, PATH, amount, ceiling_atoms, uses_the_whole_ceiling
from tests.end_to_end.test_ledger_kills import ASKERS, CUSTOMERS, Askers
from tests.support.caller import call_from_processes
from tests.support.engines import postgres_url
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.http_ledger import connected
from tests.support.ledger import Desk
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import provider_environment, running
from tests.support.releases import MORE_COLUMNS, next_release

ROUNDS = 5
"""Answers to each asker that are awaited before and after each step."""

ROOM = 90
"""Calls that the hard budget has room for."""


def ledger_of(folder: Path, name: str, url: str, release: Path | None = None) -> LedgerProcess:
    """A ledger of a version on a database, not started."""
    process = LedgerProcess(folder / name, {"SPEND_LEDGER__DATABASE__URL": url})
    process.folder = release
    process.data.mkdir()
    return process


@contextmanager
def whatever_it_is(process: LedgerProcess) -> Iterator[LedgerProcess]:
    """Ended with the block, however far it came."""
    try:
        yield process
    finally:
        process.kill()


async def answers(askers: Askers) -> None:
    """Wait until each of them was answered some times more."""
    for _ in range(ROUNDS):
        askers.answered.clear()
        while len(askers.answered) < len(CUSTOMERS) * ASKERS:
            await asyncio.sleep(0.02)


@pytest.mark.timeout(600)
async def test_a_migration_under_calls_loses_nothing_and_books_nothing_twice(tmp_path: Path) -> None:
    """F-17, L29, L42: old ledgers go on while the new one changes the tables under them, and none of them stumbles.

    Old alone, old and new, new alone: each call is booked once, nothing stays lent, and the book verifies.
    """
    url, desk = postgres_url(), Desk(tmp_path)
    release = next_release(tmp_path / "next", MORE_COLUMNS)
    async with AsyncExitStack() as stack:
        old = stack.enter_context(running(ledger_of(tmp_path, "old", url)))
        new = stack.enter_context(whatever_it_is(ledger_of(tmp_path, "new", url, release)))
        token = old.token("askers").read_text().strip()
        for customer in CUSTOMERS:
            old.spend("customers", "add", customer, "--wallet", "none")
            old.spend("budgets", "set", customer, "--limit", "1000", "--per", "lifetime")
        ledgers: list[Ledger] = [await stack.enter_async_context(connected(old.ledger, token, follow=False))]
        askers = Askers(ledgers, desk)
        async with asyncio.TaskGroup() as tasks:
            for customer in CUSTOMERS:
                for number in range(ASKERS):
                    tasks.create_task(askers.run(customer, f"{customer}-s{number}"))
            await answers(askers)
            await asyncio.to_thread(new.start)
            await answers(askers)  # by the old one, on tables that are others
            assert askers.asked_again == 0
            ledgers.append(await stack.enter_async_context(connected(new.ledger, token, follow=False)))
            await answers(askers)
            assert askers.asked_again == 0
            assert await asyncio.to_thread(old.stop) == 0  # whom it did not answer, the other does
            del ledgers[0]
            await answers(askers)
            askers.stopping = True
        for process in (old, new):
            assert "contract_request_failed" not in process.log()
        for customer in CUSTOMERS:
            booked = [row["request_id"] for row in await asyncio.to_thread(new.usage, customer)]
            assert len(booked) == len(set(booked))
            assert set(booked) == askers.sent[customer]
            assert await asyncio.to_thread(new.problems, customer) == []
            (budget,) = (await asyncio.to_thread(new.balance, customer))["budgets"]
            (child,) = budget["children"]
            assert (child["used"]["atoms"], child["leased"]["atoms"]) == (len(booked), 0)
    desk.close()


@pytest.mark.timeout(600)
def test_sidecars_and_ledgers_are_updated_one_by_one_under_a_hard_limit(tmp_path: Path, provider: LLMProvider) -> None:
    """F-17, L0, L39: one budget, old and new sidecars on old and new ledgers, each replaced while calls go on.

    Whatever serves, no call goes past the limit, and in the end exactly those that it has room for were served and
    booked; the list of sidecars says which runs what.
    """
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.02)
    url = postgres_url()
    release = next_release(tmp_path / "next", MORE_COLUMNS)
    environment = provider_environment(provider.address) | {"SPEND_LEASES__REFRESH_EVERY_S": "0.5"}
    with running(ledger_of(tmp_path, "old", url)) as old:
        new = ledger_of(tmp_path, "new", url, release)
        one = SidecarProcess(tmp_path / "one", environment, old.ledger, old.token("one"))
        two = SidecarProcess(tmp_path / "two", environment, old.ledger, old.token("two"))
        old.spend("customers", "add", "acme", "--wallet", "none")
        old.spend("budgets", "set", "acme", "--limit", amount(ROOM * ceiling_atoms()), "--per", "lifetime")
        with running(one), running(two), whatever_it_is(new), ThreadPoolExecutor(2) as pool:
            until(lambda: ready(one) and ready(two))
            load = Load(pool)
            try:
                load.begin(one)
                served_by(provider, 10)
                new.start()  # changes the tables
                served_by(provider, 10)
                assert two.stop() == 0
                two.move(new.ledger, release)
                two.start()
                until(lambda: ready(two))
                load.begin(two)
                served_by(provider, 10)
                versions = {row["sidecar"]: row["software"] for row in listed(new)}
                assert len(versions) == 2
                assert all(versions.values())
                served_by(provider, ROOM)
            finally:
                seen = load.end()
            assert seen <= {(200, ""), (402, "budget_exceeded"), (429, "budget_in_flight")}, seen
            assert [call(sidecar) for sidecar in (one, two)] == [(402, "budget_exceeded")] * 2
            assert len(provider.served) == ROOM
            assert one.stop() == 0
            assert old.stop() == 0
            until(lambda: len(new.usage("acme")) == ROOM)
            assert sum(row["charge"]["atoms"] for row in new.usage("acme")) == ROOM * ceiling_atoms()
            assert new.problems("acme") == []
            assert [row["unbooked"] + row["overbooked"] for row in listed(new)] == [[]]


class Load:
    """Calls, five at a time, one after the other, until it ends."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._ending = threading.Event()
        self._callers: list[Future[set[tuple[int, str]]]] = []

    def begin(self, sidecar: SidecarProcess) -> None:
        """On one sidecar."""
        self._callers.append(self._pool.submit(self._call, sidecar))

    def _call(self, sidecar: SidecarProcess) -> set[tuple[int, str]]:
        calls = [{"headers": {"spend-customer": "acme"}, "body": BODY}] * 5
        seen: set[tuple[int, str]] = set()
        while not self._ending.is_set():
            results = call_from_processes(sidecar.proxy, PATH, calls, processes=1, head_start_s=0.0)
            seen.update((result["status"], result["code"]) for result in results)
        return seen

    def end(self) -> set[tuple[int, str]]:
        """End it; gives what was answered: statuses, and codes of refusals."""
        self._ending.set()
        return {one for caller in self._callers for one in caller.result()}


def served_by(provider: LLMProvider, more: int) -> None:
    """Wait until the provider has served so many more."""
    enough = min(ROOM, len(provider.served) + more)
    until(lambda: len(provider.served) >= enough)


def listed(ledger: LedgerProcess) -> list[dict[str, Any]]:
    """`spend fleet --json`."""
    return [json.loads(line) for line in ledger.spend("fleet", "--json").stdout.splitlines()]


@pytest.mark.timeout(300)
def test_an_older_version_does_not_start_on_a_newer_database(tmp_path: Path) -> None:
    """F-17: it says which migration it does not know, touches nothing, and the newer one goes on."""
    url = postgres_url()
    release = next_release(tmp_path / "next", MORE_COLUMNS)
    with running(ledger_of(tmp_path, "new", url, release)) as new:
        new.spend("customers", "add", "acme")
        old = ledger_of(tmp_path, "old", url)
        with pytest.raises(RuntimeError, match=r"newer version \(migration 9001\)"), whatever_it_is(old):
            old.start()
        assert old.process is not None
        assert old.process.returncode == 1
        assert "Traceback" not in old.log()
        assert new.problems("acme") == []


@pytest.mark.timeout(300)
def test_a_migration_that_is_killed_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    """F-17: killed between two of its steps, nothing of it stands: the older one goes on, a next try makes it whole."""
    url = postgres_url()
    release = next_release(tmp_path / "next", MORE_COLUMNS, "SELECT pg_sleep(3);")
    with running(ledger_of(tmp_path, "old", url)) as old, ThreadPoolExecutor(1) as pool:
        old.spend("customers", "add", "acme")
        new = ledger_of(tmp_path, "new", url, release)
        with whatever_it_is(new):
            starting = pool.submit(new.start)
            until(lambda: new.process is not None)
            time.sleep(1.5)
            new.kill()
            with pytest.raises(RuntimeError):
                starting.result()
        old.spend("customers", "add", "beta")
        with running(ledger_of(tmp_path, "third", url)) as third:  # it would refuse a newer database
            third.spend("customers", "add", "gamma")
        with running(new):
            assert [new.problems(customer) for customer in ("acme", "beta", "gamma")] == [[], [], []]
        with pytest.raises(RuntimeError, match="newer version"):
            ledger_of(tmp_path, "fourth", url).start()
