"""Resolves that share a transaction are answered as they would be one after another, to the atom."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.contract.messages import RegisterRequest, ResolveRequest
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.errors import SidecarError
from sidecar.ledger.administration import NewBudget, NewGrant, NodeAct
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.resolving import Answer, resolve
from sidecar.ports import Transaction
from tests.support.ledger import Desk, usd

OPTIONS = LedgerOptions(max_new_children_per_hour=3)
SIDECARS = [*(f"s{n}" for n in range(6)), "never-registered"]
PATHS = ["", "team:data", "region:a/team:data", "team:ice", "team:nobody-knows"]

requests = st.builds(
    lambda sidecar, path, user, session, model, currency, need, demand, ahead: ResolveRequest(
        sidecar,
        f"{sidecar}-inc",
        Subject("acme", parse_path(path), user=user, session=session),
        model,
        "openai",
        need,
        currency,
        demand,
        next_period=ahead,
    ),
    sidecar=st.sampled_from(SIDECARS),
    path=st.sampled_from(PATHS),
    user=st.sampled_from(["", "ada", "bob", "eve"]),
    session=st.sampled_from(["", "j1", "j2"]),
    model=st.sampled_from(["gpt-4o", "claude"]),
    currency=st.sampled_from(["usd", "usd", "usd", "points"]),
    need=st.one_of(st.integers(1, 4), st.integers(0, 60)),
    demand=st.integers(0, 200),
    ahead=st.sampled_from([False, False, False, True]),
)


async def set_up(desk: Desk, wallet: str) -> None:
    """A customer with a tree, a frozen team, tight budgets and, with a wallet, grants of which one ends soon."""
    service, clock = desk.service, desk.clock
    await service.add_customer("acme", wallet, desk.act())
    await service.add_nodes("acme/region:a/team:data", desk.act())
    await service.add_nodes("acme/team:ice", desk.act())
    now = clock.wall_ms()
    for amount, lasts_ms, models in ((40, 1000, ()), (150, 10**9, ("gpt*",)), (900, None, ())):
        end = None if lasts_ms is None else now + lasts_ms
        await service.add_grant(NewGrant("acme", usd(amount), expires_at_ms=end, models=models), desk.act())
    for path, limit, per, each, hard in (
        ("acme", 900, "month", "", True),
        ("acme", 90, "day", "user", True),
        ("acme", 70, "lifetime", "session", True),
        ("acme/region:a", 150, "month", "", True),
        ("acme/team:data", 40, "day", "", False),
        ("acme/user:ada", 60, "hour", "", True),
    ):
        await service.set_budget(NewBudget(path, usd(limit), per, each=each, hard=hard), desk.act())
    await service.freeze(NodeAct("acme/team:ice", "a test"), desk.act())
    for sidecar in SIDECARS[:-1]:
        await service.register(RegisterRequest(sidecar, f"{sidecar}-inc"))


async def answers(folder: Path, wallet: str, asked: list[list[ResolveRequest]], *, together: bool) -> list[object]:
    """What some crowds are answered, with two seconds between them, and what the book says after each."""
    desk = Desk(folder, OPTIONS)
    found: list[object] = []
    try:
        await set_up(desk, wallet)
        for crowd in asked:
            for some in [crowd] if together else [[one] for one in crowd]:
                found += map(plain, await desk.book.transact("acme", partial(crowded, some, desk.clock.wall_ms())))
            found.append(msgspec.to_builtins(await desk.service.balance("acme")))
            assert await desk.problems() == ()
            desk.clock.advance(2)
    finally:
        desk.close()
    return found


async def crowded(some: list[ResolveRequest], now_ms: int, tx: Transaction) -> list[Answer]:
    """A crowd in one transaction."""
    return await resolve(tx, some, now_ms, OPTIONS)


def plain(answer: Answer) -> object:
    """All of an answer."""
    return str(answer) if isinstance(answer, SidecarError) else msgspec.to_builtins(answer)


@settings(max_examples=60)
@given(
    wallet=st.sampled_from(["required", "none"]),
    asked=st.lists(st.lists(requests, min_size=1, max_size=12), min_size=1, max_size=3),
)
def test_a_crowd_is_answered_as_one_by_one(wallet: str, asked: list[list[ResolveRequest]]) -> None:
    """L21, L33, L39, L44: the same leases, sizes, readings, recalls and refusals, and the same balances."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        apart = asyncio.run(answers(Path(one), wallet, asked, together=False))
        assert asyncio.run(answers(Path(other), wallet, asked, together=True)) == apart
