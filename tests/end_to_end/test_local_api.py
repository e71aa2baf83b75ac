"""/spend/v1/ of a running `spend up`, by plain HTTP: each operation, races, repetitions, a kill, and the document."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.product import Product

STEP_ATOMS = 2_000_000
"""agent_step in the catalog that comes with the product: $0.002."""


def ask(
    product: Product, path: str, body: object = None, *, customer: str = "acme", **headers: str
) -> tuple[int, dict[str, Any]]:
    """One request; status and body."""
    head = {name.replace("_", "-"): value for name, value in headers.items()}
    if customer:
        head["Spend-Customer"] = customer
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(f"{product.proxy}/spend/v1/{path}", data, head)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            problem: dict[str, Any] = json.loads(error.read())
        if error.headers["Content-Type"] != "application/problem+json":
            raise AssertionError(f"{error.code} in another form: {problem}") from None
        return error.code, problem


def report(product: Product, key: str, quantity: int = 1, **headers: str) -> tuple[int, dict[str, Any]]:
    """Report agent steps."""
    return ask(product, "usage", {"feature": "agent_step", "quantity": quantity}, Idempotency_Key=key, **headers)


def all_at_once(work: Callable[[int], tuple[int, dict[str, Any]]], count: int) -> list[tuple[int, dict[str, Any]]]:
    """`work(0)` … from as many threads."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


@pytest.fixture
def funded(product: Product) -> Product:
    """acme with 100 dollars and a budget of one cent: five agent steps."""
    product.spend("customers", "add", "acme")
    product.spend("grants", "add", "acme", "100")
    product.spend("budgets", "set", "acme", "--limit", "0.01", "--per", "lifetime")
    return product


def test_a_check_takes_nothing_and_says_what_was_consulted(funded: Product) -> None:
    """A feature and a model, fitting and not; the balance is what it was before."""
    status, fits = ask(funded, "check", {"feature": "agent_step", "quantity": 5})
    assert (status, fits["allowed"], fits["cost"]["text"]) == (200, True, "0.01")
    assert {one["kind"] for one in fits["consulted"]} == {"budget", "grant"}
    assert all(one["used"]["atoms"] == 0 and one["held"]["atoms"] == 0 for one in fits["consulted"])
    status, too_many = ask(funded, "check", {"feature": "agent_step", "quantity": 6})
    assert (status, too_many["allowed"], too_many["reason"]) == (200, False, "request_exceeds_budget")
    assert too_many["consulted"][0]["left"] == {"currency": "usd", "atoms": 10_000_000, "scale": 9, "text": "0.01"}
    status, small = ask(funded, "check", {"model": "gpt-4o-mini", "input_tokens": 100, "max_output_tokens": 10})
    assert (status, small["allowed"], small["cost"]["atoms"]) == (200, True, 100 * 150 + 10 * 600)
    status, large = ask(funded, "check", {"model": "gpt-4o-mini", "input_tokens": 1000, "max_output_tokens": 16000})
    assert large["reason"] == "budget_exceeded" or large["allowed"]
    status, unknown = ask(funded, "check", {"model": "no-such-model"})
    assert (status, unknown["allowed"], unknown["reason"]) == (200, False, "model_not_priced")
    assert report(funded, "all-of-it", 5)[0] == 200


def test_a_report_is_charged_booked_and_explained(funded: Product) -> None:
    """It stands in the usage under its own feature and unit, in the balance, and can be explained afterwards."""
    status, charged = report(funded, "one", 2, Spend_User="ann")
    assert status == 200
    assert charged["charge"] == {"currency": "usd", "atoms": 2 * STEP_ATOMS, "scale": 9, "text": "0.004"}
    assert (charged["feature"], charged["unit"], charged["quantity"]) == ("agent_step", "steps", 2)
    assert charged["left"]["text"] == "0.006"
    (booked,) = funded.usage("acme")
    assert (booked["feature"], booked["usage"]["units"], booked["user"]) == ("agent_step", {"steps": 2}, "ann")
    assert booked["charge"]["atoms"] == 2 * STEP_ATOMS
    status, balance = ask(funded, "balance")
    assert status == 200
    by_kind = {one["kind"]: one for one in balance["limits"]}
    assert (by_kind["budget"]["used"]["text"], by_kind["budget"]["left"]["text"]) == ("0.004", "0.006")
    assert by_kind["grant"]["left"]["text"] == "99.996"
    status, told = ask(funded, f"requests/{charged['request_id']}")
    assert (status, told["outcome"], told["charge"]["text"]) == (200, "settled", "0.004")
    assert json.loads(funded.spend("explain", charged["request_id"], "--json").stdout)["customer"] == "acme"
    assert ask(funded, f"requests/{charged['request_id']}", customer="other")[0] == 404


def test_a_report_that_does_not_fit_is_refused_and_explained(funded: Product) -> None:
    """402 with what was consulted; it took nothing; its key keeps its answer (L28), another key is free."""
    status, refused = report(funded, "six", 6)
    assert (status, refused["code"], refused["reason"]) == (402, "budget_exceeded", "request_exceeds_budget")
    assert refused["consulted"][0]["kind"] == "budget"
    assert ask(funded, f"requests/{refused['request_id']}")[1]["outcome"] == "denied"
    funded.spend("budgets", "set", "acme", "--limit", "1", "--per", "lifetime")
    assert report(funded, "six", 6)[0] == 402
    assert report(funded, "six-again", 6)[0] == 200


def test_what_is_free_is_counted(funded: Product) -> None:
    """A price of 0 holds nothing and stands in the book."""
    status, counted = ask(funded, "usage", {"feature": "page_view", "quantity": 3}, Idempotency_Key="free")
    assert (status, counted["charge"]["atoms"]) == (200, 0)
    assert funded.usage("acme")[0]["usage"]["units"] == {"views": 3}


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"{", {}, (400, "malformed_json", [])),
        (b'{"feature":"agent_step","quantity":1,"quantity":5}', {}, (422, "invalid_body", ["quantity"])),
        (b'{"feature":"agent_step","quantity":1,"\\u0071uantity":5}', {}, (422, "invalid_body", ["quantity"])),
        ({"feature": "agent_step", "quantity": 1.0}, {}, (422, "invalid_body", ["quantity"])),
        (b'{"feature":"agent_step","quantity":1e0}', {}, (422, "invalid_body", ["quantity"])),
        (b'{"feature":"agent_step","quantity":1e400}', {}, (422, "invalid_body", ["quantity"])),
        (b'\xef\xbb\xbf{"feature":"agent_step","quantity":1}', {}, (400, "malformed_json", [])),
        ({"feature": "agent_step"}, {}, (422, "invalid_body", ["quantity"])),
        ({"feature": "agent_step", "quantity": 0}, {}, (422, "invalid_body", ["quantity"])),
        ({"feature": "agent_step", "quantity": 1, "more": 1}, {}, (422, "invalid_body", ["more"])),
        ({"feature": "nothing", "quantity": 1}, {}, (422, "feature_unknown", ["feature"])),
        ({"feature": "agent_step", "quantity": 1, "unit": "miles"}, {}, (422, "unit_mismatch", ["unit"])),
        ({"feature": "agent_step", "quantity": 1}, {"Idempotency_Key": "a b"}, (400, "malformed_request", None)),
        (
            {"feature": "agent_step", "quantity": 1},
            {"Idempotency_Key": "x" * 256},
            (400, "malformed_request", None),
        ),
        ({"feature": "agent_step", "quantity": 1}, {"Content_Type": "text/plain"}, (415, "unsupported_media_type", [])),
        ({"feature": "agent_step", "quantity": 1}, {"Spend_Feature": "chat"}, (400, "subject_conflict", ["feature"])),
        ({"feature": "agent_step", "quantity": 1}, {"Spend_User": "a b"}, (400, "invalid_subject", None)),
        ({"feature": "agent_step", "quantity": 1}, {"customer": ""}, (400, "customer_required", [])),
        ({"feature": "agent_step", "quantity": 1}, {"customer": "nobody"}, (403, "customer_unknown", [])),
        (b" " * (64 * 1024 + 1), {}, (413, "body_too_large", [])),
    ],
)
def test_a_report_at_fault_names_what_is_wrong(
    shared: Product, body: object, headers: dict[str, str], expected: tuple[int, str, list[str] | None]
) -> None:
    """A problem with a code, a request id, and the field at fault."""
    status, problem = ask(shared, "usage", body, **{"Idempotency_Key": "key", **headers})
    assert (status, problem["code"]) == expected[:2]
    assert problem["request_id"].startswith("req_")
    if expected[2] is not None:
        assert [one["field"] for one in problem.get("errors", [])] == expected[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One product for many requests that take nothing from each other."""
    from tests.support.product import running_product

    with running_product(tmp_path_factory.mktemp("shared") / "data", {"SPEND_DEMO": "auto"}) as running:
        running.spend("customers", "add", "acme")
        running.spend("grants", "add", "acme", "1000000")
        yield running


def test_what_is_no_path_here_is_a_problem(shared: Product) -> None:
    """404 and 405, never anything that a provider could answer."""
    assert ask(shared, "nothing")[1]["code"] == "not_found"
    status, problem = ask(shared, "balance", {})
    assert (status, problem["code"]) == (405, "method_not_allowed")
    assert ask(shared, "balance?a=b")[1]["code"] == "invalid_parameter"
    assert ask(shared, "requests/REQ")[0] == 404
    assert ask(shared, "requests/..")[1]["code"] == "malformed_request"


def test_of_fifty_reports_at_once_a_budget_for_five_admits_five(funded: Product) -> None:
    """Fifty keys race for five steps' worth: exactly five are charged, and the book agrees."""
    answers = all_at_once(lambda number: report(funded, f"race-{number}"), 50)
    assert sorted(status for status, _ in answers) == [200] * 5 + [402] * 45
    assert len(funded.usage("acme")) == 5
    assert report(funded, "one-more")[0] == 402


def test_one_key_fifty_times_at_once_is_booked_once(funded: Product) -> None:
    """L27: all fifty hear the same answer, one charge stands in the book, and four more steps still fit."""
    answers = all_at_once(lambda _: report(funded, "same"), 50)
    assert {status for status, _ in answers} == {200}
    assert len({json.dumps(body, sort_keys=True) for _, body in answers}) == 1
    assert len(funded.usage("acme")) == 1
    assert report(funded, "rest", 4)[0] == 200


def test_a_kill_between_repetitions_changes_nothing(funded: Product) -> None:
    """L27: kill -9 right after the answer; the repetition hears it again, another body hears which field differs."""
    first = report(funded, "lasting", 2)
    assert first[0] == 200
    funded.kill()
    funded.start()
    assert report(funded, "lasting", 2) == first
    status, problem = report(funded, "lasting", 3)
    assert (status, problem["code"]) == (409, "idempotency_mismatch")
    assert [one["field"] for one in problem["errors"]] == ["quantity"]
    status, problem = report(funded, "lasting", 2, Spend_User="bob")
    assert (status, [one["field"] for one in problem["errors"]]) == (409, ["Spend-User"])
    assert len(funded.usage("acme")) == 1
    assert report(funded, "rest", 3)[0] == 200
    assert report(funded, "none-left")[0] == 402


GOOD: dict[str, Any] = {
    "/spend/v1/check": {"feature": "agent_step"},
    "/spend/v1/usage": {"feature": "agent_step", "quantity": 1},
}
"""Answered with 200 for certain. What is drawn at random is not: it depends, derandomized too, on which modules the
process has loaded, because Hypothesis draws on the constants in them, and so on which tests ran in it before."""


def test_the_document_holds(shared: Product) -> None:
    """Schemathesis: whatever is sent, the answer is one that the document has, and never a mistake of ours."""
    schema = schemathesis.openapi.from_url(f"{shared.proxy}/spend/v1/openapi.json")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    answers: set[tuple[str, int]] = set()
    seen: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @operation_given(operation)
        def holds(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("feature"), str) and len(case.body) % 2 == 0:
                case.body["feature"] = "agent_step"  # nobody would guess a name of the catalog
                case.body.pop("model", None)
            headers = dict(case.headers or {}) | {"Spend-Customer": "acme"}
            answer = case.call(headers=headers, timeout=10)
            answers.add((case.operation.path, answer.status_code))
            case.validate_response(answer, checks=checks, headers=headers)

        holds()
        if operation.path in GOOD:
            case = operation.Case(body=GOOD[operation.path], media_type="application/json")
            headers = {"Spend-Customer": "acme", "Idempotency-Key": "a-good-one"}
            answer = case.call(headers=headers, timeout=10)
            answers.add((operation.path, answer.status_code))
            case.validate_response(answer, checks=checks, headers=headers)
        seen.append(operation.path)
    paths = ["check", "usage", "balance", "requests/{request_id}"]
    assert sorted(seen) == sorted(f"/spend/v1/{path}" for path in paths)
    assert {path for path, status in answers if status == 200} >= {f"/spend/v1/{path}" for path in paths[:3]}
    assert {422, 404} <= {status for _, status in answers}


def operation_given(operation: Any) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """Cases of an operation, those that the document allows and those that it does not."""
    from hypothesis import given
    from hypothesis import strategies as st
    from schemathesis import GenerationMode

    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    return given(case=cases)


def test_a_check_of_a_body_tells_three_numbers(funded: Product) -> None:
    """L0: what it may cost, what it hardly ever costs, and, once some were settled, what such calls have cost."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "sheep " * 200}], "max_tokens": 10}
    status, first = ask(funded, "check", {"request": body})
    assert (status, first["allowed"], first["expected_cost"]) == (200, True, None)
    assert 0 < first["likely_cost"]["atoms"] < first["cost"]["atoms"]
    status, wrong = ask(funded, "check", {"request": body, "input_tokens": 3})
    assert (status, wrong["code"]) == (422, "invalid_body")
    status, wrong = ask(funded, "check", {"request": body, "protocol": "smoke signals"})
    assert (status, wrong["errors"][0]["field"]) == (422, "protocol")
    status, wrong = ask(funded, "check", {"request": {"model": 7}})
    assert (status, wrong["errors"][0]["field"]) == (422, "request")
    seen = []
    for _ in range(8):
        head = {"Spend-Customer": "acme", "Content-Type": "application/json"}
        sent = urllib.request.Request(f"{funded.proxy}/v1/chat/completions", json.dumps(body).encode(), head)
        with urllib.request.urlopen(sent, timeout=30) as answer:
            seen.append((answer.headers["Spend-Charge"], answer.headers["Spend-Request-Id"]))
    status, later = ask(funded, "check", {"request": body})
    assert later["expected_cost"]["text"] in {charge for charge, _ in seen}
    assert later["expected_cost"]["atoms"] < later["cost"]["atoms"]
    status, explained = ask(funded, f"requests/{seen[-1][1]}")
    assert explained["expected"]["atoms"] == later["expected_cost"]["atoms"]
