"""How often the ledger's API may be asked, and how long tokens may be guessed at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession

from sidecar.core.governance.checked_tokens import digest_of
from sidecar.core.governance.rights import Role, Scope
from sidecar.ledger import http_access, http_gate, http_limits
from sidecar.ledger.administration import Act, KnownToken, NewToken
from sidecar.ledger.http_access import Door, admin_access, admin_token, api_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_limits import Buckets
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_server import serve_admin_api
from tests.support.administration import FakeAdministration, NumberedIds
from tests.support.clock import FakeClock

ADMIN = admin_token(b"a" * 32)
BOOKED = api_token(b"b" * 32)
OTHER = api_token(b"c" * 32)


def test_a_bucket_is_emptied_and_fills_again() -> None:
    """A burst at once, then the rate; a refused request takes nothing; others are not concerned."""
    clock = FakeClock()
    buckets = Buckets(2.0, 3, clock.monotonic)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert buckets.take("b") == 0
    clock.advance(0.5)
    assert buckets.wait_s("a") == 0
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.advance(3600)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_costs_more_is_asked_less_often() -> None:
    """One that counts as ten takes ten; where less is left it waits, and nothing is taken."""
    now = [0.0]
    buckets = Buckets(10.0, 25, lambda: now[0])
    assert [buckets.take("a", 10.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert buckets.take("a") == 0.0
    now[0] = 0.6
    assert buckets.take("a", 10.0) == 0.0


def test_sums_and_whole_books_cost_more_than_a_row() -> None:
    """A page of sums reads a thousand calls: of one token some in a second, and not hundreds."""
    api = AdminAPI(FakeAdministration(), [], NumberedIds(), version="1", monotonic=FakeClock().monotonic)
    costs = {route.pattern: route.cost for route in api.table.routes if route.cost != 1.0}
    assert costs == {
        "/v1/usage/sums": http_limits.SUMS_COST,
        "/v1/customers/{customer}/verify": http_limits.VERIFY_COST,
    }
    assert http_gate.REQUESTS_PER_S / http_limits.SUMS_COST <= 25


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, so many are remembered; who asked last is."""
    monkeypatch.setattr(http_limits, "MAX_BUCKETS", 10)
    buckets = Buckets(1.0, 1, FakeClock().monotonic)
    for number in range(1000):
        buckets.take(number)
    assert len(buckets) == 10
    assert buckets.take(999) > 0


class Book:
    """What a door asks, and how often it does."""

    def __init__(self) -> None:
        self.good = {digest_of(BOOKED): KnownToken("ci", Role.ORG_OWNER, Scope("acme"))}
        self.asked = 0

    async def find(self, digest: bytes) -> KnownToken | None:
        """As it is now."""
        self.asked += 1
        return self.good.get(digest)


async def refusal(door: Door, token: str, address: str = "10.0.0.1") -> str:
    """The code with which a token is refused; `` where it opens."""
    try:
        await door.open([f"Bearer {token}"], address)
    except RequestRefused as refused:
        return refused.code
    return ""


async def test_the_book_is_believed_for_less_than_a_second() -> None:
    """S-13: asked once for many requests, and again in time for a token that was revoked."""
    book, clock = Book(), FakeClock()
    door = Door([admin_access(ADMIN)], book.find, clock.monotonic)
    for _ in range(100):
        assert await refusal(door, BOOKED) == ""
    assert book.asked == 1
    book.good.clear()
    assert http_access.TOKENS_BELIEVED_S < 1
    clock.advance(http_access.TOKENS_BELIEVED_S + 0.01)
    assert await refusal(door, BOOKED) == "unauthenticated"
    assert await refusal(door, ADMIN) == ""


async def test_guesses_are_counted_by_address() -> None:
    """B-A29: after some the book is not asked; who is known is let in; one guess a second is heard."""
    book, clock = Book(), FakeClock()
    door = Door([admin_access(ADMIN)], book.find, clock.monotonic)
    assert await refusal(door, BOOKED) == ""
    codes = [await refusal(door, api_token(number.to_bytes(32, "big"))) for number in range(1000)]
    assert codes == ["unauthenticated"] * http_access.GUESSES_AT_ONCE + ["rate_limited"] * (
        1000 - http_access.GUESSES_AT_ONCE
    )
    assert book.asked == 1 + http_access.GUESSES_AT_ONCE
    assert await refusal(door, ADMIN) == ""
    clock.advance(0.9)  # what the book said has to be asked for again
    assert await refusal(door, BOOKED) == ""
    assert await refusal(door, OTHER, "10.0.0.2") == "unauthenticated"
    clock.advance(0.1)
    assert [await refusal(door, OTHER) for _ in range(2)] == ["unauthenticated", "rate_limited"]


async def test_one_household_has_one_address() -> None:
    """Of IPv6 a /64 counts as one: it has more addresses than anybody could remember."""
    door = Door([], Book().find, FakeClock().monotonic)
    codes = [await refusal(door, "x", f"2001:db8::{number:x}") for number in range(1, 40)]
    assert codes.count("rate_limited") == 39 - http_access.GUESSES_AT_ONCE
    assert await refusal(door, "x", "2001:db8:0:1::1") == "unauthenticated"


async def test_what_cannot_be_a_token_does_not_reach_the_book() -> None:
    """Its checksum tells: the book's time is not spent on it."""
    book = Book()
    door = Door([], book.find, FakeClock().monotonic)
    for token in ("x", BOOKED[:-1] + "?", "' OR 1=1", ADMIN):
        assert await refusal(door, token) == "unauthenticated"
    assert book.asked == 0


@dataclass
class Served:
    """An API on a clock of its own."""

    address: str
    clock: FakeClock
    client: ClientSession

    async def version(self, token: str) -> tuple[int, str]:
        """Status, and Retry-After."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.get(f"{self.address}/v1/version", headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Retry-After", "")


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Five requests at once, one in two seconds."""
    monkeypatch.setattr(http_gate, "REQUESTS_PER_S", 0.5)
    monkeypatch.setattr(http_gate, "REQUESTS_AT_ONCE", 5)
    clock, administration = FakeClock(), FakeAdministration()
    await administration.make_token(NewToken("ci", "auditor", digest_of(BOOKED).hex()), Act("ada", "k"))
    api = AdminAPI(administration, [admin_access(ADMIN)], NumberedIds(), version="1", monotonic=clock.monotonic)
    address, close = await serve_admin_api(api, "127.0.0.1", 0)
    async with ClientSession() as client:
        yield Served(address, clock, client)
    await close()


async def test_one_token_does_not_take_every_place(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-35: requests that wait for their bodies are bounded by token; one more is 429, another token is answered."""
    monkeypatch.setattr(http_gate, "MAX_OF_ONE_TOKEN", 2)
    host, port = served.address.removeprefix("http://").split(":")
    head = f"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: 9\r\n"
    slow = []
    for _ in range(2):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        slow.append(writer)
    async with asyncio.timeout(10):
        while (await served.version(ADMIN))[0] == 200:
            served.clock.advance(10)
            await asyncio.sleep(0.01)
    assert await served.version(ADMIN) == (429, "1")
    assert await served.version(BOOKED) == (200, "")
    for writer in slow:
        writer.close()
    async with asyncio.timeout(10):
        while (await served.version(ADMIN))[0] == 429:
            served.clock.advance(10)
            await asyncio.sleep(0.01)


async def test_one_token_that_asks_too_often_waits_and_others_do_not(served: Served) -> None:
    """S-35: 429 with Retry-After for the one; the other is answered meanwhile, and the one after a while."""
    answers = [await served.version(BOOKED) for _ in range(7)]
    assert answers == [(200, "")] * 5 + [(429, "2")] * 2
    assert await served.version(ADMIN) == (200, "")
    served.clock.advance(2)
    assert [await served.version(BOOKED) for _ in range(2)] == [(200, ""), (429, "2")]
