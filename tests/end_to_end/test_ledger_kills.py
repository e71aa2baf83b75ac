"""`kill -9` of a ledger while it commits: real processes on either engine, two of them where they share a book."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from sidecar.contract.messages import CustomerPart, LeaseReport, RegisterRequest, ResolveReply, SyncRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ports import Ledger
from tests.support.engines import POSTGRES, SQLITE, postgres_url
from tests.support.fleet import LedgerProcess
from tests.support.http_ledger import connected
from tests.support.ledger import Desk
from tests.support.product import running

CUSTOMERS = [f"customer-{n}" for n in range(4)]
ASKERS = 3
"""Sidecars of each customer: those that wait share a commit."""

CALLS = 5
"""Of a message."""

NEED = 10
PATIENCE_S = 240.0
"""For which an asker asks again: a busy machine takes half a minute to start a ledger."""

T = TypeVar("T")


class Askers:
    """Sidecars that borrow, and send settled calls; each asks until it is answered, by whichever ledger."""

    def __init__(self, ledgers: list[Ledger], desk: Desk) -> None:
        self._ledgers = ledgers
        self._desk = desk
        self._numbers = count()
        self.sent: dict[str, set[str]] = {customer: set() for customer in CUSTOMERS}
        self.asked_again = 0
        self.answered: set[str] = set()
        """Who was, since this was last emptied."""
        self.stopping = False

    async def run(self, customer: str, name: str) -> None:
        """Message after message, the last one answered too, and then everything back."""
        subject, incarnation = Subject(customer, user=name), f"{name}-inc"
        await self._ask(name, lambda ledger: ledger.register(RegisterRequest(name, incarnation)))
        granted: dict[str, int] = {}
        spent: dict[str, int] = {}
        while not self.stopping:
            reply: ResolveReply = await self._ask(
                name, lambda ledger: ledger.resolve(self._desk.request(subject, NEED, sidecar=name))
            )
            granted.update((lease.lease_id, lease.granted_atoms) for lease in reply.leases)
            budgets = tuple(one for one in granted if "/budget:" in one)
            events = tuple(
                self._desk.event(f"req-{next(self._numbers)}", subject, 1, leases=budgets) for _ in range(CALLS)
            )
            self.sent[customer].update(event.admission.request_id for event in events)
            spent.update((one, spent.get(one, 0) + CALLS) for one in budgets)
            await self._sync(name, incarnation, CustomerPart(customer, events))
        back = tuple(LeaseReport(one, total - spent.get(one, 0), closed=True) for one, total in granted.items())
        await self._sync(name, incarnation, CustomerPart(customer, leases=back))

    async def _sync(self, name: str, incarnation: str, part: CustomerPart) -> None:
        message = SyncRequest(name, incarnation, self._desk.clock.wall_ms(), (part,))
        reply = await self._ask(name, lambda ledger: ledger.sync(message))
        assert [(one.booked, one.error) for one in reply.parts] == [(True, "")]

    async def _ask(self, name: str, ask: Callable[[Ledger], Awaitable[T]]) -> T:
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            ledger = self._ledgers[(next(self._numbers) + self.asked_again) % len(self._ledgers)]
            try:
                answer = await ask(ledger)
                self.answered.add(name)
                return answer
            except LedgerUnavailable:
                assert time.monotonic() < give_up_at, "no ledger answers"
                self.asked_again += 1
                await asyncio.sleep(0.02)


async def kill_ledgers(engine: str, folder: Path, kills: int, seed: int) -> None:
    """Kill one of the ledgers `kills` times under load and start it again; in the end each call is booked, once."""
    chance = random.Random(seed)
    environment = {} if engine == SQLITE else {"SPEND_LEDGER__DATABASE__URL": postgres_url()}
    desk = Desk(folder)
    async with AsyncExitStack() as stack:
        processes = [
            stack.enter_context(running(LedgerProcess(folder / f"ledger-{n}", environment)))
            for n in range(1 if engine == SQLITE else 2)
        ]
        spend = processes[0].spend
        token = processes[0].token("askers").read_text().strip()
        for customer in CUSTOMERS:
            spend("customers", "add", customer, "--wallet", "none")
            spend("budgets", "set", customer, "--limit", "1000", "--per", "lifetime")
        ledgers: list[Ledger] = [
            await stack.enter_async_context(connected(one.ledger, token, follow=False)) for one in processes
        ]
        askers = Askers(ledgers, desk)
        async with asyncio.TaskGroup() as tasks:
            for customer in CUSTOMERS:
                for number in range(ASKERS):
                    tasks.create_task(askers.run(customer, f"{customer}-s{number}"))
            for _ in range(kills):
                askers.answered.clear()
                while len(askers.answered) < len(CUSTOMERS) * ASKERS:  # however slowly it starts, it answers all again
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05 + chance.random() * 0.4)
                victim = chance.choice(processes)
                victim.kill()
                await asyncio.to_thread(victim.start)
            askers.stopping = True
        assert askers.asked_again >= kills
        for customer in CUSTOMERS:
            booked = [row["request_id"] for row in await asyncio.to_thread(processes[-1].usage, customer)]
            assert len(booked) == len(set(booked))
            assert set(booked) == askers.sent[customer]
            assert await asyncio.to_thread(processes[-1].problems, customer) == []
            (budget,) = (await asyncio.to_thread(processes[0].balance, customer))["budgets"]
            (child,) = budget["children"]
            assert (child["used"]["atoms"], child["leased"]["atoms"]) == (len(booked), 0)
    desk.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", [SQLITE, POSTGRES])
async def test_twenty_kills_of_a_ledger(tmp_path: Path, engine: str) -> None:
    """L27, L29, L42, F-10: nothing is booked twice, nothing is lost, nothing stays lent, and the books verify."""
    await kill_ledgers(engine, tmp_path, 20, seed=20261126)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("engine", [SQLITE, POSTGRES])
async def test_three_hundred_kills_of_a_ledger(tmp_path: Path, engine: str, seed: int) -> None:
    """The same, twelve times twenty-five on either engine, with the kills spread otherwise."""
    await kill_ledgers(engine, tmp_path, 25, seed=seed)
