"""One customer's questions read no other's rows: every statement that a customer's token brings about names it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession

from sidecar.core.governance.checked_tokens import digest_of
from sidecar.core.governance.rights import Reach, Right, Role, Scope
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget, NewGrant
from sidecar.ledger.http_access import Access, admin_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_server import serve_admin_api
from sidecar.ports import Row, Transaction
from tests.support.administration import NumberedIds
from tests.support.ledger import Desk

OWNER = admin_token(b"o" * 32)
T = TypeVar("T")

OF_NOBODY = {"meta", "migrations", "incarnations"}
"""Tables whose rows are of no customer."""

BY_ITSELF = {"calls": "request_id", "api_tokens": "token_sha256"}
"""Tables that are also asked by what only its owner knows; what they give is held against the token afterwards."""


class Watched:
    """A transaction that notes what it is asked."""

    def __init__(self, tx: Transaction, seen: list[tuple[str, Sequence[object]]]) -> None:
        self._tx = tx
        self._seen = seen

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows."""
        self._seen.append((sql, parameters))
        return await self._tx.fetch(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


@pytest.fixture
async def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[list[Any], AdminAPI, str]]:
    """Two customers, each with all there is; what is read from here on; and acme's owner's way in."""
    desk = Desk(tmp_path)
    for customer in ("acme", "globex"):
        await desk.service.add_customer(customer, "required", desk.act())
        await desk.service.add_nodes(f"{customer}/team:data", desk.act())
        await desk.service.add_grant(NewGrant(customer, "5"), desk.act())
        await desk.service.set_budget(NewBudget(f"{customer}/team:data", "5", "day", each="user"), desk.act())
        await desk.borrow(Subject(customer), 1, sidecar=f"at-{customer}")
        await desk.sync(desk.event(f"req_{customer}", Subject(customer, user="ada"), 5), sidecar=f"at-{customer}")
    statements: list[tuple[str, Sequence[object]]] = []
    read, read_everyone = desk.book.read, desk.book.read_everyone

    async def watched(customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        assert customer == "acme"
        return await read(customer, lambda tx: work(Watched(tx, statements)))

    async def watched_over_all(work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await read_everyone(lambda tx: work(Watched(tx, statements)))

    monkeypatch.setattr(desk.book, "read", watched)
    monkeypatch.setattr(desk.book, "read_everyone", watched_over_all)
    access = Access(digest_of(OWNER), "owner", Role.ORG_OWNER, Scope("acme"))
    api = AdminAPI(desk.service, [access], NumberedIds(), version="1")
    address, close = await serve_admin_api(api, "127.0.0.1", 0)
    yield statements, api, address
    await close()
    desk.close()


async def test_every_statement_has_its_customer(seen: tuple[list[Any], AdminAPI, str]) -> None:
    """S-32: each read of a customer's table says `customer = ?`, and says acme; and nothing of globex is answered."""
    statements, api, address = seen
    headers = {"Authorization": f"Bearer {OWNER}"}
    asked = 0
    async with ClientSession(headers=headers) as client:
        for route in api.table.routes:
            if route.method != "GET" or route.right in (Right.PUBLIC, Right.ANY) or route.reach is Reach.LEDGER:
                continue
            for request_id in ("req_acme", "req_globex"):
                path = route.pattern.replace("{customer}", "acme").replace("{request_id}", request_id)
                async with client.get(address + path.replace("{budget_id}", "bud_0001")) as answer:
                    text = await answer.text()
                assert answer.status == (404 if "request_id" in route.pattern and "globex" in request_id else 200), path
                assert "globex" not in text.replace("'req_globex'", ""), path
                asked += 1
    assert asked > 20
    assert len(statements) > 30
    wrong = [sql for sql, parameters in statements if not names_its_customer(sql, parameters)]
    assert wrong == []


def names_its_customer(sql: str, parameters: Sequence[object]) -> bool:
    """Whether a statement reads only acme's, or only what is nobody's."""
    tables = set(re.findall(r"(?:FROM|JOIN) (\w+)", sql))
    if tables <= OF_NOBODY:
        return True
    if any(table in tables and f"{column} = ?" in sql for table, column in BY_ITSELF.items()):
        return True
    named = re.search(r"customer (?:= \?|IN \(\?\))", sql) is not None
    return named and "acme" in parameters and "globex" not in parameters
