from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.providers.dialect import Shape
from sidecar.proxy.deny import (
    MAX_RETRY_AFTER_MS,
    TABLE,
    DenyOptions,
    deny,
    door_shape,
    refuse,
    shape_of,
    turn_down,
)
from sidecar.proxy.error_bodies import WRITERS
from sidecar.proxy.refusals import Refusal, RefusalReason, Reply
from sidecar.proxy.unfit import Unfit, UnfitReason

USD = Currency("usd", 9)
NOW_MS = 1_795_500_000_000  # 2026-11-24T06:00:00Z
BINDING = Consulted(
    "budget", "bud_1", "acme/team:data", "usd", 5_000_000_000, used=4_500_000_000, held=80_000_000, elsewhere=0,
    remaining=420_000_000, resets_in_ms=3_600_000, child="ada",
)  # fmt: skip


def said(denied: Denied, shape: Shape = Shape.OPENAI, status: int = 402) -> tuple[int, dict[str, str], dict[str, Any]]:
    return read(deny(denied, shape, now_ms=NOW_MS, currencies={"usd": USD}, options=DenyOptions(status)))


def read(reply: Reply) -> tuple[int, dict[str, str], dict[str, Any]]:
    status, headers, body = reply
    names = [name.decode().lower() for name, _ in headers]
    assert len(set(names)) == len(names)
    return status, {name.decode().lower(): value.decode() for name, value in headers}, json.loads(body)


def test_every_reason_has_its_row() -> None:
    """No refusal can be made that the table does not know."""
    assert {*Reason, *RefusalReason, *UnfitReason} == set(TABLE)


@pytest.mark.parametrize(("shape", "header"), [(Shape.OPENAI, "x-request-id"), (Shape.ANTHROPIC, "request-id")])
def test_a_clients_own_request_id_is_ours(shape: Shape, header: str) -> None:
    """What its error shows as `request_id` is what `spend explain` takes."""
    denied = Denied(Reason.CUSTOMER_UNKNOWN, "no", "req_1")
    _, headers, _ = said(denied, shape)
    assert headers[header] == headers["spend-request-id"] == "req_1"


def test_every_shape_has_its_writer() -> None:
    """No protocol is known whose errors nobody can write."""
    assert set(Shape) == set(WRITERS)


def test_statuses_are_those_that_clients_understand() -> None:
    """Never 409 and never 2xx or 3xx; a lasting refusal has no status that clients repeat unasked."""
    for word, row in TABLE.items():
        assert row.status >= 400, word
        assert row.status != 409, word
        if row.status == 429:
            assert row.retry, word


@pytest.mark.parametrize(
    ("reason", "status", "openai_type", "anthropic_type"),
    [
        (Reason.BUDGET_EXCEEDED, 402, "insufficient_quota", "billing_error"),
        (Reason.CREDITS_EXHAUSTED, 402, "insufficient_quota", "billing_error"),
        (Reason.BUDGET_IN_FLIGHT, 429, "rate_limit_error", "rate_limit_error"),
        (Reason.MODEL_NOT_PRICED, 403, "invalid_request_error", "permission_error"),
        (Reason.CUSTOMER_REQUIRED, 400, "invalid_request_error", "invalid_request_error"),
        (Reason.LEDGER_UNAVAILABLE, 503, "server_error", "api_error"),
        (Reason.OVERLOADED, 503, "server_error", "overloaded_error"),
    ],
)
def test_both_protocols_say_it_in_their_own_words(
    reason: Reason, status: int, openai_type: str, anthropic_type: str
) -> None:
    """One row, two bodies; the facts are the same in both."""
    denied = Denied(reason, "because", request_id="req_1")
    openai_status, headers, openai_body = said(denied)
    anthropic_status, _, anthropic_body = said(denied, Shape.ANTHROPIC)
    assert openai_status == anthropic_status == status
    assert (headers["spend-origin"], headers["spend-request-id"]) == ("sidecar", "req_1")
    error = openai_body["error"]
    assert (error["type"], error["code"], error["message"]) == (openai_type, reason.value, "because")
    assert anthropic_body["type"] == "error"
    assert (anthropic_body["error"]["type"], anthropic_body["request_id"]) == (anthropic_type, "req_1")
    assert anthropic_body["error"]["spend"] == error["spend"]
    assert error["spend"]["reason"] == reason.value


@pytest.mark.parametrize(
    ("owner", "level"), [("acme", "customer"), ("acme/team:data", "team"), ("acme/user:ada", "user"), ("", "")]
)
def test_a_freeze_says_whose_it_is(owner: str, level: str) -> None:
    """Rule 4: the scope object, where no budget said no; left out where nobody is named."""
    _, _, body = said(Denied(Reason.NODE_FROZEN, "is frozen", "req_1", owner=owner))
    assert body["error"]["spend"].get("scope") == ({"level": level, "id": owner} if owner else None)


def test_money_says_which_limit_and_what_would_pass() -> None:
    """L34: the binding budget with its numbers, exact and readable, when it resets, all that were asked."""
    denied = Denied(
        Reason.BUDGET_EXCEEDED, "no", "req_1", BINDING, (BINDING, BINDING), 610_000_000, "usd",
        standing_age_ms=5, max_affordable_output_tokens=77,
    )  # fmt: skip
    status, headers, body = said(denied)
    spend = body["error"]["spend"]
    assert status == 402
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert spend["scope"] == {"level": "team", "id": "acme/team:data"}
    assert (spend["limit"], spend["spent"], spend["held"], spend["remaining"]) == ("5.00", "4.50", "0.08", "0.42")
    assert (spend["remaining_atoms"], spend["ceiling"], spend["unit"]) == (420_000_000, "0.61", "usd")
    assert spend["resets_at"] == headers["spend-resets-at"] == "2026-11-24T07:00:00Z"
    assert (spend["child"], spend["standing_age_ms"], spend["max_affordable_output_tokens"]) == ("ada", 5, 77)
    assert [each["owner"] for each in spend["consulted"]] == ["acme/team:data"] * 2


@pytest.mark.parametrize(("wait_ms", "seconds"), [(500, "1"), (2000, "2"), (MAX_RETRY_AFTER_MS, "20")])
def test_a_short_wait_is_asked_for(wait_ms: int, seconds: str) -> None:
    """Both headers, the coarser one rounded up."""
    _, headers, _ = said(Denied(Reason.BUDGET_IN_FLIGHT, "wait", retry_after_ms=wait_ms))
    assert (headers["x-should-retry"], headers["retry-after"]) == ("true", seconds)
    assert headers["retry-after-ms"] == str(wait_ms)


@pytest.mark.parametrize(
    ("reason", "wait_ms"),
    [(Reason.LEDGER_UNAVAILABLE, MAX_RETRY_AFTER_MS + 1), (Reason.LEDGER_UNAVAILABLE, None),
     (Reason.BUDGET_EXCEEDED, 1000)],
)  # fmt: skip
def test_no_client_is_told_to_sleep_long_or_to_try_in_vain(reason: Reason, wait_ms: int | None) -> None:
    """Some clients sleep for whatever they are told; money does not come back by waiting a second."""
    _, headers, _ = said(Denied(reason, "later", retry_after_ms=wait_ms))
    assert headers["x-should-retry"] == "false"
    assert not {"retry-after", "retry-after-ms"} & set(headers)


def test_compat_status_changes_money_only() -> None:
    """Callers wired to rate limits get 429, and are still told not to try again."""
    status, headers, body = said(Denied(Reason.CREDITS_EXHAUSTED, "no"), Shape.ANTHROPIC, status=429)
    assert (status, headers["x-should-retry"], body["error"]["type"]) == (429, "false", "rate_limit_error")
    assert said(Denied(Reason.CUSTOMER_UNKNOWN, "no"), status=429)[0] == 403


def test_other_refusals_come_from_the_same_table() -> None:
    """A body at fault names its field; a provider not reached may be tried again, one that was not."""
    unfit = Unfit(UnfitReason.INVALID_REQUEST, "expected a whole number", param="max_tokens", code="invalid_type")
    status, headers, body = read(turn_down(unfit, Shape.OPENAI, request_id="req_2"))
    assert (status, headers["x-should-retry"]) == (400, "false")
    assert (body["error"]["param"], body["error"]["code"]) == ("max_tokens", "invalid_type")
    for reason, wanted, retry in (
        (RefusalReason.UPSTREAM_UNREACHABLE, 502, "true"),
        (RefusalReason.UPSTREAM_BROKEN, 502, "false"),
        (RefusalReason.UPSTREAM_TIMEOUT, 504, "false"),
        (RefusalReason.BODY_TOO_LARGE, 413, "false"),
        (RefusalReason.BODY_CODING, 415, "false"),
        (RefusalReason.HOST, 421, "false"),
        (RefusalReason.OVERLOADED, 503, "true"),
    ):
        status, headers, body = read(refuse(Refusal(reason, "m"), Shape.ANTHROPIC, request_id="r"))
        assert (status, headers["x-should-retry"]) == (wanted, retry), reason
        assert body["error"]["message"] == "m"


def test_the_shape_is_told_by_path_then_header() -> None:
    """A known path decides; elsewhere the header that only Anthropic's clients send."""
    assert shape_of("/v1/messages?beta=true") is Shape.ANTHROPIC
    assert shape_of("/groq/v1/chat/completions", {b"anthropic-version": b"x"}) is Shape.OPENAI
    assert shape_of("/v1/models", {b"anthropic-version": b"x"}) is Shape.ANTHROPIC
    assert shape_of("/v1/models") is shape_of("") is Shape.OPENAI


def test_the_door_refuses_in_the_callers_protocol() -> None:
    """What the front door is given: a shape by target, an id for each refusal."""

    class Ids:
        def new(self, prefix: str) -> str:
            return f"{prefix}_7"

    _, headers, body = read(door_shape(Ids())("/messages", Refusal(RefusalReason.MALFORMED, "m")))
    assert headers["spend-request-id"] == body["request_id"] == "req_7"
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("reason", "status", "code", "name"),
    [
        (Reason.BUDGET_EXCEEDED, 402, 402, "RESOURCE_EXHAUSTED"),
        (Reason.BUDGET_IN_FLIGHT, 429, 429, "RESOURCE_EXHAUSTED"),
        (Reason.MODEL_NOT_PRICED, 403, 403, "PERMISSION_DENIED"),
        (Reason.CUSTOMER_REQUIRED, 400, 400, "INVALID_ARGUMENT"),
        (Reason.LEDGER_UNAVAILABLE, 503, 503, "UNAVAILABLE"),
    ],
)
def test_gemini_hears_it_in_googles_words(reason: Reason, status: int, code: int, name: str) -> None:
    """A code and its name, the reason as an ErrorInfo; a wait as a RetryInfo, where one was asked for."""
    got, headers, body = said(Denied(reason, "because", request_id="req_1"), Shape.GEMINI)
    error = body["error"]
    assert (got, error["code"], error["status"], error["message"]) == (status, code, name, "because")
    assert error["details"][0]["reason"] == str(reason).upper()
    assert error["spend"]["request_id"] == "req_1"
    waits = [detail["retryDelay"] for detail in error["details"] if detail["@type"].endswith("RetryInfo")]
    assert waits == (["1s"] if reason is Reason.BUDGET_IN_FLIGHT else [])
    assert bool(waits) is ("retry-after-ms" in headers)


def test_what_google_has_no_status_for_is_put_into_its_words() -> None:
    """ERRORS.md: too large is an invalid argument, a provider out of reach is unavailable."""
    for reason, code, name in (
        (RefusalReason.BODY_TOO_LARGE, 400, "INVALID_ARGUMENT"),
        (RefusalReason.UPSTREAM_UNREACHABLE, 503, "UNAVAILABLE"),
        (RefusalReason.UPSTREAM_TIMEOUT, 504, "DEADLINE_EXCEEDED"),
        (RefusalReason.CHARSET, 400, "INVALID_ARGUMENT"),
    ):
        error = read(refuse(Refusal(reason, "no"), Shape.GEMINI, request_id="req_1"))[2]["error"]
        assert (error["code"], error["status"]) == (code, name)
    bad = Unfit(UnfitReason.INVALID_REQUEST, "no", param="maxOutputTokens")
    details = read(turn_down(bad, Shape.GEMINI, request_id="r"))[2]["error"]["details"]
    assert details[0]["metadata"] == {"field": "maxOutputTokens"}


@pytest.mark.parametrize(
    "target",
    [
        "/gemini/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        "/vertex/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
        "/v1beta/interactions",
    ],
)
def test_googles_paths_have_googles_errors(target: str) -> None:
    """Wherever its upstream stands."""
    assert shape_of(target) is Shape.GEMINI


@pytest.mark.parametrize(
    ("denied", "status", "exception"),
    [
        (Denied(Reason.BUDGET_EXCEEDED, "because", request_id="r"), 402, "ServiceQuotaExceededException"),
        (Denied(Reason.BUDGET_IN_FLIGHT, "because", request_id="r"), 429, "ThrottlingException"),
        (Denied(Reason.MODEL_NOT_PRICED, "because", request_id="r"), 403, "AccessDeniedException"),
        (Denied(Reason.CUSTOMER_REQUIRED, "because", request_id="r"), 400, "ValidationException"),
        (Denied(Reason.OUTBOX_FULL, "because", request_id="r"), 503, "ServiceUnavailableException"),
    ],
)
def test_bedrock_hears_it_as_an_exception_of_its_own(denied: Denied, status: int, exception: str) -> None:
    """The exception stands in a header, the sentence in the body; a quota is not tried again, throttling is."""
    got, headers, body = said(denied, Shape.BEDROCK)
    assert (got, headers["x-amzn-errortype"], body["message"]) == (status, exception, "because")
    assert body["spend"]["reason"] == str(denied.reason)
    got, headers, _ = said(Denied(Reason.BUDGET_EXCEEDED, "because", request_id="r"), Shape.BEDROCK, status=429)
    assert (got, headers["x-amzn-errortype"]) == (429, "ServiceQuotaExceededException")
    assert "x-amzn-errortype" not in said(denied, Shape.OPENAI)[1]


@pytest.mark.parametrize("how", ["converse", "converse-stream", "invoke", "count-tokens"])
def test_bedrocks_paths_have_bedrocks_errors(how: str) -> None:
    """Wherever its upstream stands, and whatever is done with a model."""
    assert shape_of(f"/bedrock/model/us.amazon.nova-lite-v1%3A0/{how}") is Shape.BEDROCK


def test_cohere_hears_it_in_its_own_shape() -> None:
    """An id and a message; its paths tell it, and Claude's on Vertex have Anthropic's."""
    status, _, body = said(Denied(Reason.BUDGET_EXCEEDED, "because", request_id="r"), Shape.COHERE)
    assert (status, body["id"], body["message"], body["code"]) == (402, "r", "because", "budget_exceeded")
    assert shape_of("/cohere/v2/chat") is Shape.COHERE
    claude = "/vertex/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict"
    assert shape_of(claude) is Shape.ANTHROPIC
