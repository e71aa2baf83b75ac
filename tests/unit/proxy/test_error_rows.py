"""Every kind of refusal in every protocol: its status, its word, whether it may be tried again."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.providers.dialect import Shape
from sidecar.proxy.deny import TABLE, DenyOptions, deny, refuse, turn_down
from sidecar.proxy.refusals import Refusal, RefusalReason, Reply
from sidecar.proxy.unfit import Unfit, UnfitReason

ROWS: Final = """
budget_exceeded          402 no  insufficient_quota    billing_error         402 RESOURCE_EXHAUSTED ServiceQuotaExceededException
credit_balance_exhausted 402 no  insufficient_quota    billing_error         402 RESOURCE_EXHAUSTED ServiceQuotaExceededException
request_exceeds_budget   402 no  insufficient_quota    billing_error         402 RESOURCE_EXHAUSTED ServiceQuotaExceededException
budget_in_flight         429 1s  rate_limit_error      rate_limit_error      429 RESOURCE_EXHAUSTED ThrottlingException
rate_limit_exceeded      429 3s  rate_limit_error      rate_limit_error      429 RESOURCE_EXHAUSTED ThrottlingException
model_not_entitled       403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
model_not_priced         403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
request_not_boundable    403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
customer_unknown         403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
node_frozen              403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
too_many_subjects        403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
customer_required        400 no  invalid_request_error invalid_request_error 400 INVALID_ARGUMENT   ValidationException
subject_conflict         400 no  invalid_request_error invalid_request_error 400 INVALID_ARGUMENT   ValidationException
invalid_api_key          401 no  authentication_error  authentication_error  401 UNAUTHENTICATED    AccessDeniedException
ledger_unavailable       503 2s  server_error          api_error             503 UNAVAILABLE        ServiceUnavailableException
outbox_full              503 no  server_error          api_error             503 UNAVAILABLE        ServiceUnavailableException
upstream_unreachable     502 yes server_error          api_error             503 UNAVAILABLE        ServiceUnavailableException
upstream_timeout         504 no  server_error          timeout_error         504 DEADLINE_EXCEEDED  ModelTimeoutException
body_too_large           413 no  invalid_request_error request_too_large     400 INVALID_ARGUMENT   ValidationException
invalid_request          400 no  invalid_request_error invalid_request_error 400 INVALID_ARGUMENT   ValidationException
endpoint_not_metered     403 no  invalid_request_error permission_error      403 PERMISSION_DENIED  AccessDeniedException
answer_not_found         404 no  invalid_request_error not_found_error       404 NOT_FOUND          ResourceNotFoundException
sidecar_overloaded       503 1s  server_error          overloaded_error      503 UNAVAILABLE        ServiceUnavailableException
"""  # noqa: E501 - a table
"""Word, status, wait; OpenAI's and Anthropic's `type`, Google's code and status, Amazon's exception."""

TABLED: Final = [line.split() for line in ROWS.splitlines() if line]
NOT_IN_A_PLAN: Final = "model_not_entitled"
"""There are no plans yet, so nothing is refused by this word."""


def answered(word: str, wait: str, shape: Shape) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The refusal with this word, made by the part that makes it."""
    reply: Reply
    reason = next(known for known in TABLE if str(known) == word)
    if isinstance(reason, Reason):
        wait_ms = int(wait[:-1]) * 1000 if wait[:-1].isdigit() else None
        denied = Denied(reason, "because", request_id="req_1", retry_after_ms=wait_ms)
        reply = deny(denied, shape, now_ms=0, currencies={}, options=DenyOptions())
    elif isinstance(reason, UnfitReason):
        reply = turn_down(Unfit(reason, "because"), shape, request_id="req_1")
    else:
        assert isinstance(reason, RefusalReason)
        reply = refuse(Refusal(reason, "because"), shape, request_id="req_1")
    status, headers, body = reply
    return status, {name.decode().lower(): value.decode() for name, value in headers}, json.loads(body)


def words_of(shape: Shape, headers: dict[str, str], body: dict[str, Any]) -> tuple[str, ...]:
    """What tells the kind of an error in this protocol, and the sentence."""
    if shape is Shape.OPENAI:
        return body["error"]["type"], body["error"]["code"], body["error"]["message"]
    if shape is Shape.ANTHROPIC:
        return body["type"], body["error"]["type"], body["error"]["message"]
    if shape is Shape.GEMINI:
        return str(body["error"]["code"]), body["error"]["status"], body["error"]["message"]
    if shape is Shape.BEDROCK:
        return headers["x-amzn-errortype"], body["message"]
    if shape is Shape.OLLAMA:
        return body["type"], body["code"], body["error"]
    return body["code"], body["message"]


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize(
    "row", [row for row in TABLED if row[0] in {str(reason) for reason in TABLE}], ids=lambda r: r[0]
)
def test_every_row_in_every_protocol(row: list[str], shape: Shape) -> None:
    """Status, word and sentence; and what the clients that look at it are told of trying again."""
    word, status, wait, openai, anthropic, code, google, amazon = row
    got, headers, body = answered(word, wait, shape)
    said = {
        Shape.OPENAI: (openai, word, "because"), Shape.ANTHROPIC: ("error", anthropic, "because"),
        Shape.GEMINI: (code, google, "because"), Shape.BEDROCK: (amazon, "because"),
        Shape.OLLAMA: (openai, word, "because"), Shape.COHERE: (word, "because"),
    }  # fmt: skip
    assert (got, words_of(shape, headers, body)) == (int(status), said[shape])
    assert (headers["spend-origin"], headers["content-type"]) == ("sidecar", "application/json")
    assert headers["x-should-retry"] == ("false" if wait == "no" else "true")
    assert headers.get("retry-after") == (wait[:-1] if wait.endswith("s") and wait != "yes" else None)
    spend = body["spend"] if shape in {Shape.BEDROCK, Shape.COHERE, Shape.OLLAMA} else body["error"]["spend"]
    assert spend["request_id"] == headers["spend-request-id"] == "req_1"


def test_no_row_is_missing() -> None:
    """Each reason has its row here, or is one of the doors' own, whose status alone tells what is wrong."""
    of_the_doors = {str(reason) for reason in RefusalReason}
    missing = {str(reason) for reason in TABLE} - {row[0] for row in TABLED} - of_the_doors
    assert missing == {
        "debt_limit_reached",
        "invalid_subject",
        "malformed_path",
        "no_limit_applies",
        "provider_key_missing",
    }
    assert {row[0] for row in TABLED} - {str(reason) for reason in TABLE} == {NOT_IN_A_PLAN}
