"""An engine that fails at any statement: whoever was not answered asks again, and everything stands once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ledger.administration import Act, NewBudget, NewGrant
from tests.support.engines import POSTGRES, SQLITE
from tests.support.faulty_books import AFTER, BEFORE, CONTENTION, Fuse, faulty_book
from tests.support.ledger import Desk, usd

T = TypeVar("T")
ASKS = 3


async def asked_again(ask: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
    """What comes of asking until there is an answer, and whether the first one came."""
    for tries in range(ASKS):
        try:
            return await ask(), tries == 0
        except LedgerUnavailable:
            continue
    raise AssertionError("one fault, and no answer to a second question")


async def one_story(desk: Desk, customer: str) -> tuple[list[object], int]:
    """A customer's life, each question with its own key: what stands in the end, and how often one was asked again."""
    subject = Subject(customer, user="ada")
    again = 0

    async def do(ask: Callable[[], Awaitable[T]]) -> T:
        nonlocal again
        answer, at_once = await asked_again(ask)
        again += not at_once
        return answer

    def act(key: str) -> Act:
        return Act("ada@example.com", f"{customer}-{key}")

    service = desk.service
    await do(lambda: service.add_customer(customer, "required", act("customer")))
    await do(lambda: service.add_nodes(f"{customer}/team:data", act("nodes")))
    await do(lambda: service.add_grant(NewGrant(customer, usd(50)), act("first")))
    await do(lambda: service.add_grant(NewGrant(customer, usd(500)), act("second")))
    form = NewBudget(customer, usd(400), "day", each="user")
    await do(lambda: service.set_budget(form, act("budget")))
    reply = await do(lambda: desk.borrow(subject, 100, sidecar=customer))
    leases = {lease.lease_id: lease.granted_atoms for lease in reply.leases}
    budget = next(one for one in leases if "/budget:" in one)
    paying = next(one for one in leases if "/grant:" in one)
    events = [desk.event(f"{customer}-{n}", subject, 7, leases=(budget,), paid=((paying, 7),)) for n in range(3)]
    await do(lambda: desk.sync(*events, sidecar=customer))
    spent = {budget: 21, paying: 21}
    reports = tuple(LeaseReport(one, total - spent.get(one, 0), closed=True) for one, total in leases.items())
    await do(lambda: desk.sync(events[0], reports=reports, sidecar=customer))
    return await standing(desk, customer), again


async def standing(desk: Desk, customer: str) -> list[object]:
    """What a customer's book says, but for names and for what was lent and given back on the way."""
    assert await desk.problems(customer) == ()
    entries, _ = await desk.service.entries(customer, after=0, kind="", limit=1000)
    kinds = Counter(entry.kind for entry in entries)
    balance = await desk.service.balance(customer)
    calls, _ = await desk.service.usage(customer=customer, since_ms=0, after="", limit=99)
    return [
        sorted((kind, count) for kind, count in kinds.items() if kind != "lent"),
        [(one.issued.atoms, one.available.atoms, one.leased.atoms, one.consumed.atoms) for one in balance.grants],
        [(c.used.atoms, c.leased.atoms, c.remaining.atoms) for one in balance.budgets for c in one.children],
        [call.request_id.removeprefix(customer) for call in calls],
    ]


@pytest.mark.parametrize(
    ("engine", "when"),
    [(SQLITE, BEFORE), (SQLITE, AFTER), (POSTGRES, BEFORE), (POSTGRES, AFTER), (POSTGRES, CONTENTION)],
)
async def test_a_fault_at_any_statement_leaves_each_effect_once(tmp_path: Path, engine: str, when: str) -> None:
    """L27, L29, F-10: at every statement of a story, COMMIT among them: asked again with its key, all stands once."""
    fuse = Fuse()
    async with faulty_book(engine, tmp_path, fuse, when) as book:
        desk = Desk(book)
        expected, again = await one_story(desk, "calm")
        assert again == 0
        statement, asked, burned = 0, 0, Counter[str]()
        while True:
            statement += 1
            fuse.set(statement)
            found, again = await one_story(desk, f"c{statement}")
            assert found == expected, (statement, fuse.burned)
            if not fuse.burned:  # the story has no such statement
                break
            asked += again
            burned[fuse.burned] += 1
        assert statement > 60
        # SQLite's writer commits what waits together, now and then more of it: so some commits are passed over.
        assert burned["COMMIT"] >= (5 if engine == SQLITE else 8)
        if engine == POSTGRES:  # what surely did not happen is tried again without asking anybody
            assert asked == {BEFORE: burned["COMMIT"], AFTER: burned["COMMIT"], CONTENTION: 0}[when]


@pytest.mark.parametrize(
    ("engine", "when"), [(SQLITE, BEFORE), (POSTGRES, BEFORE), (POSTGRES, AFTER), (POSTGRES, CONTENTION)]
)
async def test_a_fault_in_what_several_share_leaves_each_effect_once(tmp_path: Path, engine: str, when: str) -> None:
    """L27, L29, F-10: three customers' stories at the same time, in shared transactions; at one statement in nine."""
    fuse = Fuse()
    async with faulty_book(engine, tmp_path, fuse, when) as book:
        desk = Desk(book)
        expected, _ = await one_story(desk, "calm")
        statement, burned = 1, Counter[str]()
        while True:
            fuse.set(statement)
            names = [f"c{statement}-{n}" for n in range(3)]
            stories = await asyncio.gather(*(one_story(desk, name) for name in names))
            assert [found for found, _ in stories] == [expected] * 3, (statement, fuse.burned)
            if not fuse.burned:
                break
            burned[fuse.burned] += 1
            statement += 9
        assert statement > 60
        assert set(burned) >= {"SELECT", "INSERT"}
