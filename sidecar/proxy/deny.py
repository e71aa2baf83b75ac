"""How we say no: every refusal of our own, in the shape of the protocol that the caller speaks.

The status decides whether a client tries again. The OpenAI and Anthropic clients repeat 408, 409,
429 and 5xx unless `x-should-retry: false` stands there; others do not look at it, so a lasting
refusal must have a status that nobody repeats: 402 for money, 403 for what is not allowed. Two
clients sleep for as long as `Retry-After` says, so no more than 20 s is ever asked of them; longer
waits stand in the body and in `Spend-Resets-At`.

Source: openai-python `_base_client.py`, anthropic-sdk-python `_base_client.py` (`_should_retry`,
`_calculate_retry_timeout`), Vercel AI SDK `retry-with-exponential-backoff`, checked 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.ports import Ids
from sidecar.providers.dialect import Shape
from sidecar.providers.registry import shape_at
from sidecar.proxy.denial_texts import resets_at
from sidecar.proxy.error_bodies import Row, Said, amazons_type, error_body
from sidecar.proxy.rate_facts import RATE_LIMIT, rate_facts, rate_headers
from sidecar.proxy.refusals import Header, Refusal, RefusalReason, RefusalShape, Reply
from sidecar.proxy.unfit import Unfit, UnfitReason

MAX_RETRY_AFTER_MS: Final = 20_000
"""The longest wait that we ask of a client in a header: some obey whatever it says."""

CHALLENGE: Final[Header] = (b"WWW-Authenticate", b"Bearer")
"""What goes with 401. Source: RFC 9110, section 15.5.2, checked 2026-11."""

_MONEY = Row(402, "insufficient_quota", "billing_error")
_FORBIDDEN = Row(403, "invalid_request_error", "permission_error")
_KEY = Row(401, "authentication_error", "authentication_error")
_BAD = Row(400, "invalid_request_error", "invalid_request_error")
_OVERLOADED = Row(503, "server_error", "overloaded_error", retry=True, wait_ms=1000)


def _like_bad(status: int, *, retry: bool = False) -> Row:
    return Row(status, _BAD.openai_type, _BAD.anthropic_type, retry)


TABLE: Final[Mapping[str, Row]] = {
    # money
    Reason.BUDGET_EXCEEDED: _MONEY,
    Reason.CREDITS_EXHAUSTED: _MONEY,
    Reason.REQUEST_EXCEEDS_BUDGET: _MONEY,
    Reason.DEBT_LIMIT: _MONEY,
    Reason.BUDGET_IN_FLIGHT: Row(429, "rate_limit_error", "rate_limit_error", retry=True, wait_ms=1000),
    Reason.RATE_LIMITED: Row(429, "rate_limit_error", "rate_limit_error", retry=True),
    # not allowed
    UnfitReason.INVALID_API_KEY: _KEY,
    UnfitReason.PROVIDER_KEY_MISSING: _FORBIDDEN,
    Reason.CUSTOMER_UNKNOWN: _FORBIDDEN,
    Reason.NODE_FROZEN: _FORBIDDEN,
    Reason.TOO_MANY_SUBJECTS: _FORBIDDEN,
    Reason.MODEL_NOT_PRICED: _FORBIDDEN,
    Reason.REQUEST_NOT_BOUNDABLE: _FORBIDDEN,
    Reason.NO_LIMIT_APPLIES: _FORBIDDEN,
    UnfitReason.ENDPOINT_NOT_METERED: _FORBIDDEN,
    RefusalReason.BROWSER: _FORBIDDEN,
    # the request itself
    Reason.CUSTOMER_REQUIRED: _BAD,
    Reason.SUBJECT_CONFLICT: _BAD,
    UnfitReason.INVALID_SUBJECT: _BAD,
    UnfitReason.INVALID_REQUEST: _BAD,
    UnfitReason.ANSWER_NOT_FOUND: Row(404, "invalid_request_error", "not_found_error"),
    UnfitReason.MALFORMED_PATH: _BAD,
    RefusalReason.MALFORMED: _BAD,
    RefusalReason.REPEATED_HEADER: _BAD,
    RefusalReason.HEAD_TOO_SLOW: _like_bad(408, retry=True),  # nothing of it was used: repeating is safe
    RefusalReason.BODY_TOO_SLOW: _like_bad(408, retry=True),
    RefusalReason.BODY_TOO_LARGE: Row(413, "invalid_request_error", "request_too_large"),
    RefusalReason.BODY_CODING: _like_bad(415),
    RefusalReason.MEDIA_TYPE: _like_bad(415),
    RefusalReason.CHARSET: _like_bad(415),
    RefusalReason.EXPECTATION: _like_bad(417),
    RefusalReason.HOST: _like_bad(421),
    RefusalReason.HEAD_TOO_LARGE: _like_bad(431),
    RefusalReason.TRANSFER_CODING: _like_bad(501),
    RefusalReason.UPGRADE: _like_bad(501),
    RefusalReason.VERSION: _like_bad(505),
    # we cannot decide, or not now
    Reason.LEDGER_UNAVAILABLE: Row(503, "server_error", "api_error", retry=True),
    Reason.OUTBOX_FULL: Row(503, "server_error", "api_error"),
    Reason.OVERLOADED: _OVERLOADED,  # and RefusalReason.OVERLOADED: the same word
    RefusalReason.INTERNAL: Row(500, "server_error", "api_error"),
    # the provider
    RefusalReason.UPSTREAM_UNREACHABLE: Row(502, "server_error", "api_error", retry=True),
    RefusalReason.UPSTREAM_BROKEN: Row(502, "server_error", "api_error"),
    RefusalReason.UPSTREAM_TIMEOUT: Row(504, "server_error", "timeout_error"),
}
"""Every refusal there is, by its word. A test holds every reason against it."""


@dataclass(frozen=True, slots=True)
class DenyOptions:
    """`compat_status` is the status of refusals for money: 402, or 429 for callers wired to rate limits."""

    compat_status: int = 402


def shape_of(target: str, fields: Mapping[bytes, bytes] | None = None) -> Shape:
    """The protocol a caller speaks, told by its path or else by a header that only one of them has."""
    shape = shape_at(target.partition("?")[0])
    if shape is None:
        return Shape.ANTHROPIC if fields and b"anthropic-version" in fields else Shape.OPENAI
    return shape


def deny(
    denied: Denied, shape: Shape, *, now_ms: int, currencies: Mapping[str, Currency], options: DenyOptions
) -> Reply:
    """The answer to a call that may not run.

    Args:
        denied: the decision; its `request_id` stands in the answer.
        shape: the protocol to write it in.
        now_ms: the wall clock (Unix ms), to tell when the binding limit starts anew.
        currencies: by code, to write amounts as decimals.
        options: how money is refused.
    """
    row = TABLE[denied.reason]
    if row.status == 402 and options.compat_status == 429:
        row = Row(429, row.openai_type, "rate_limit_error")
    wait_ms = row.wait_ms if denied.retry_after_ms is None else denied.retry_after_ms
    retry = row.retry and wait_ms is not None and wait_ms <= MAX_RETRY_AFTER_MS  # a denial without a wait is lasting
    facts = _spend(denied, now_ms, currencies)
    headers = _headers(denied.request_id, shape, row, retry=retry, wait_ms=wait_ms if retry else None)
    if "resets_at" in facts:
        headers.append((b"Spend-Resets-At", facts["resets_at"].encode()))
    headers += rate_headers(denied.binding)
    waited = wait_ms if retry else None
    body = error_body(shape, row, Said(str(denied.reason), denied.detail, denied.request_id, facts, wait_ms=waited))
    return row.status, headers, body


def turn_down(unfit: Unfit, shape: Shape, *, request_id: str) -> Reply:
    """The answer to a request that cannot be taken."""
    row = TABLE[unfit.reason]
    facts = {"reason": str(unfit.reason), "request_id": request_id}
    code = unfit.code or str(unfit.reason)
    body = error_body(shape, row, Said(code, unfit.message, request_id, facts, unfit.param))
    headers = _headers(request_id, shape, row, retry=False)
    if row.status == 401:
        headers.append(CHALLENGE)
    return row.status, headers, body


def refuse(refusal: Refusal, shape: Shape, *, request_id: str) -> Reply:
    """The answer to what a door refused: hostile framing, too much of something, a provider not reached."""
    row = TABLE[refusal.reason]
    facts = {"reason": refusal.reason.value, "request_id": request_id}
    body = error_body(shape, row, Said(refusal.reason.value, refusal.message, request_id, facts, wait_ms=row.wait_ms))
    return row.status, _headers(request_id, shape, row, retry=row.retry, wait_ms=row.wait_ms), body


def door_shape(ids: Ids) -> RefusalShape:
    """What the front door needs to refuse in the caller's protocol; each refusal gets an id of its own."""

    def shape(target: str, refusal: Refusal) -> Reply:
        return refuse(refusal, shape_of(target), request_id=ids.new("req"))

    return shape


_REQUEST_ID: Final = {Shape.OPENAI: b"x-request-id", Shape.ANTHROPIC: b"request-id"}
"""Where a protocol's own clients look for what they show as an error's `request_id`.
Source: `_exceptions.py` of openai 3.57 and anthropic 2.14, read on 27 November 2026."""


def _headers(request_id: str, shape: Shape, row: Row, *, retry: bool, wait_ms: int | None = None) -> list[Header]:
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Spend-Origin", b"sidecar"),
        (b"Spend-Request-Id", request_id.encode()),
        (b"x-should-retry", b"true" if retry else b"false"),
    ]
    if shape in _REQUEST_ID:
        headers.append((_REQUEST_ID[shape], request_id.encode()))
    if shape is Shape.BEDROCK:
        headers.append((b"x-amzn-ErrorType", amazons_type(row, retry=retry).encode()))
    if wait_ms is not None:
        headers.append((b"Retry-After", b"%d" % -(-wait_ms // 1000)))  # whole seconds, rounded up
        headers.append((b"retry-after-ms", b"%d" % wait_ms))  # wins where both stand
    return headers


def _spend(denied: Denied, now_ms: int, currencies: Mapping[str, Currency]) -> dict[str, Any]:
    """The facts of a decision; what is not known is left out."""
    facts: dict[str, Any] = {"reason": str(denied.reason), "request_id": denied.request_id}
    if denied.binding is not None:
        facts["scope"] = _scope(denied.binding.owner)
        facts |= _account(denied.binding, now_ms, currencies)
    elif denied.owner:
        facts["scope"] = _scope(denied.owner)
    if denied.currency:
        facts["currency"] = denied.currency
    if denied.ceiling_atoms is not None:
        facts |= _amount("ceiling", denied.ceiling_atoms, currencies.get(denied.currency))
    if denied.standing_age_ms is not None:
        facts["standing_age_ms"] = denied.standing_age_ms
    if denied.max_affordable_output_tokens is not None:
        facts["max_affordable_output_tokens"] = denied.max_affordable_output_tokens
    if denied.consulted:
        facts["consulted"] = [
            {"kind": each.kind, "id": each.id, "owner": each.owner, "hard": each.hard}
            | _account(each, now_ms, currencies)
            for each in denied.consulted
        ]
    return facts


def _account(consulted: Consulted, now_ms: int, currencies: Mapping[str, Currency]) -> dict[str, Any]:
    """How one budget or grant stands. `held` is by open calls here, `elsewhere` by other sidecars."""
    currency = currencies.get(consulted.currency)
    facts: dict[str, Any] = {"unit": consulted.currency}
    if consulted.kind == RATE_LIMIT:
        return rate_facts(consulted) | _resets(consulted, now_ms)
    if consulted.child:
        facts["child"] = consulted.child
    for name, atoms in (
        ("limit", consulted.limit),
        ("spent", consulted.used),
        ("held", consulted.held),
        ("elsewhere", consulted.elsewhere),
        ("remaining", consulted.remaining),
    ):
        if atoms is not None:
            facts |= _amount(name, atoms, currency)
    return facts | _resets(consulted, now_ms)


def _resets(consulted: Consulted, now_ms: int) -> dict[str, str]:
    return {} if consulted.resets_in_ms is None else {"resets_at": resets_at(now_ms, consulted.resets_in_ms)}


def _amount(name: str, atoms: int, currency: Currency | None) -> dict[str, Any]:
    """An amount as decimal text, and exactly in atoms."""
    text = {} if currency is None else {name: format_amount(atoms, currency)}
    return text | {f"{name}_atoms": atoms}


def _scope(owner: str) -> dict[str, str]:
    """Whose limit or freeze it is: the level is `customer`, or the kind of the innermost node of its path."""
    _, slash, path = owner.rpartition("/")
    return {"level": path.partition(":")[0] if slash else "customer", "id": owner}
