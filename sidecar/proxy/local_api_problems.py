"""How /spend/v1/ says no: everything as `application/problem+json` (RFC 9457), its status from a table."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.ports import Ids
from sidecar.proxy.denial_texts import resets_at
from sidecar.proxy.deny import CHALLENGE, MAX_RETRY_AFTER_MS, TABLE
from sidecar.proxy.local_api_types import FieldProblem, Limit, Problem, amount
from sidecar.proxy.refusals import Header, Refusal, RefusalShape, Reply
from sidecar.proxy.unfit import Unfit

ROOT: Final = "/spend/"
"""What these paths begin with; all below it is answered here, and never by a provider."""

LOCAL_BODY_BYTES_MAX: Final = 64 * 1024
"""Of a request's body there; the door reads no more of one."""

_CODES: Final[Mapping[str, str]] = {
    Reason.CREDITS_EXHAUSTED: "insufficient_credits",
    Reason.REQUEST_EXCEEDS_BUDGET: "budget_exceeded",
}
"""The words of our own APIs, where those of a model call differ; `reason` has the finer one."""

_STATUSES: Final[Mapping[str, int]] = {
    "malformed_json": 400,
    "invalid_parameter": 400,
    "invalid_idempotency_key": 400,
    "subject_conflict": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_mismatch": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_body": 422,
    "invalid_amount": 422,
    "unit_mismatch": 422,
    "feature_unknown": 422,
    "ledger_unavailable": 503,
    "sidecar_overloaded": 503,
}

STATUSES: Final = tuple(sorted({*_STATUSES.values(), *(row.status for row in TABLE.values())}))
"""Every status that a refusal here may have."""


class Refused(Exception):
    """A request to /spend/v1/ that is refused; `problems` maps a field to what was expected there."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        problems: Mapping[str, str] | None = None,
        retry_after_s: int | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = _STATUSES[code]
        self.problems = problems or {}
        self.retry_after_s = retry_after_s
        self.allow = allow


def refused(error: Refused, request_id: str) -> Reply:
    """The answer to a request at fault."""
    problem = _problem(
        error.status, error.code, str(error), request_id, problems=error.problems, retry_after_s=error.retry_after_s
    )
    return _reply(problem, [(b"Allow", error.allow.encode())] if error.allow else [])


def unfit(what: Unfit, request_id: str) -> Reply:
    """The answer to a request whose head cannot be read as a subject."""
    problems = {what.param: what.message} if what.param else {}
    code, status = what.code or str(what.reason), TABLE[what.reason].status
    problem = _problem(status, code, what.message, request_id, problems=problems)
    return _reply(problem, [CHALLENGE] if status == 401 else [])


def denied(what: Denied, *, now_ms: int, currencies: Mapping[str, Currency]) -> Reply:
    """The answer where a decision was no."""
    row = TABLE[what.reason]
    wait_ms = row.wait_ms if what.retry_after_ms is None else what.retry_after_ms
    retry_after_s = None
    if row.retry and wait_ms is not None and wait_ms <= MAX_RETRY_AFTER_MS:
        retry_after_s = -(-wait_ms // 1000)
    currency = currencies.get(what.currency)
    plain = _problem(row.status, code_of(what.reason), what.detail, what.request_id, retry_after_s=retry_after_s)
    return _reply(
        msgspec.structs.replace(
            plain,
            reason=str(what.reason),
            cost=None if what.ceiling_atoms is None or currency is None else amount(what.ceiling_atoms, currency),
            consulted=limits_of(what.consulted, now_ms, currencies),
        )
    )


def internal(request_id: str) -> Reply:
    """The answer to a mistake of our own; the log has it."""
    detail = "this is not the caller's fault; the log has the request id"
    return _reply(_problem(500, "internal_error", detail, request_id))


def code_of(reason: Reason) -> str:
    """The word that our own APIs have for a reason."""
    return _CODES.get(reason, str(reason))


def local_shape(others: RefusalShape, ids: Ids) -> RefusalShape:
    """The front door's refusals: problems for these paths, and `others` for what providers' clients send."""

    def shape(target: str, refusal: Refusal) -> Reply:
        if not target.startswith(ROOT):
            return others(target, refusal)
        row = TABLE[refusal.reason]
        wait_s = -(-row.wait_ms // 1000) if row.retry and row.wait_ms is not None else None
        return _reply(_problem(row.status, str(refusal.reason), refusal.message, ids.new("req"), retry_after_s=wait_s))

    return shape


def limits_of(consulted: tuple[Consulted, ...], now_ms: int, currencies: Mapping[str, Currency]) -> tuple[Limit, ...]:
    """Budgets and grants as they stood, for showing; figures in a currency that the catalog lacks are left out."""
    return tuple(_limit(one, now_ms, currencies.get(one.currency)) for one in consulted)


def answered(shown: object, request_id: str, *, more: tuple[Header, ...] = ()) -> Reply:
    """A good answer."""
    return 200, [*_headers(b"application/json", request_id), *more], msgspec.json.encode(shown)


def _limit(one: Consulted, now_ms: int, currency: Currency | None) -> Limit:
    limit, used, held, elsewhere, left = (
        None if atoms is None or currency is None else amount(atoms, currency)
        for atoms in (one.limit, one.used, one.held, one.elsewhere, one.remaining)
    )
    return Limit(
        one.kind, one.id, one.owner, one.child, one.hard, one.cadence.value, limit, used, held, elsewhere, left,
        None if one.resets_in_ms is None else resets_at(now_ms, one.resets_in_ms),
    )  # fmt: skip


def _problem(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    *,
    problems: Mapping[str, str] | None = None,
    retry_after_s: int | None = None,
) -> Problem:
    return Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        errors=tuple(FieldProblem(field, what) for field, what in (problems or {}).items()),
        retry_after_s=retry_after_s,
    )


def _reply(problem: Problem, more: list[Header] | None = None) -> Reply:
    headers = _headers(b"application/problem+json", problem.request_id) + (more or [])
    if problem.retry_after_s is not None:
        headers.append((b"Retry-After", b"%d" % problem.retry_after_s))
    return problem.status, headers, msgspec.json.encode(problem)


def _headers(content_type: bytes, request_id: str) -> list[Header]:
    return [
        (b"Content-Type", content_type),
        (b"Spend-Origin", b"sidecar"),
        (b"Spend-Request-Id", request_id.encode()),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
