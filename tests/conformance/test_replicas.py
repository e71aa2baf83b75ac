"""Several ledgers on one database: together they are one ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Literal

import pytest

from sidecar.contract.messages import Change, RegisterRequest, SyncRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import IdempotencyConflict, StaleIncarnation
from sidecar.ledger.administration import Act, NewBudget, NewGrant
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from tests.support.engines import postgres_url
from tests.support.ledger import Desk, usd

ACME = Subject("acme")
Pair = tuple[Desk, Desk]


@pytest.fixture(params=["read_committed", "serializable"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Two ledgers, each with its own connections, on one empty database."""
    isolation: Literal["read_committed", "serializable"] = request.param
    options = DatabaseOptions(postgres_url(), isolation=isolation)
    async with AsyncExitStack() as stack:
        desks = []
        for _ in range(2):
            book = await open_postgres(options)
            stack.push_async_callback(book.close)
            desks.append(Desk(book))
        yield desks[0], desks[1]


async def test_of_a_hundred_at_once_on_two_ledgers_five_pass(pair: Pair) -> None:
    """L39: room for five; a hundred that ask at once, half of them here and half there. A giant takes nothing."""
    await pair[0].service.add_customer("acme", "none", pair[0].act())
    await pair[0].service.set_budget(NewBudget("acme", usd(50), "month"), pair[0].act())
    await pair[1].borrow(ACME, 1000, sidecar="giant")
    replies = await asyncio.gather(*(pair[n % 2].borrow(ACME, 10, sidecar=f"s{n}") for n in range(100)))
    assert sum(bool(reply.leases) for reply in replies) == 5
    assert await pair[0].problems() == await pair[1].problems() == ()
    assert (await pair[1].service.budgets("acme"))[0].children[0].leased.atoms == 50


async def test_a_child_seen_first_on_two_ledgers_gets_its_budget_once(pair: Pair) -> None:
    """L33: two sidecars see a session first at the same instant, and admit no more than its budget between them."""
    await pair[0].service.add_customer("acme", "none", pair[0].act())
    await pair[0].service.set_budget(NewBudget("acme", usd(10), "lifetime", each="session"), pair[0].act())
    for job in range(10):
        subject = Subject("acme", session=f"job-{job}")
        replies = await asyncio.gather(*(one.borrow(subject, 10, sidecar=f"s{n}") for n, one in enumerate(pair)))
        assert sum(bool(reply.leases) for reply in replies) == 1
    assert await pair[0].problems() == ()


async def test_one_key_on_two_ledgers_is_one_act(pair: Pair) -> None:
    """L27: asked of both at once it is done once, and both give the same answer; with other contents it is refused."""
    act = Act("ada@example.com", "the-key")
    made = await asyncio.gather(*(one.service.add_customer("acme", "required", act) for one in pair))
    assert made[0] == made[1]
    views = await asyncio.gather(*(pair[n % 2].service.add_grant(NewGrant("acme", usd(5)), act) for n in range(8)))
    assert len({view.grant_id for view in views}) == 1
    assert len(await pair[1].service.grants("acme")) == 1
    with pytest.raises(IdempotencyConflict):
        await pair[1].service.add_grant(NewGrant("acme", usd(6)), act)


async def test_a_call_that_comes_to_both_ledgers_is_booked_once(pair: Pair) -> None:
    """L29: the same events at both at once, some of them twice."""
    await pair[0].service.add_customer("acme", "none", pair[0].act())
    events = [pair[0].event(f"r{n}", ACME, 1) for n in range(20)]
    await asyncio.gather(*(pair[n % 2].sync(*events[n : n + 10]) for n in range(11)))
    calls, _ = await pair[0].service.usage(customer="acme", since_ms=0, after="", limit=99)
    assert sorted(call.request_id for call in calls) == sorted(event.admission.request_id for event in events)
    assert await pair[1].problems() == ()


async def test_what_ends_at_one_ledger_borrows_nothing_at_the_other(pair: Pair) -> None:
    """L43: however lending and the end fall together, an incarnation whose calls are booked keeps nothing."""
    await pair[0].service.add_customer("acme", "none", pair[0].act())
    await pair[0].service.set_budget(NewBudget("acme", usd(1000), "month"), pair[0].act())
    for n in range(20):
        name = f"s{n}"
        await pair[0].service.register(RegisterRequest(name, f"{name}-inc"))
        ended = SyncRequest(name, f"{name}-inc", 0, ended=True, all_booked=True)
        lent = [pair[1].ledger.resolve(pair[1].request(ACME, 10, sidecar=name)) for _ in range(3)]
        outcomes = await asyncio.gather(*lent, pair[0].ledger.sync(ended), return_exceptions=True)
        assert all(not isinstance(one, Exception) or isinstance(one, StaleIncarnation) for one in outcomes)
        (child,) = (await pair[1].service.budgets("acme"))[0].children or [None]
        assert child is None or child.leased.atoms == 0
        with pytest.raises(StaleIncarnation):
            await pair[1].ledger.resolve(pair[1].request(ACME, 10, sidecar=name))


async def test_a_change_at_one_ledger_is_heard_at_the_other(pair: Pair) -> None:
    """L35: by looking into the book, each change once."""
    heard: list[Change] = []
    pair[1].service.subscribe(heard.append)
    watch = pair[1].service.watch(pair[1].clock.monotonic)
    await watch.look_once()
    await pair[0].service.add_customer("acme", "none", pair[0].act())
    await watch.look_once()
    await pair[0].service.set_budget(NewBudget("acme", usd(1), "day"), pair[0].act())
    await watch.look_once()
    await watch.look_once()
    assert [change.customer for change in heard] == ["acme", "acme"]


async def test_a_sidecar_let_in_at_one_ledger_is_let_in_at_the_other(pair: Pair) -> None:
    """Tokens stand in the book, as their hashes."""
    await pair[0].service.set_sidecar_token("checkout", "ab" * 32, pair[0].act())
    assert await pair[1].service.token_digests() == {b"\xab" * 32: "checkout"}
    await pair[1].service.revoke_sidecar_token("checkout", pair[1].act())
    assert await pair[0].service.token_digests() == {}


async def test_what_each_ledger_heard_is_counted_in_one_place(pair: Pair) -> None:
    """L50a: one history, and a sidecar's messages counted over both."""
    first = await pair[0].ledger.register(RegisterRequest("s1", "s1-inc"))
    replies = await asyncio.gather(*(pair[n % 2].ledger.sync(SyncRequest("s1", "s1-inc", 0)) for n in range(10)))
    assert {reply.history_id for reply in replies} == {first.history_id}
    assert sorted(reply.heard for reply in replies) == list(range(2, 12))
