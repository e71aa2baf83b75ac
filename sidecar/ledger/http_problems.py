"""How the ledger's API says no: every error it knows, as `application/problem+json` (RFC 9457).

One table gives the status of each error, so that no handler chooses one. What is not in the table
is our own mistake: the caller hears `internal_error` and a request id, and never a traceback.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import msgspec

from sidecar.core.credits.amounts import AmountError
from sidecar.errors import (
    Conflict,
    IdempotencyConflict,
    NotFound,
    Rejected,
    SidecarError,
    StaleWrite,
    Unavailable,
    VersionRequired,
)

CONTENT_TYPE: Final = "application/problem+json"

_STATUS_OF_ERROR: Final[tuple[tuple[type[Exception], int], ...]] = (
    (Rejected, 422),
    (AmountError, 422),
    (NotFound, 404),
    (StaleWrite, 412),
    (VersionRequired, 428),
    (Conflict, 409),  # after the kinds of conflict that have a status of their own
    (Unavailable, 503),
)

_STATUS_OF_CODE: Final = {
    "malformed_request": 400,
    "malformed_json": 400,
    "invalid_parameter": 400,
    "invalid_idempotency_key": 400,
    "invalid_cursor": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_body": 422,
    "precondition_required": 428,
    "rate_limited": 429,
    "overloaded": 503,
}

_TITLES: Final = {
    400: "The request is malformed",
    401: "A token is needed",
    403: "This token may not do that",
    404: "Not found",
    405: "This path does not take that method",
    408: "The body took too long",
    409: "The state or the key stands in the way",
    412: "Somebody else changed it first",
    413: "The body is too large",
    415: "The body is in a form not taken here",
    422: "The request is at fault",
    428: "Say which version this changes",
    429: "Too many requests",
    500: "The ledger made a mistake",
    503: "Not now",
}


STATUSES: Final[dict[int, str]] = _TITLES
"""Every status that a refusal can have, and what it means."""


class RequestRefused(SidecarError):
    """A request that is refused before it reaches the ledger's rules.

    `code` is one of `_STATUS_OF_CODE`; `problems` maps a field or parameter to what was expected.
    `headers` go with the answer (`Allow`, `WWW-Authenticate`).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        problems: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        if code not in _STATUS_OF_CODE:
            raise ValueError(f"no status for {code}")
        self.code = code
        self.problems = problems or {}
        self.headers = headers or {}


def wait_for(wait_s: float, why: str) -> RequestRefused:
    """The refusal of a request that came too soon."""
    after = max(1, ceil(wait_s))
    return RequestRefused("rate_limited", f"{why}; ask again in {after} s", headers={"Retry-After": str(after)})


class FieldProblem(msgspec.Struct, frozen=True):
    """One field at fault and what was expected there."""

    field: str
    detail: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a refusal. `code` is for programs, `detail` for people; neither quotes a secret."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: tuple[FieldProblem, ...] = ()
    retry_after_s: int | None = None


class Problem(msgspec.Struct, frozen=True):
    """A refusal, ready to be sent."""

    status: int
    headers: dict[str, str]
    body: bytes


def problem_of(error: Exception, request_id: str) -> Problem:
    """The refusal that an error becomes; 500 `internal_error` for what no table names.

    Args:
        error: what a handler raised.
        request_id: shown in the body, so that a report can be found in the log.
    """
    status, code, problems, headers = _facts(error)
    retry_after_s = int(headers["Retry-After"]) if "Retry-After" in headers else None
    detail = str(error) if status != 500 else "this is not the caller's fault; the log has the request id"
    body = ProblemBody(
        type="about:blank",
        title=_TITLES[status],
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        errors=tuple(FieldProblem(field, what) for field, what in problems.items()),
        retry_after_s=retry_after_s,
    )
    return Problem(status, headers, msgspec.json.encode(body))


def _facts(error: Exception) -> tuple[int, str, dict[str, str], dict[str, str]]:
    """Status, code, problems by field, and headers."""
    if isinstance(error, RequestRefused):
        headers = error.headers | ({"Retry-After": "1"} if error.code == "overloaded" else {})
        return _STATUS_OF_CODE[error.code], error.code, error.problems, headers
    status = next((status for kind, status in _STATUS_OF_ERROR if isinstance(error, kind)), 500)
    if isinstance(error, Rejected):
        return _STATUS_OF_CODE.get(error.code, status), error.code, error.problems, {}
    if isinstance(error, AmountError):
        return status, "invalid_amount", {"amount": str(error)}, {}
    if isinstance(error, NotFound):
        return status, "not_found", {error.what: f"{error.name!r} does not exist"}, {}
    if isinstance(error, IdempotencyConflict):
        return status, error.code, {error.field: "differs from what this key came with before"}, {}
    if isinstance(error, VersionRequired):
        return status, error.code, {"If-Match": "required"}, {"ETag": f'"{error.version}"'}
    if isinstance(error, Conflict):
        return status, error.code, {}, {}
    if isinstance(error, Unavailable):
        return status, "ledger_unavailable", {}, {"Retry-After": str(max(1, ceil(error.retry_after_s)))}
    return 500, "internal_error", {}, {}
