"""Whether the time of a refusal tells what is there (S-34).

    python -m tests.benchmarks.refusals                # a table, of SQLite and PostgreSQL
    python -m tests.benchmarks.refusals --samples 2000

Of each pair one asks for what exists and is not the asker's, the other for what does not exist; both hear the
same words. They are asked in random order over a real connection. The table has both medians, and how often a
slower one of the two is the one that exists: 50 % is what somebody knows who only guesses. A pair is marked
where that differs from 50 % by more than four standard errors, which chance does to one row in 16,000.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from aiohttp import ClientSession

from sidecar.core.governance.checked_tokens import digest_of
from sidecar.core.governance.rights import Role
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.ledger.administration import NewBudget, NewKey, NewToken
from sidecar.ledger.http_access import admin_access, admin_token, api_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_server import serve_admin_api
from sidecar.ports import Book
from tests.support import postgres
from tests.support.administration import NumberedIds
from tests.support.engines import POSTGRES, SQLITE, book_on
from tests.support.ledger import Desk

CUSTOMER, MANAGER, REVOKED, NOBODY = (api_token(letter * 32) for letter in (b"c", b"m", b"r", b"n"))
ADMIN: Final = admin_token(b"a" * 32)
ERRORS: Final = 4.0
"""Standard errors from 50 % that count as told apart."""

CALLS: Final = 300
"""In one entry: whoever reads one of another's reads them all."""


class Pair(NamedTuple):
    """Two requests whose answers must be alike: method, path or body, and the token."""

    name: str
    token: str
    there: tuple[str, dict[str, str] | None]
    absent: tuple[str, dict[str, str] | None]
    token_absent: str = ""


class Result(NamedTuple):
    """Medians in µs, and the share of comparisons in which what exists took longer."""

    there_us: float
    absent_us: float
    share: float
    error: float

    @property
    def is_told(self) -> bool:
        """Whether a patient asker could tell."""
        return abs(self.share - 0.5) > ERRORS * self.error


def pairs(budget_id: str, key_id: str) -> list[Pair]:
    """All that is asked."""
    absent = "bud_" + "0" * (len(budget_id) - 4)
    return [
        Pair("a revoked token, an unknown one", REVOKED, ("/v1/version", None), ("/v1/version", None), NOBODY),
        Pair("another customer", CUSTOMER, ("/v1/customers/globex", None), ("/v1/customers/nobody", None)),
        Pair("another's balance", CUSTOMER, ("/v1/customers/globex/balance", None),
             ("/v1/customers/nobody/balance", None)),
        Pair("another customer's call", CUSTOMER, ("/v1/requests/req_globex_7", None),
             ("/v1/requests/req_nobody_7", None)),
        Pair("another team's call", MANAGER, ("/v1/requests/req_acme_7", None), ("/v1/requests/req_nobody_7", None)),
        Pair("another team's budget", MANAGER, (f"/v1/customers/acme/budgets/{budget_id}", None),
             (f"/v1/customers/acme/budgets/{absent}", None)),
        Pair("a limit of another team", MANAGER, ("/v1/budgets", {"path": "acme/team:ops", "limit": "1", "per": "day"}),
             ("/v1/budgets", {"path": "acme/team:off", "limit": "1", "per": "day"})),
        Pair("another customer's key", CUSTOMER, ("/v1/keys/revoke", {"customer": "globex", "key_id": key_id}),
             ("/v1/keys/revoke", {"customer": "nobody", "key_id": key_id})),
    ]  # fmt: skip


async def grown(desk: Desk) -> tuple[str, str]:
    """Two customers with calls, budgets, nodes and keys; gives a budget of acme's and a key of globex's."""
    service = desk.service
    for customer in ("acme", "globex"):
        await service.add_customer(customer, "none", desk.act())
        for team in ("data", "ops", *(f"t{number}" for number in range(50))):
            await service.add_nodes(f"{customer}/team:{team}", desk.act())
        subject = Subject(customer, path=(Node("team", "ops"),))
        await desk.borrow(subject, 0, sidecar=f"at-{customer}")
        events = (desk.event(f"req_{customer}_{number}", subject, 5) for number in range(CALLS))
        await desk.sync(*events, sidecar=f"at-{customer}")
    budget = await service.set_budget(NewBudget("acme/team:ops", "5", "day"), desk.act())
    key = await service.add_key(NewKey("globex", sha256(b"key").hexdigest()), desk.act())
    for name, role, path, token in (
        ("owner", Role.ORG_OWNER, "acme", CUSTOMER),
        ("manager", Role.TEAM_MANAGER, "acme/team:data", MANAGER),
        ("gone", Role.AUDITOR, "acme", REVOKED),
    ):
        await service.make_token(NewToken(name, role, digest_of(token).hex(), path), desk.act())
    await service.revoke_token("acme", "gone", desk.act())
    return budget.budget_id, key.key_id


async def measured(book: Book, samples: int) -> list[tuple[str, Result]]:
    """Every pair on one book."""
    desk = Desk(book)
    budget_id, key_id = await grown(desk)
    ticks = 0.0

    def monotonic() -> float:
        nonlocal ticks
        ticks += 60.0  # so that nothing is limited or remembered: each request is decided by the book
        return ticks

    api = AdminAPI(desk.service, [admin_access(ADMIN)], NumberedIds(), version="1", monotonic=monotonic)
    address, close = await serve_admin_api(api, "127.0.0.1", 0)
    found: list[tuple[str, Result]] = []
    async with ClientSession() as client:
        for pair in pairs(budget_id, key_id):

            async def there(pair: Pair = pair) -> float:
                return await timed(client, address, pair.token, *pair.there)

            async def absent(pair: Pair = pair) -> float:
                return await timed(client, address, pair.token_absent or pair.token, *pair.absent)

            found.append((pair.name, await compared(there, absent, samples)))
    await close()
    return found


async def timed(client: ClientSession, address: str, token: str, path: str, body: dict[str, str] | None) -> float:
    """How long one refusal takes, in µs.

    Raises:
        RuntimeError: it was none of what both of a pair hear.
    """
    headers = {"Authorization": f"Bearer {token}"}
    method = "GET" if body is None else "POST"
    started = time.perf_counter()
    async with client.request(method, address + path, headers=headers, json=body) as answer:
        text = await answer.text()
    took = time.perf_counter() - started
    if answer.status not in (401, 404):
        raise RuntimeError(f"{path}: {answer.status} {text}")
    return took * 1e6


async def compared(
    there: Callable[[], Awaitable[float]], absent: Callable[[], Awaitable[float]], samples: int
) -> Result:
    """Ask both so often, in random order, after some for practice."""
    order = random.Random(34)
    turns = [True, False] * samples
    order.shuffle(turns)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number, which in enumerate([True, False] * 20 + turns):
        took = await (there() if which else absent())
        if number >= 40:
            taken[which].append(took)
    return result_of(taken[True], taken[False])


def result_of(there: list[float], absent: list[float]) -> Result:
    """How well the two can be told apart: the share is Mann and Whitney's U over the number of pairs."""
    ranked = sorted([(took, True) for took in there] + [(took, False) for took in absent])
    ranks = sum(rank for rank, (_, is_there) in enumerate(ranked, start=1) if is_there)
    n, m = len(there), len(absent)
    share = (ranks - n * (n + 1) / 2) / (n * m)
    return Result(median(there), median(absent), share, sqrt((n + m + 1) / (12 * n * m)))


async def main(samples: int) -> None:
    """Print the table."""
    engines = [SQLITE] + ([POSTGRES] if postgres.binaries() is not None else [])
    print(f"{'engine':<11} {'asked for':<34} {'there µs':>9} {'absent µs':>9} {'slower is there':>16}")
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            async with book_on(engine, Path(folder)) as book:
                for name, one in await measured(book, samples):
                    told = "  TOLD APART" if one.is_told else ""
                    print(
                        f"{engine:<11} {name:<34} {one.there_us:>9.0f} {one.absent_us:>9.0f}"
                        f" {100 * one.share:>9.1f} ± {100 * ERRORS * one.error:.1f} %{told}"
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    asyncio.run(main(parser.parse_args().samples))
