"""The ledger's API: who may ask, what is refused and how, and that nothing is lost between."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession

from sidecar import errors
from sidecar.core.governance.rights import Right
from sidecar.ledger import http_gate
from sidecar.ledger.http_access import Door, admin_access, admin_token, is_admin_token
from sidecar.ledger.http_api import AdminAPI, Health
from sidecar.ledger.http_gate import MAX_BODY_BYTES
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_routes import RouteTable, get
from sidecar.ledger.http_server import serve_admin_api
from sidecar.ledger.views import EntryView, ExplainView
from sidecar.telemetry.logs import LineFormatter
from tests.support.administration import FakeAdministration, NumberedIds, usage_view
from tests.support.clock import FakeClock

TOKEN = admin_token(bytes(range(32)))
READER = admin_token(bytes(range(1, 33)))


@dataclass
class Ledger:
    """A served API and what stands behind it."""

    address: str
    administration: FakeAdministration
    api: AdminAPI
    client: ClientSession
    flushed: list[int]
    remembered: dict[str, ExplainView]

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """One request as the administrator: status, headers, decoded body."""
        sent = {"Authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): text for name, text in headers.items()}
        data = body if body is None or isinstance(body, bytes | io.BytesIO) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(method, self.address + path, data=data, headers=sent) as answer:
            return answer.status, answer.headers, await answer.json(content_type=None)

    async def raw(self, wire: bytes) -> bytes:
        """Send bytes as they are; what comes back until the server closes."""
        host, port = self.address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(wire)
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        return received


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    """A served API over an administration in memory, with one customer."""
    administration = FakeAdministration()
    flushed: list[int] = []
    remembered: dict[str, ExplainView] = {}

    async def flush() -> None:
        flushed.append(1)

    api = AdminAPI(
        administration,
        [admin_access(TOKEN)],
        NumberedIds(),
        version="1.2.3",
        before_read=flush,
        recent=remembered.get,
    )
    address, close = await serve_admin_api(api, "127.0.0.1", 0)
    async with ClientSession() as client:
        yield Ledger(address, administration, api, client, flushed, remembered)
    await close()


@pytest.fixture
async def acme(ledger: Ledger) -> Ledger:
    """The same with a customer."""
    status, _, _ = await ledger.ask("POST", "/v1/customers", {"customer": "acme"})
    assert status == 200
    return ledger


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer ' OR '1'='1", f"Bearer {TOKEN} ", f"Bearer  {TOKEN}",
     f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN[:30]}{READER[30:]}", "Bearer ü",
     "Bearer " + "a" * 8000],
)  # fmt: skip
async def test_only_the_whole_token_opens(ledger: Ledger, authorization: str) -> None:
    """B-A01, B-A02: anything else is 401, and the answer quotes none of it."""
    wire = f"GET /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
    received = await ledger.raw(wire.encode())
    if authorization.endswith(" ") and authorization.strip() == f"Bearer {TOKEN}":
        assert received.startswith(b"HTTP/1.1 200 ")  # blanks around a field's value are not part of it
        return
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"unauthenticated" in received
    assert TOKEN.encode() not in received


async def test_two_authorizations_open_nothing(ledger: Ledger) -> None:
    """B-P32: the right token twice, or beside a wrong one, is nobody's."""
    header = f"Authorization: Bearer {TOKEN}\r\n"
    received = await ledger.raw(
        f"GET /v1/customers HTTP/1.1\r\nHost: x\r\n{header * 2}Connection: close\r\n\r\n".encode()
    )
    assert received[:12] in (b"HTTP/1.1 401", b"HTTP/1.1 400")
    assert b'"rows"' not in received


@pytest.mark.parametrize(
    "target",
    ["/", "/v1", "/v1/", "/v1/customers/", "//v1/customers", "/v1/../v1/customers", "/v1/%63ustomers",
     "/v1%2fcustomers", "/v1/health/../customers", "/v1/health%2f..%2fcustomers", "http://x/v1/customers",
     "/v1/customers/acme%2fgrants/balance", "/v1/customers/%00/balance", "/v1/customers//balance", "/v1/x"],
)  # fmt: skip
async def test_a_path_is_what_its_bytes_say(ledger: Ledger, target: str) -> None:
    """B-P34: nothing is normalised, so nothing can be disguised: without a token 401, with it 404."""
    for authorization, status in (("", b"401"), (f"Authorization: Bearer {TOKEN}\r\n", b"404")):
        wire = f"GET {target} HTTP/1.1\r\nHost: a/v1/health?x=\r\n{authorization}Connection: close\r\n\r\n"
        assert (await ledger.raw(wire.encode()))[9:12] == status


async def test_a_known_path_with_another_method(acme: Ledger) -> None:
    """405 names the methods that are taken; override headers are not looked at (B-A28)."""
    status, headers, problem = await acme.ask("DELETE", "/v1/customers", X_HTTP_Method_Override="GET")
    assert (status, problem["code"], headers["Allow"]) == (405, "method_not_allowed", "GET, POST")


async def test_bytes_that_are_not_http_are_not_quoted(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """S-26: a short problem, no page, and no traceback in the log."""
    received = await ledger.raw(b"\x16\x03\x01 secret-canary\r\n\r\n")
    assert received.startswith(b"HTTP/1.")
    assert b" 400 " in received.splitlines()[0]
    assert b"malformed_request" in received
    assert b"canary" not in received
    assert "Traceback" not in caplog.text


async def test_what_is_written_is_read_back(acme: Ledger) -> None:
    """Each write reaches the administration whole, and each listing shows it."""
    await acme.ask("POST", "/v1/nodes", {"path": "acme/department:a/team:b"})
    lot = {"customer": "acme", "amount": "12.5", "category": "promotional", "models": ["gpt-*"], "priority": -1}
    _, _, granted = await acme.ask("POST", "/v1/grants", lot | {"expires_at_ms": None})
    assert granted["issued"] == {"currency": "usd", "atoms": 12_500_000_000, "scale": 9, "text": "12.50"}
    limit = {"path": "acme/team:b", "limit": "3", "per": "day", "match": {"agent": "x*"}, "each": "user", "hard": False}
    _, _, budget = await acme.ask("POST", "/v1/budgets", limit)
    assert (budget["match"], budget["each"], budget["hard"]) == ({"agent": "x*"}, "user", False)
    _, _, nodes = await acme.ask("GET", "/v1/customers/acme/nodes")
    assert [node["path"] for node in nodes["rows"]] == ["acme/department:a", "acme/department:a/team:b"]
    _, _, grants = await acme.ask("GET", "/v1/customers/acme/grants")
    assert grants == {"rows": [granted], "next_cursor": ""}
    _, _, budgets = await acme.ask("GET", "/v1/customers/acme/budgets")
    assert budgets["rows"] == [budget]
    _, _, balance = await acme.ask("GET", "/v1/customers/acme/balance")
    assert balance["available"][0]["text"] == "12.50"
    assert balance["grants"] == [granted]
    _, _, version = await acme.ask("GET", "/v1/version")
    assert version == {"version": "1.2.3"}


async def test_usage_is_paged(acme: Ledger) -> None:
    """Pages follow each other by their cursor, and together are the whole, once each."""
    acme.administration.calls = [usage_view(number) for number in range(1, 8)]
    seen, cursor = [], ""
    while True:
        _, _, page = await acme.ask("GET", f"/v1/usage?customer=acme&limit=3&cursor={cursor}")
        seen += [row["request_id"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == [f"req_{number}" for number in range(1, 8)]
    _, _, late = await acme.ask("GET", "/v1/usage?since_ms=1795000000006")
    assert len(late["rows"]) == 2


async def test_entries_are_paged_and_filtered(acme: Ledger) -> None:
    """The journal goes on after the number that the page gave."""
    kinds = ["usage", "grant", "usage"]
    acme.administration.journal = [
        EntryView("acme", place, kind, "k", "admin", 1, 1, (), {}, "00") for place, kind in enumerate(kinds, 1)
    ]
    _, _, page = await acme.ask("GET", "/v1/customers/acme/entries?limit=2")
    assert len(page["rows"]) == 2
    _, _, rest = await acme.ask("GET", f"/v1/customers/acme/entries?limit=2&cursor={page['next_cursor']}")
    assert [row["sequence"] for row in rest["rows"]] == [3]
    _, _, usage = await acme.ask("GET", "/v1/customers/acme/entries?kind=usage")
    assert [row["sequence"] for row in usage["rows"]] == [1, 3]


async def test_a_name_in_a_path_is_decoded_once(ledger: Ledger) -> None:
    """A client may write `:` as it likes; what is encoded twice is another name, which nobody can have."""
    await ledger.ask("POST", "/v1/customers", {"customer": "org:a"})
    for name, status in (("org:a", b"200"), ("org%3Aa", b"200"), ("org%253Aa", b"404")):
        head = f"GET /v1/customers/{name}/balance HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        assert (await ledger.raw(f"{head}Connection: close\r\n\r\n".encode()))[9:12] == status, name


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=0", "limit=1000000000", "limit=1e9", "limit=", "limit=1&limit=2", "limit=٣", "since_ms=-5",
     "since_ms=99999999999999999999", "unknown=1", "cursor=%00", "cursor=%ff", "cursor=" + "a" * 600, "=", "&&"],
)  # fmt: skip
async def test_a_query_out_of_range_is_400(acme: Ledger, query: str) -> None:
    """B-A14: named, and never passed on."""
    status, _, problem = await acme.ask("GET", f"/v1/usage?{query}")
    assert (status, problem["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "malformed_json", None),
        (b"{", 400, "malformed_json", None),
        (b"\xff\xfe{\x00}\x00", 400, "malformed_json", None),
        (b'{"customer":"a","amount":"1"} x', 400, "malformed_json", None),
        (b'{"customer":"acme","amount":"1","currency":"usd","amount":"100"}', 422, "invalid_body", "amount"),
        (b'{"customer":"acme","amount":"1","currency":"usd","\\u0061mount":"100"}', 422, "invalid_body", "amount"),
        (b"[" * 100_000, 422, "invalid_body", "body"),
        (b"null", 422, "invalid_body", "body"),
        (b"{}", 422, "invalid_body", "customer"),
        (b'{"customer":"acme","amount":1.5}', 422, "invalid_body", "amount"),
        (b'{"customer":"acme","amount":"1","is_admin":true}', 422, "invalid_body", "is_admin"),
        (b'{"customer":"acme","amount":"1","grant_id":"x"}', 422, "invalid_body", "grant_id"),
        (b'{"customer":"acme","amount":"1","priority":true}', 422, "invalid_body", "priority"),
        (b'{"customer":"acme","amount":"1","priority":1e99}', 422, "invalid_body", "priority"),
        (b'{"customer":"acme","amount":"1","models":["a\\u0000b"]}', 422, "invalid_body", "models"),
        (b'{"customer":"acme","amount":"-1"}', 422, "invalid_amount", "amount"),
        (b'{"customer":"acme","amount":"99999999999999999"}', 422, "invalid_amount", "amount"),
        (b'{"customer":"nobody","amount":"1"}', 404, "not_found", "customer"),
    ],
)
async def test_a_body_is_taken_whole_or_not_at_all(
    acme: Ledger, body: bytes, status: int, code: str, field: str | None
) -> None:
    """B-A05, B-A07, B-A16, L1: unknown fields, floats, NULs and amounts that are none are refused, by field."""
    got, headers, problem = await acme.ask("POST", "/v1/grants", body)
    assert (got, problem["code"], problem["status"]) == (status, code, status)
    assert headers["Content-Type"].startswith("application/problem+json")
    if field is not None:
        assert [each["field"] for each in problem["errors"]] == [field]
    assert acme.administration.lots == []


async def test_a_body_over_its_cap_is_413(acme: Ledger) -> None:
    """B-P59: exactly at the cap is read, one byte more is not, whether its length is told or not."""
    text = json.dumps({"customer": "a" * 10, "wallet": "none"})
    at_cap = text + " " * (MAX_BODY_BYTES - len(text))
    status, _, _ = await acme.ask("POST", "/v1/customers", io.BytesIO(at_cap.encode()))
    assert status == 200
    status, _, problem = await acme.ask("POST", "/v1/customers", io.BytesIO(at_cap.encode() + b" "))
    assert (status, problem["code"]) == (413, "body_too_large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with acme.client.post(f"{acme.address}/v1/customers", data=endless(), headers=sent) as answer:
        assert answer.status == 413


async def test_a_body_that_does_not_come_is_408(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-P26: shorter than declared, then silence."""
    monkeypatch.setattr(http_gate, "BODY_TIMEOUT_S", 0.05)
    head = f"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    received = await ledger.raw(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}])
async def test_only_plain_json_is_taken(ledger: Ledger, headers: dict[str, str]) -> None:
    """What a form on a web page can send is refused, and nothing is unpacked."""
    status, _, problem = await ledger.ask("POST", "/v1/customers", {"customer": "acme"}, **headers)
    assert (status, problem["code"]) == (415, "unsupported_media_type")


async def test_the_idempotency_key_reaches_the_ledger(ledger: Ledger) -> None:
    """L27: the caller's own key, or a fresh one for each request that brings none."""
    await ledger.ask("POST", "/v1/customers", {"customer": "a"}, Idempotency_Key="k" * 255)
    await ledger.ask("POST", "/v1/customers", {"customer": "b"})
    await ledger.ask("POST", "/v1/customers", {"customer": "c"})
    keys = [act.idempotency_key for act in ledger.administration.acts]
    assert keys[0] == "k" * 255
    assert len(set(keys)) == 3
    assert {act.actor for act in ledger.administration.acts} == {"admin"}


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "ü"])
async def test_a_bad_idempotency_key_is_400(ledger: Ledger, key: str) -> None:
    """Empty, too long, blanks, not ASCII: refused before anything happens."""
    head = f"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {key}\r\n"
    tail = "Connection: close\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    received = await ledger.raw(f'{head}{tail}{{"customer":"a"}}'.encode())
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_idempotency_key" in received
    assert ledger.administration.made == {}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Rejected("unit_mismatch", {"currency": "expected usd", "limit": "expected usd"}), 422, "unit_mismatch"),
        (errors.Rejected("invalid_cursor", {"currency": "none", "limit": "none"}), 400, "invalid_cursor"),
        (errors.NotFound("customer", "acme"), 404, "not_found"),
        (errors.IdempotencyConflict("other contents", field="amount"), 409, "idempotency_mismatch"),
        (errors.HoldAlreadyResolved("settled"), 409, "hold_finalised"),
        (errors.StaleWrite("changed"), 412, "stale_write"),
        (errors.LedgerUnavailable("busy", retry_after_s=2.5), 503, "ledger_unavailable"),
        (RuntimeError("secret canary"), 500, "internal_error"),
    ],
)
async def test_each_error_has_its_status(
    acme: Ledger, caplog: pytest.LogCaptureFixture, error: Exception, status: int, code: str
) -> None:
    """One table: the status, the machine's word, the fields; our own mistakes tell nothing of themselves."""
    acme.administration.failure = error
    got, headers, problem = await acme.ask("GET", "/v1/customers/acme/balance")
    assert (got, problem["code"]) == (status, code)
    assert problem["request_id"] == headers["Spend-Request-Id"]
    assert "canary" not in json.dumps(problem)
    if isinstance(error, errors.Rejected):
        assert [each["field"] for each in problem["errors"]] == ["currency", "limit"]
    if status == 503:
        assert (headers["Retry-After"], problem["retry_after_s"]) == ("3", 3)
    assert (status == 500) == ("canary" in caplog.text)
    written = [LineFormatter("text").format(record) for record in caplog.records if record.exc_info]
    assert (status == 500) == any(problem["request_id"] in line for line in written), "the log has the request id"


async def test_reads_wait_for_what_is_on_its_way(acme: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read is preceded by the flush, no write is; one that never ends is a 503, not a hang."""
    before = len(acme.flushed)
    await acme.ask("GET", "/v1/customers/acme/balance")
    assert len(acme.flushed) == before + 1
    await acme.ask("POST", "/v1/customers", {"customer": "b"})
    await acme.ask("GET", "/v1/health")
    assert len(acme.flushed) == before + 1
    monkeypatch.setattr(http_gate, "FLUSH_TIMEOUT_S", 0.01)
    monkeypatch.setattr(acme.api.gate, "before_read", asyncio.Event().wait)
    status, _, problem = await acme.ask("GET", "/v1/customers/acme/balance")
    assert (status, problem["code"]) == (503, "ledger_unavailable")


def explained(request_id: str, outcome: str) -> ExplainView:
    """A call as `explain` shows it."""
    return ExplainView(request_id, outcome, "acme", {}, "openai", "gpt-4o", None, None, None, None)


async def test_explain_asks_the_book_and_then_the_sidecar(ledger: Ledger) -> None:
    """What is settled is told by the book, a denial by who made it; what neither knows is 404."""
    ledger.administration.explained["req_1"] = explained("req_1", "settled")
    ledger.remembered["req_1"] = explained("req_1", "open")
    ledger.remembered["req_2"] = explained("req_2", "denied")
    _, _, settled = await ledger.ask("GET", "/v1/requests/req_1")
    _, _, denied = await ledger.ask("GET", "/v1/requests/req_2")
    status, _, problem = await ledger.ask("GET", "/v1/requests/req_3")
    assert (settled["outcome"], denied["outcome"], status) == ("settled", "denied", 404)
    assert "req_3" in problem["detail"]


async def test_too_many_at_once_are_told_to_come_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are bounded: one more than the bound gets 503 and Retry-After, and the rest their answers."""
    monkeypatch.setattr(http_gate, "MAX_REQUESTS_AT_ONCE", 1)
    gate, entered = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await gate.wait()

    monkeypatch.setattr(ledger.api.gate, "before_read", wait)
    first = asyncio.create_task(ledger.ask("GET", "/v1/customers"))
    await entered.wait()
    status, headers, problem = await ledger.ask("GET", "/v1/health")
    gate.set()
    assert (status, problem["code"], headers["Retry-After"]) == (503, "overloaded", "1")
    assert (await first)[0] == 200


async def test_answers_are_not_kept(ledger: Ledger) -> None:
    """B-W13: nothing on the way may keep them."""
    _, headers, _ = await ledger.ask("GET", "/v1/customers")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_token_tells_a_slip_of_the_pen() -> None:
    """S-13: prefix, 256 bits, checksum; any one character changed is noticed without asking anybody."""
    assert TOKEN.startswith("spend_admin_")
    assert is_admin_token(TOKEN)
    for place in range(len("spend_admin_"), len(TOKEN)):
        changed = TOKEN[:place] + ("b" if TOKEN[place] != "b" else "c") + TOKEN[place + 1 :]
        assert not is_admin_token(changed), place
    with pytest.raises(ValueError, match="32 random bytes"):
        admin_token(b"short")


async def test_a_token_is_known_by_its_digest_only() -> None:
    """What is kept and shown of an access is not the token; without accesses nobody is let in."""

    async def in_no_book(_digest: bytes) -> None:
        return None

    access = admin_access(TOKEN)
    assert TOKEN not in repr(access)
    monotonic = FakeClock().monotonic
    assert await Door([access], in_no_book, monotonic).open([f"Bearer {TOKEN}"], "127.0.0.1") is access
    for accesses, token in (([], TOKEN), ([access], READER)):
        with pytest.raises(RequestRefused, match="Authorization"):
            await Door(accesses, in_no_book, monotonic).open([f"Bearer {token}"], "127.0.0.1")


def test_no_route_stands_twice() -> None:
    """Which of two would answer must never be a question."""

    async def handler(_call: object) -> object:
        return None

    route = get("/v1/x", Right.ANY, handler, Health)
    with pytest.raises(ValueError, match="stands twice"):
        RouteTable([route, route])
