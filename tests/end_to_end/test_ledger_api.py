"""The ledger's API against a running ledger: its document, its tokens, and that nobody sees another's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.api_caller import ApiCaller, admin_of, made
from tests.support.product import Product, provider_environment, running_product

EXAMPLES = 15
"""Requests for each operation, those that the document allows and those that it does not."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """`spend up` for all tests of this module; acme and globex, each with a tree, credit and budgets."""
    data = tmp_path_factory.mktemp("api") / "data"
    with running_product(data, provider_environment("http://127.0.0.1:9")) as product:
        admin = admin_of(product)
        for customer in ("acme", "globex"):
            admin.post("/v1/customers", {"customer": customer})
            admin.post("/v1/nodes", {"path": f"{customer}/department:x/team:data"})
            admin.post("/v1/nodes", {"path": f"{customer}/department:x/team:ops"})
            admin.post("/v1/grants", {"customer": customer, "amount": "100"})
            admin.post("/v1/budgets", {"path": f"{customer}/team:data", "limit": "9", "per": "day"})
            admin.post("/v1/budgets", {"path": customer, "limit": "90", "per": "month"})
        yield product


def test_the_document_holds(running: Product) -> None:
    """Schemathesis: whatever is sent, the answer is one that the document has, and never a mistake of ours."""
    admin = json.loads((running.data / "admin.json").read_text())
    token = {"Authorization": f"Bearer {admin['token']}"}
    schema = schemathesis.openapi.from_url(f"{running.ledger}/v1/openapi.json", headers=token)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    answers: set[tuple[str, int]] = set()
    routes: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given_cases(operation)
        def holds(case: Any) -> None:
            name_what_there_is(case)
            headers = {name: value for name, value in (case.headers or {}).items() if name != "Authorization"} | token
            answer = case.call(headers=headers, timeout=10)
            while answer.status_code == 429:
                time.sleep(float(answer.headers["Retry-After"]))
                answer = case.call(headers=headers, timeout=10)
            answers.add((f"{case.operation.method} {case.operation.path}", answer.status_code))
            case.validate_response(answer, checks=checks, headers=headers)

        holds()
        routes.add(f"{operation.method} {operation.path}")
    assert len(routes) > 30
    fine = {route for route, status in answers if status == 200}
    assert len(fine) > len(routes) / 2, f"hardly anything was done: {sorted(fine)}"
    assert {400, 404, 422} <= {status for _, status in answers}
    assert admin_of(running).get("/v1/customers/acme/verify")["problems"] == []


def name_what_there_is(case: Any) -> None:
    """Nobody would guess a customer's name: in half of the cases an existing one is put in its place."""
    parts = case.path_parameters or {}
    if len(str(parts.get("customer", ""))) % 2:
        parts["customer"] = "acme"
    body = case.body
    if isinstance(body, dict) and len(body) % 2:
        for field, value in (("customer", "acme"), ("path", "acme/team:data"), ("currency", "usd"), ("amount", "1"),
                             ("limit", "1"), ("per", "day"), ("category", "paid")):  # fmt: skip
            if isinstance(body.get(field), str):
                body[field] = value


def given_cases(operation: Any) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """Cases of an operation, those that the document allows and those that it does not."""
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    return given(case=cases)


def test_a_token_from_its_making_to_its_end(running: Product) -> None:
    """The command line makes, shows and ends it; within a second it opens nothing; its acts carry its name."""
    secret = json.loads(
        running.spend(
            "tokens", "create", "ci", "--role", "org_owner", "--path", "acme", "--expires", "1h", "--json"
        ).stdout
    )["token"]
    mine = ApiCaller(running.ledger, secret)
    mine.post("/v1/nodes", {"path": "acme/department:x/team:new"})
    entries = admin_of(running).get("/v1/customers/acme/entries?kind=nodes_added&limit=1000")["rows"]
    assert entries[-1]["actor"] == "ci"
    listed = running.spend("tokens", "list", "--customer", "acme").stdout
    assert "ci" in listed
    assert secret not in listed
    running.spend("tokens", "revoke", "ci", "--path", "acme")
    time.sleep(1)
    assert mine.code("GET", "/v1/customers/acme/balance") == (401, "unauthenticated")
    assert secret not in running.log()


def test_a_token_ends_when_it_said(running: Product) -> None:
    """By the ledger's clock."""
    brief = made(admin_of(running), running.ledger, "brief", "auditor", "", expires_in_ms=1500)
    assert brief.get("/v1/customers/acme")["customer"] == "acme"
    time.sleep(2.1)
    assert brief.code("GET", "/v1/customers/acme") == (401, "unauthenticated")


def test_nothing_that_one_customer_does_moves_anothers_answers(running: Product) -> None:
    """S-33: all that globex can ask is what it was before acme's owner tried everything on it."""
    admin = admin_of(running)
    attacker = made(admin, running.ledger, "attacker", "org_owner", "acme")
    victim = made(admin, running.ledger, "victim", "org_owner", "globex")
    manager = made(admin, running.ledger, "manager", "team_manager", "acme/team:data")
    before = everything(victim, "globex")
    assert '"path": "globex/department:x/team:data"' in before
    tried = 0
    for who in (attacker, manager):
        for path, body in (
            ("/v1/nodes", {"path": "globex/team:evil"}),
            ("/v1/budgets", {"path": "globex/team:data", "limit": "0", "per": "day"}),
            ("/v1/budgets", {"path": "acme/../globex", "limit": "0", "per": "day"}),
            ("/v1/nodes/freeze", {"path": "globex", "reason": "evil"}),
            ("/v1/grants", {"customer": "globex", "amount": "1"}),
            ("/v1/customers", {"customer": "globex", "wallet": "none"}),
            ("/v1/customers/timezone", {"customer": "globex", "timezone": "Asia/Tokyo"}),
            ("/v1/keys", {"path": "globex", "sha256": "ab" * 32}),
            ("/v1/tokens", {"name": "x", "role": "org_owner", "path": "globex", "token_sha256": "ab" * 32}),
            ("/v1/tokens", {"name": "x", "role": "platform_admin", "path": "", "token_sha256": "ab" * 32}),
            ("/v1/tokens/revoke", {"name": "victim", "path": "globex"}),
            ("/v1/clock/accept", {}),
        ):
            status, problem, _ = (
                who.ask("POST", path, body, If_Match="*") if "budgets" in path else who.ask("POST", path, body)
            )
            assert status in (403, 404, 422), (path, body, status, problem)
            tried += 1
        for path in ("balance", "budgets", "nodes", "grants", "entries", "verify", "keys", "frozen", "holders"):
            status, problem, _ = who.ask("GET", f"/v1/customers/globex/{path}")
            absent, problem2, _ = who.ask("GET", f"/v1/customers/nobody/{path}")
            assert status in (403, 404)
            said = [json.dumps(one | {"request_id": ""}) for one in (problem, problem2)]
            assert (status, said[0]) == (absent, said[1].replace("nobody", "globex")), "S-34"
        assert who.code("GET", "/v1/usage?customer=globex") == (404, "not_found")
        assert who.code("GET", "/v1/usage/sums?customer=globex") == (404, "not_found")
    assert tried == 24
    assert everything(victim, "globex") == before


def everything(who: ApiCaller, customer: str) -> str:
    """All that an owner can read of its customer, as one text."""
    paths = ["/v1/customers", "/v1/usage", "/v1/usage/sums?by=model", f"/v1/tokens?customer={customer}"]
    paths += [
        f"/v1/customers/{customer}{rest}"
        for rest in (
            "",
            "/balance",
            "/budgets",
            "/nodes",
            "/grants",
            "/entries?limit=1000",
            "/verify",
            "/keys",
            "/frozen",
        )
    ]
    return json.dumps([who.get(path) for path in paths])
