"""Bad input to the ledger's API, row by row, on its real port: a clear refusal, no effect, nothing breaks."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest

from sidecar.core.credits.amounts import MAX_ATOMS
from tests.support.api_caller import ApiCaller, admin_of, made
from tests.support.product import Product, provider_environment, running_product

_names = count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One ledger for all rows; at the end it must not have made a mistake of its own, and its books verify."""
    data = tmp_path_factory.mktemp("rows") / "data"
    with running_product(data, provider_environment("http://127.0.0.1:9")) as product:
        yield product
        admin = admin_of(product)
        for row in admin.get("/v1/customers?limit=1000")["rows"]:
            assert admin.get(f"/v1/customers/{row['customer']}/verify")["problems"] == []
        assert "admin_request_failed" not in product.log()
        assert "Traceback" not in product.log()


@pytest.fixture
def admin(running: Product) -> ApiCaller:
    """The administrator."""
    return admin_of(running)


@pytest.fixture
def mine(admin: ApiCaller) -> str:
    """A new customer with a team."""
    name = f"c{next(_names)}"
    admin.post("/v1/customers", {"customer": name})
    admin.post("/v1/nodes", {"path": f"{name}/team:data"})
    return name


def raw(address: str, wire: bytes) -> bytes:
    """What comes back for bytes."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        connection.sendall(wire)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "token",
    [b"' OR '1'='1", b"a" * 100_000, b"a\0b", "spend_api_ü".encode(), b"\xff\xfe", b" x ", b"",
     b"spend_api_" + b"a" * 60],
)  # fmt: skip
def test_a_token_that_is_none(running: Product, token: bytes) -> None:
    """B-A01: 401 (400 where the head itself cannot be read), no 500, and nothing of it comes back."""
    wire = b"GET /v1/customers HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    received = raw(running.ledger, wire)
    unreadable = len(token) > 8000 or b"\0" in token
    assert received[9:12] == (b"400" if unreadable else b"401")
    assert b"application/problem+json" in received
    assert not token.strip() or token not in received
    assert b"SELECT" not in received


def test_a_token_that_is_not_good_here(running: Product, admin: ApiCaller, mine: str) -> None:
    """B-A02: another customer's, revoked, expired, `alg: none`, one that shares its first 20 bytes with a good one."""
    admin.post("/v1/customers", {"customer": f"{mine}-other"})
    stranger = made(admin, running.ledger, "stranger", "org_owner", f"{mine}-other")
    assert stranger.code("GET", f"/v1/customers/{mine}/balance") == (404, "not_found")
    gone = made(admin, running.ledger, "gone", "org_owner", mine)
    brief = made(admin, running.ledger, "brief", "org_owner", mine, expires_in_ms=500)
    assert gone.get(f"/v1/customers/{mine}")
    admin.post("/v1/tokens/revoke", {"name": "gone", "path": mine})
    time.sleep(1.1)
    for who in (gone, brief):
        assert who.code("GET", f"/v1/customers/{mine}") == (401, "unauthenticated")
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=")
             for one in ({"alg": "none"}, {"sub": "admin", "role": "platform_admin"})]  # fmt: skip
    assert ApiCaller(running.ledger, f"{parts[0]}.{parts[1]}.").code("GET", "/v1/customers")[0] == 401
    good = json.loads((running.data / "admin.json").read_text())["token"]
    twin = good[:40] + ("a" if good[40] != "a" else "b") + good[41:]
    assert ApiCaller(running.ledger, twin).code("GET", "/v1/customers")[0] == 401


def test_a_body_that_names_anothers(running: Product, admin: ApiCaller, mine: str) -> None:
    """B-A04: the customer in the body, and a node of another's in an own budget: neither exists."""
    other = f"{mine}-other"
    admin.post("/v1/customers", {"customer": other})
    admin.post("/v1/nodes", {"path": f"{other}/team:theirs"})
    owner = made(admin, running.ledger, "owner", "org_owner", mine)
    for path in (other, f"{other}/team:theirs", f"{mine}/team:theirs"):
        assert owner.code("POST", "/v1/budgets", {"path": path, "limit": "1", "per": "day"}) == (404, "not_found")
        form = {"name": "x", "role": "member", "path": f"{path}/user:x" if path == other else path}
        assert owner.code("POST", "/v1/tokens", form | {"token_sha256": "ab" * 32})[0] in (404, 422)
    assert owner.get(f"/v1/customers/{mine}/budgets")["rows"] == []


@pytest.mark.parametrize("field", ["role", "balance", "created_at", "id", "is_admin", "customer_id", "__proto__"])
def test_a_field_that_nobody_asked_for(admin: ApiCaller, mine: str, field: str) -> None:
    """B-A05: 422, by its name, on every kind of thing that is made."""
    forms: list[tuple[str, dict[str, Any]]] = [
        ("/v1/customers", {"customer": "new"}),
        ("/v1/nodes", {"path": f"{mine}/team:x"}),
        ("/v1/grants", {"customer": mine, "amount": "1"}),
        ("/v1/budgets", {"path": mine, "limit": "1", "per": "day"}),
        ("/v1/keys", {"path": mine, "sha256": "ab" * 32}),
    ]
    for path, form in forms:
        status, problem, _ = admin.ask("POST", path, form | {field: "x"})
        assert (status, problem["errors"][0]["field"]) == (422, field)
    assert admin.get(f"/v1/customers/{mine}/grants")["rows"] == []


def test_credit_that_would_not_fit_into_a_number(admin: ApiCaller, mine: str) -> None:
    """B-A07: what is above the greatest amount is refused; sums of many great ones are whole numbers, not floats."""
    most = f"{MAX_ATOMS // 10**9}"
    given = 0
    for _ in range(4):
        status, answer, _ = admin.ask("POST", "/v1/grants", {"customer": mine, "amount": most})
        assert status in (200, 422), answer
        given += status == 200
    assert admin.code("POST", "/v1/grants", {"customer": mine, "amount": most + "0"}) == (422, "invalid_amount")
    available = admin.get(f"/v1/customers/{mine}/balance")["available"][0]["atoms"]
    assert available == given * (MAX_ATOMS // 10**9) * 10**9
    assert isinstance(available, int)


@pytest.mark.parametrize("currency", ["xxx", "USD", "u" * 4096, "", "usd "])
def test_a_currency_that_is_none(admin: ApiCaller, mine: str, currency: str) -> None:
    """B-A08: 422 that names the field."""
    for path, form in (
        ("/v1/grants", {"customer": mine, "amount": "1"}),
        ("/v1/budgets", {"path": mine, "limit": "1", "per": "day"}),
    ):
        status, problem, _ = admin.ask("POST", path, form | {"currency": currency})
        assert (status, problem["code"]) == (422, "unit_mismatch")
        assert problem["errors"][0]["field"] == "currency"
        assert len(json.dumps(problem)) < 1000


def test_what_has_ended_is_ended_once(running: Product, admin: ApiCaller, mine: str) -> None:
    """B-A10: of the API's own: a grant voided twice is voided once; another's is not there to be voided."""
    grant = admin.post("/v1/grants", {"customer": mine, "amount": "5"})["grant_id"]
    void = {"customer": mine, "grant_id": grant, "reason": "mistake"}
    stranger = made(admin, running.ledger, f"fin-{mine}", "finance", "")
    admin.post("/v1/customers", {"customer": f"{mine}-b"})
    foreign = made(admin, running.ledger, "foreign", "finance", f"{mine}-b")
    assert foreign.code("POST", "/v1/grants/void", void) == (404, "not_found")
    first = stranger.post("/v1/grants/void", void)
    assert (first["revoked"]["text"], stranger.post("/v1/grants/void", void)["revoked"]["text"]) == ("5.00", "5.00")
    kinds = [row["kind"] for row in admin.get(f"/v1/customers/{mine}/entries?kind=grant_voided")["rows"]]
    assert kinds == ["grant_voided"]


def test_one_key_a_hundred_times(admin: ApiCaller, mine: str) -> None:
    """B-A11, F-47: one effect, 99 repetitions marked as such; another body is 409 by field; a customer for itself."""
    form = {"customer": mine, "amount": "5"}

    def grant(_: int) -> tuple[str, bool]:
        status, answer, headers = admin.ask("POST", "/v1/grants", form, Idempotency_Key="same")
        assert status == 200, answer
        return answer["grant_id"], "idempotency-hit" in headers

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(grant, range(100)))
    assert len({grant_id for grant_id, _ in answers}) == 1
    assert sum(hit for _, hit in answers) == 99
    assert len(admin.get(f"/v1/customers/{mine}/grants")["rows"]) == 1
    status, problem, _ = admin.ask("POST", "/v1/grants", form | {"amount": "6"}, Idempotency_Key="same")
    assert (status, problem["code"]) == (409, "idempotency_mismatch")
    assert [one["field"] for one in problem["errors"]] == ["amount"]
    admin.post("/v1/customers", {"customer": f"{mine}-b"})
    _, _, headers = admin.ask("POST", "/v1/grants", form | {"customer": f"{mine}-b"}, Idempotency_Key="same")
    assert "idempotency-hit" not in headers


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/v1/budgets", {"per": "30d"}),
        ("/v1/budgets", {"per": "1mo"}),
        ("/v1/budgets", {"per": ""}),
        ("/v1/budgets", {"per": 0}),
        ("/v1/budgets", {"per": "month", "anchor": "2026-02-30"}),
        ("/v1/grants", {"effective_at_ms": 2_000_000_000_000, "expires_at_ms": 1_900_000_000_000}),
        ("/v1/grants", {"expires_at_ms": -1}),
        ("/v1/grants", {"expires_at_ms": 10**18}),
        ("/v1/grants", {"expires_at_ms": 0}),
        ("/v1/tokens", {"expires_in_ms": 0}),
        ("/v1/tokens", {"expires_in_ms": -1}),
        ("/v1/tokens", {"expires_in_ms": 10**15}),
    ],
)
def test_a_span_of_time_that_is_none(admin: ApiCaller, mine: str, path: str, changes: dict[str, Any]) -> None:
    """B-A13: zero, negative, endless, in words of elsewhere, or ending before it begins: 422."""
    forms: dict[str, dict[str, Any]] = {
        "/v1/budgets": {"path": mine, "limit": "1", "per": "day"},
        "/v1/grants": {"customer": mine, "amount": "1"},
        "/v1/tokens": {"name": "x", "role": "org_owner", "path": mine, "token_sha256": "ef" * 32},
    }
    assert admin.code("POST", path, forms[path] | changes)[0] == 422


def test_a_page_that_is_none(running: Product, admin: ApiCaller, mine: str) -> None:
    """B-A14: sizes out of range; cursors forged, cut, of another list, another customer or another token: 400."""
    admin.post("/v1/customers", {"customer": f"{mine}-b"})
    for name in "abc":
        for customer in (mine, f"{mine}-b"):
            admin.post("/v1/nodes", {"path": f"{customer}/team:{name}"})
    path = f"/v1/customers/{mine}/nodes"
    for limit in ("-1", "0", "1000000000", "1e3", ""):
        assert admin.code("GET", f"{path}?limit={limit}") == (400, "invalid_parameter")
    cursor = admin.get(f"{path}?limit=2")["next_cursor"]
    owner = made(admin, running.ledger, f"own-{mine}", "org_owner", mine)
    assert len(admin.get(f"{path}?limit=1&cursor={cursor}")["rows"]) == 1
    forged = base64.urlsafe_b64encode(b"\0" * 16 + f"{mine}/team:a".encode()).decode().rstrip("=")
    for wrong in (cursor[:-1], cursor[1:], cursor + "A", forged, "2", f"{mine}/team:a"):
        assert admin.code("GET", f"{path}?cursor={wrong}")[0] == 400, wrong
    for who, elsewhere in (
        (admin, f"/v1/customers/{mine}-b/nodes"),
        (admin, f"/v1/customers/{mine}/budgets"),
        (owner, path),
    ):
        assert who.code("GET", f"{elsewhere}?cursor={cursor}") == (400, "invalid_cursor"), elsewhere


NAUGHTY = [
    "", "undefined", "null", "true", "NaN", "1e100", "0x0", "-1", "1/0", "$1.00", ",./;'[]\\-=", "<>?:\"{}|_+",
    "Ω≈ç√∫", "田中さん", "😍", "\u202etest\u202e", "\u200b", "\ufeff", "ﬁ", "Ꮯustomer", "<script>alert(1)</script>",
    "{{7*7}}", "${7*7}", "%s%n", "' OR 1=1 --", "1;DROP TABLE customers", "__proto__", "constructor",
    "../../etc/passwd",
    "=cmd|'/C calc'!A0", "+1", "-1", "@SUM(1)", "\ttab", "a\nb", "a\r\nX: 1", "\x7f", "\x1b[31m",
    "\ud7ff", "\U0010ffff",
]  # fmt: skip
"""A sample of the strings that software has stumbled over."""


@pytest.mark.parametrize("text", NAUGHTY)
def test_a_text_is_kept_exactly_or_refused(admin: ApiCaller, mine: str, text: str) -> None:
    """B-A16: as a name it is an id or 422; as free text it comes back as it was sent, or 422; never a 500."""
    for path, form in (
        ("/v1/customers", {"customer": text}),
        ("/v1/nodes", {"path": f"{mine}/team:{text}"}),
        ("/v1/nodes", {"path": text}),
        ("/v1/tokens", {"name": text, "role": "auditor", "token_sha256": "ab" * 32}),
    ):
        status, answer, _ = admin.ask("POST", path, form)
        assert status in (200, 404, 409, 422), answer
        if status == 200 and "customer" in form:
            assert answer["customer"] == text
    digest = f"{abs(hash((mine, text))):064x}"[-64:]
    status, answer, _ = admin.ask("POST", "/v1/keys", {"path": mine, "sha256": digest, "name": text})
    assert status == 422 or answer["name"] == text
    status, answer, _ = admin.ask("POST", "/v1/nodes/freeze", {"path": f"{mine}/team:data", "reason": text})
    assert status == 422 or answer["reason"] == text
    for form in ({"customer": f"a\0{text}"}, {"customer": text, "wallet": "\0"}):
        assert admin.code("POST", "/v1/customers", form)[0] == 422


def test_a_name_of_ten_megabytes(admin: ApiCaller) -> None:
    """B-A16: 413, before it is read."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the answer may come before the body has gone out
        assert admin.code("POST", "/v1/customers", {"customer": "a" * 10_000_000}) == (413, "body_too_large")
    assert admin.get("/v1/version")


def test_a_cell_that_a_spreadsheet_would_run(running: Product) -> None:
    """B-A17: the sums as CSV quote what a spreadsheet takes for a formula (by cell: tests/unit/cli/test_sums.py)."""
    done = running.spend("usage", "--by", "user", "--csv")
    assert done.stdout.splitlines()[0].startswith("user,calls,")


def test_an_account_is_not_deleted(admin: ApiCaller, mine: str) -> None:
    """B-A19: nothing in the book can be deleted: there is no such method."""
    admin.post("/v1/grants", {"customer": mine, "amount": "5"})
    for method in ("DELETE", "PUT", "PATCH"):
        assert admin.code(method, f"/v1/customers/{mine}") == (405, "method_not_allowed")
    assert admin.get(f"/v1/customers/{mine}/balance")["available"][0]["text"] == "5.00"


def test_a_change_of_what_was_not_seen(admin: ApiCaller, mine: str) -> None:
    """B-A20: a changed limit without If-Match is 428, with an old one 412; with the right one it is done once."""
    form = {"path": mine, "limit": "1", "per": "day"}
    _, budget, headers = admin.ask("POST", "/v1/budgets", form)
    assert headers["etag"] == '"1"'
    status, problem, headers = admin.ask("POST", "/v1/budgets", form | {"limit": "2"})
    assert (status, problem["code"], headers["etag"]) == (428, "precondition_required", '"1"')
    assert admin.code("POST", "/v1/budgets", form)[0] == 200, "it changes nothing"
    _, changed, headers = admin.ask("POST", "/v1/budgets", form | {"limit": "2"}, If_Match='"1"', Idempotency_Key="k")
    assert (changed["limit"]["text"], headers["etag"]) == ("2.00", '"2"')
    again = admin.ask("POST", "/v1/budgets", form | {"limit": "2"}, If_Match='"1"', Idempotency_Key="k")
    assert (again[0], again[1]) == (200, changed), "a repetition is no second change"
    for wrong in ('"1"', '"3"'):
        assert admin.code("POST", "/v1/budgets", form | {"limit": "3"}, If_Match=wrong) == (412, "stale_write")
    for bad in ("1", 'W/"2"', '"2", "3"', '""'):
        assert admin.code("POST", "/v1/budgets", form | {"limit": "3"}, If_Match=bad) == (400, "invalid_parameter")
    assert admin.code("POST", "/v1/budgets", form | {"limit": "3"}, If_None_Match="*") == (412, "stale_write")
    assert admin.code("POST", "/v1/budgets", form | {"per": "month"}, If_Match="*") == (412, "stale_write")
    assert admin.code("POST", "/v1/grants", {"customer": mine, "amount": "1"}, If_Match='"1"')[0] == 400
    status, seen, headers = admin.ask("GET", f"/v1/customers/{mine}/budgets/{budget['budget_id']}")
    assert (status, seen["limit"]["text"], headers["etag"]) == (200, "2.00", '"2"')


def test_lending_is_not_of_this_port(running: Product, admin: ApiCaller) -> None:
    """B-A25, B-A26: what sidecars say is not said here, whoever asks; see tests/unit/ledger/test_http_contract.py."""
    someone = made(admin, running.ledger, "app-token", "auditor", "")
    for name in ("register", "resolve", "sync", "changes"):
        assert someone.code("POST", f"/contract/v1/{name}", {})[0] in (401, 404)


@pytest.mark.parametrize("header", ["X_HTTP_Method_Override", "X_Original_URL", "X_Rewrite_URL", "X_Forwarded_For"])
def test_headers_that_would_change_the_request(admin: ApiCaller, header: str) -> None:
    """B-A28: nothing looks at them."""
    status, answer, _ = admin.ask("GET", "/v1/version", **{header: "/v1/customers"})
    assert (status, list(answer)) == (200, ["version"])
    assert admin.code("DELETE", "/v1/version", X_HTTP_Method_Override="GET") == (405, "method_not_allowed")


def test_ten_thousand_guesses(running: Product, admin: ApiCaller) -> None:
    """B-A29: after some, an address is told to wait, whatever it brings; who has a good token is let in meanwhile."""
    place = urlsplit(running.ledger)
    told = {401: 0, 429: 0}
    known = made(admin, running.ledger, "known", "auditor", "")
    known.get("/v1/version")
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        reader = connection.makefile("rb")
        for number in range(10_000):
            connection.sendall(
                b"GET /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess%d\r\n\r\n" % number
            )
            status = int(reader.readline().split()[1])
            told[status] += 1
            length = 0
            while line := reader.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                if status == 429 and line.lower().startswith(b"retry-after:"):
                    assert 1 <= int(line.split(b":")[1]) <= 20
            reader.read(length)
    assert told[429] > 9_000, told
    assert known.get("/v1/version") == admin.get("/v1/version")
