"""The contract over HTTP: who is let in, what is refused and how, and that no change is lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidecar.contract import messages
from sidecar.contract.codec import MAX_MESSAGE_BYTES, decode, encode
from sidecar.contract.messages import (
    Change,
    ChangesRequest,
    Refusal,
    RegisterReply,
    RegisterRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    SyncRequest,
)
from sidecar.core.credits.checkpoints import MAX_LINE_BYTES
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable, StaleIncarnation, WireFormatError
from sidecar.ledger import http_client, http_contract, http_server
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.service import LedgerService
from tests.support.http_ledger import TOKEN, connected, served
from tests.support.ledger import RATES, Desk

REGISTER = RegisterRequest("s1", "s1-inc")
ACME = Subject("acme")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A ledger with one customer and one budget."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    await set_limit(desk, "1")
    yield desk
    desk.close()


async def set_limit(desk: Desk, limit: str) -> None:
    """The customer's one budget."""
    await desk.service.set_budget(NewBudget("acme", limit, "day"), desk.act())


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def post(
    address: str, name: str, body: bytes, *, token: str = TOKEN, method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    """One raw request."""
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/msgpack", **headers}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{address}/contract/v1/{name}", data=BytesIO(body), headers=sent) as response,
    ):
        return response.status, await response.read()


async def refused(address: str, name: str, body: bytes, **how: Any) -> tuple[int, str]:
    """The status and the code of a refusal."""
    status, text = await post(address, name, body, **how)
    return status, decode(text, Refusal).code


async def test_every_refusal_has_a_status_and_a_code(desk: Desk) -> None:
    """Bad bytes, bad paths, bad tokens: one small message each, and nothing of what was sent in it."""
    good = encode(REGISTER)
    async with served(desk.service) as address:
        assert (await post(address, "register", good))[0] == 200
        assert await refused(address, "register", good, token="") == (401, "unauthenticated")
        assert await refused(address, "register", good, token=TOKEN[:-1]) == (401, "unauthenticated")
        assert await refused(address, "nothing", good) == (404, "not_found")
        assert await refused(address, "register/", good) == (404, "not_found")
        assert await refused(address, "register", good, method="PUT") == (405, "method_not_allowed")
        assert await refused(address, "register", b"\xc1secret") == (400, "malformed_message")
        assert await refused(address, "register", good + b"\0") == (400, "malformed_message")
        assert await refused(address, "sync", good) == (400, "malformed_message")
        assert await refused(address, "register", good, **{"Content-Type": "text/plain"}) == (400, "malformed_message")
        long = b"\0" * (MAX_MESSAGE_BYTES + 1)
        assert await refused(address, "sync", long) == (413, "message_too_large")
        other = encode(msgspec.structs.replace(REGISTER, version=99))
        status, text = await post(address, "register", other)
        refusal = decode(text, Refusal)
        assert (status, refusal.code, refusal.version) == (400, "unknown_version", 1)
        assert "99" in refusal.detail
        assert "secret" not in (await post(address, "register", b"\xc1secret"))[1].decode("latin-1")


async def test_a_sidecars_token_opens_the_contract_alone(desk: Desk) -> None:
    """The administrator's paths do not know it."""
    async with served(desk.service) as address, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.get(f"{address}/v1/customers", headers=headers) as response:
            assert response.status == 401


async def test_a_revoked_token_is_out_within_a_second(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """For the next message, and on the stream that is open; said once, however often it knocks."""
    async with served(desk.service) as address, connected(address) as ledger:
        await ledger.register(REGISTER)
        await desk.service.revoke_sidecar_token("tests", desk.act())
        await until(lambda: not ledger.hears_changes)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="unauthenticated"):
                await ledger.register(REGISTER)
        assert caplog.text.count("ledger_refuses_token") == 1
        await desk.service.set_sidecar_token("tests", hashlib.sha256(TOKEN.encode()).hexdigest(), desk.act())
        await until(lambda: ledger.hears_changes)


async def test_an_unknown_field_is_passed_over(desk: Desk) -> None:
    """A newer peer may add some, to questions and to answers."""
    body = msgspec.msgpack.encode(msgspec.to_builtins(REGISTER) | {"colour": "blue"})
    async with served(desk.service) as address:
        status, text = await post(address, "register", body)
    assert status == 200
    assert decode(msgspec.msgpack.encode(msgspec.msgpack.decode(text) | {"colour": 1}), RegisterReply).history_id


async def test_one_version_apart_is_understood_both_ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old sidecar and new ledger: answered in its own version. New sidecar and old ledger: it changes to that one."""
    async with served(desk.service) as address:
        monkeypatch.setattr(messages, "VERSION", 2)
        status, text = await post(address, "register", encode(REGISTER))
        assert (status, decode(text, RegisterReply).version) == (200, 1)
        status, text = await post(address, "register", encode(msgspec.structs.replace(REGISTER, version=2)))
        assert (status, decode(text, RegisterReply).version) == (200, 2)
        monkeypatch.setattr(messages, "OLDEST_VERSION", 2)
        assert await refused(address, "register", encode(REGISTER)) == (400, "unknown_version")


async def test_a_new_sidecar_changes_to_an_old_ledgers_version(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears both versions named, once; its next question is in the old one."""
    spoken: list[int] = []

    async def old(request: SyncRequest) -> SyncReply:
        spoken.append(request.version)
        if request.version != 1:
            monkeypatch.setattr(messages, "VERSION", 1)
            try:
                return await really(request)
            finally:
                monkeypatch.setattr(messages, "VERSION", 2)
        return await really(request)

    really = desk.service.sync
    monkeypatch.setattr(desk.service, "sync", old)

    def refusal_of_old(code: str, detail: str, retry_after_ms: int = 0) -> Refusal:
        return Refusal(code, detail, retry_after_ms, version=1)

    monkeypatch.setattr("sidecar.ledger.http_contract.Refusal", refusal_of_old)
    async with served(desk.service) as address:
        monkeypatch.setattr(messages, "VERSION", 2)
        async with connected(address, follow=False) as ledger:
            await ledger.register(msgspec.structs.replace(REGISTER, version=2))
            request = SyncRequest("s1", "s1-inc", 0, version=2)
            with pytest.raises(LedgerUnavailable, match="version 1"):
                await ledger.sync(request)
            assert (await ledger.sync(request)).history_id
    assert spoken == [2, 1]


async def test_a_ledger_that_is_not_there_is_unavailable(desk: Desk) -> None:
    """Nothing listens, or something that is no ledger does."""
    async with served(desk.service) as address:
        pass
    async with connected(address, follow=False) as ledger:
        with pytest.raises(LedgerUnavailable, match="no answer"):
            await ledger.register(REGISTER)

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server, connected(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", follow=False) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.register(REGISTER)


async def test_nothing_is_retried_unasked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question, one request, also where its answer is lost."""
    asked = 0

    async def broken(_request: ResolveRequest) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionResetError

    monkeypatch.setattr(desk.service, "resolve", broken)
    async with served(desk.service) as address, connected(address, follow=False) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.resolve(desk.request(ACME, 1))
    assert asked == 1


async def test_what_the_ledger_says_no_to_keeps_its_kind(desk: Desk) -> None:
    """An incarnation that is not known, and a message out of bounds."""
    async with served(desk.service) as address, connected(address, follow=False) as ledger:
        with pytest.raises(StaleIncarnation):
            await ledger.resolve(desk.request(ACME, 1))
        with pytest.raises(WireFormatError, match="below zero"):
            await ledger.resolve(desk.request(ACME, -1))


async def test_a_change_while_nobody_was_connected_is_told_at_once(desk: Desk) -> None:
    """L35: the next stream begins with what was missed, also from a ledger that has started anew since."""
    heard: list[Change] = []
    async with AsyncExitStack() as stack:
        async with served(desk.service) as address:
            ledger = await stack.enter_async_context(connected(address))
            ledger.subscribe(heard.append)
            await ledger.register(REGISTER)
            reply = await ledger.resolve(desk.request(ACME, 0))
        assert reply.standing is not None
        await until(lambda: not ledger.hears_changes)
        await set_limit(desk, "0.5")
        assert heard == []
        anew = LedgerService(desk.book, desk.clock, desk.ids, RATES, LedgerOptions())
        async with served(anew, int(address.rpartition(":")[2])):
            await until(lambda: len(heard) == 1)
    assert heard[0].customer == "acme"
    assert heard[0].revision > reply.standing.revision


async def test_checkpoints_go_to_who_asked_for_them(desk: Desk) -> None:
    """L8: those of before it connected too; a sidecar that does not know them hears of changes alone."""
    tell: list[Callable[[str], None]] = []
    kept: list[str] = []
    heard: list[Change] = []
    longest = "x" * MAX_LINE_BYTES
    async with served(desk.service, checkpoints=tell) as address:
        tell[0]("before")
        async with connected(address, keep=kept.append) as witness, connected(address) as older:
            for ledger in (witness, older):
                ledger.subscribe(heard.append)
            tell[0](longest)
            await until(lambda: len(kept) == 2)
            await set_limit(desk, "0.5")
            await until(lambda: len(heard) == 2)
    assert kept == ["before", longest]
    assert [(change.customer, change.checkpoint) for change in heard] == [("acme", "")] * 2


async def test_a_book_that_has_become_another_is_told_to_who_asked_for_it(desk: Desk) -> None:
    """L50a: to sidecars with nothing to say too, by the process that learned of it and by another; and at a start."""
    heard: dict[str, list[Change]] = {"here": [], "there": [], "later": [], "older": []}
    other = LedgerService(desk.book, desk.clock, desk.ids, RATES, LedgerOptions())
    watch = other.watch(desk.clock.monotonic)
    before = (await desk.service.register(REGISTER)).history_id
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(served(desk.service))
        ledgers = {"here": here, "there": await stack.enter_async_context(served(other))}
        for name, address in ledgers.items():
            ledger = await stack.enter_async_context(connected(address))
            ledger.subscribe(heard[name].append)
        desk.service.subscribe(heard["older"].append)
        await watch.look_once()
        lost = SyncRequest("s1", "s1-inc", 0, history_id=before, heard=10**6)
        now = (await desk.service.sync(lost)).history_id
        assert now != before
        await watch.look_once()
        await until(lambda: bool(heard["here"] and heard["there"]))
        late = await stack.enter_async_context(connected(here))
        late.subscribe(heard["later"].append)
        await late.register(msgspec.structs.replace(REGISTER, sidecar="s2", incarnation="s2-inc"))
    told = Change("", 0, history=now)
    assert (heard["here"], heard["there"], heard["later"]) == ([told], [told], [])
    assert heard["older"] == [told]


async def test_who_has_not_asked_for_histories_hears_of_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older sidecar takes every change for a customer's, and one without a name for nobody's."""

    def as_before(*args: Any, **more: Any) -> ChangesRequest:
        assert more.pop("histories")
        return ChangesRequest(*args, **more)

    monkeypatch.setattr(http_client, "ChangesRequest", as_before)
    heard: list[Change] = []
    before = (await desk.service.register(REGISTER)).history_id
    async with served(desk.service) as address, connected(address) as ledger:
        ledger.subscribe(heard.append)
        await desk.service.history()
        await desk.service.sync(SyncRequest("s1", "s1-inc", 0, history_id=before, heard=10**6))
        await set_limit(desk, "0.5")
        await until(lambda: bool(heard))
    assert [change.customer for change in heard] == ["acme"]


async def test_without_a_stream_a_change_is_noticed_by_the_next_answer(desk: Desk) -> None:
    """L35: by a sync's, and by a resolve's; once for each change."""
    heard: list[Change] = []
    async with served(desk.service) as address, connected(address, follow=False) as ledger:
        desk.ledger = ledger
        ledger.subscribe(heard.append)
        await desk.borrow(ACME, 1)
        await set_limit(desk, "0.5")
        assert heard == []
        await desk.sync(desk.event("r1", ACME, 1))
        assert [change.customer for change in heard] == ["acme"]
        await desk.sync(desk.event("r2", ACME, 1))
        assert len(heard) == 1
        await set_limit(desk, "0.4")
        await desk.borrow(ACME, 1)
        assert len(heard) == 2
        assert heard[0].revision < heard[1].revision


async def test_a_ledger_that_ends_ends_its_streams(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its patience with requests under way, it does not wait for sidecars that listen."""
    monkeypatch.setattr(http_server, "CLOSE_TIMEOUT_S", 3600)
    async with AsyncExitStack() as stack:
        async with served(desk.service) as address:
            ledger = await stack.enter_async_context(connected(address))
        await until(lambda: not ledger.hears_changes)


async def test_more_messages_than_it_takes_at_once_are_told_to_come_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload is 503 with Retry-After at a named bound, for this message alone; what is under way goes on.

    So is a book whose queue is full. Nothing of it touches what a sidecar holds: that is spent without asking.
    """
    monkeypatch.setattr(http_contract, "MAX_CALLS_AT_ONCE", 2)
    going_on = asyncio.Event()
    began: list[int] = []

    class Slow(LedgerService):
        async def register(self, request: RegisterRequest) -> RegisterReply:
            began.append(1)
            await going_on.wait()
            return await super().register(request)

        async def resolve(self, request: ResolveRequest) -> ResolveReply:
            raise LedgerUnavailable("4096 requests are waiting for the book", retry_after_s=1.2)

    service = Slow(desk.book, desk.clock, desk.ids, RATES, LedgerOptions())
    async with served(service) as address, aiohttp.ClientSession() as session:

        async def ask(name: str, body: bytes) -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/msgpack"}
            async with session.post(f"{address}/contract/v1/{name}", data=BytesIO(body), headers=headers) as answer:
                await answer.read()
                return answer.status, answer.headers.get("Retry-After")

        under_way = [asyncio.create_task(ask("register", encode(REGISTER))) for _ in range(2)]
        await until(lambda: len(began) == 2)
        turned_away = await asyncio.gather(*(ask("register", encode(REGISTER)) for _ in range(20)))
        assert set(turned_away) == {(503, "1")}
        going_on.set()
        assert [await one for one in under_way] == [(200, None), (200, None)]
        assert await ask("register", encode(REGISTER)) == (200, None)
        assert await ask("resolve", encode(desk.request(ACME, 1))) == (503, "2")
