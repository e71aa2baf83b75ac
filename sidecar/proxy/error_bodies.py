"""The body of a refusal, written as each protocol writes its errors.

Our own facts ride inside, in the part of a body that every client keeps: the object `spend`.

Sources: the error sections of the OpenAI and Anthropic API references, googleapis/api-common-protos
`google/rpc/error_details.proto` and `code.proto`, boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json` and
`retries/standard.py` (which errors it sends again); checked 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from sidecar.providers.dialect import Shape

_ENCODER: Final = msgspec.json.Encoder()


class Row(msgspec.Struct, frozen=True):
    """One kind of refusal: its status, the word each protocol has for it, and whether trying again may help.

    `wait_ms` is the wait asked for where the denial itself names none.
    """

    status: int
    openai_type: str
    anthropic_type: str
    retry: bool = False
    wait_ms: int | None = None


class Said(msgspec.Struct, frozen=True):
    """What a body must say: the machine's word, a sentence, the field at fault, and our own facts."""

    code: str
    message: str
    request_id: str
    spend: Mapping[str, Any]
    param: str = ""
    wait_ms: int | None = None
    """After so long trying again may help; None: it may not, or nobody knows when."""


def error_body(shape: Shape, row: Row, said: Said) -> bytes:
    """The body, in JSON."""
    return _ENCODER.encode(WRITERS[shape](row, said))


def _openai(row: Row, said: Said) -> dict[str, Any]:
    error = {"message": said.message, "type": row.openai_type, "param": said.param or None, "code": said.code}
    return {"error": error | {"spend": said.spend}}


def _ollama(row: Row, said: Said) -> dict[str, Any]:
    """Its clients take the error itself for the message."""
    return {"error": said.message, "type": row.openai_type, "code": said.code, "spend": said.spend}


def _anthropic(row: Row, said: Said) -> dict[str, Any]:
    error = {"type": row.anthropic_type, "message": said.message, "spend": said.spend}
    return {"type": "error", "error": error, "request_id": said.request_id}


_GOOGLES: Final[Mapping[int, tuple[int, str]]] = {
    400: (400, "INVALID_ARGUMENT"),
    401: (401, "UNAUTHENTICATED"),
    402: (402, "RESOURCE_EXHAUSTED"),
    403: (403, "PERMISSION_DENIED"),
    404: (404, "NOT_FOUND"),
    408: (408, "DEADLINE_EXCEEDED"),
    413: (400, "INVALID_ARGUMENT"),
    429: (429, "RESOURCE_EXHAUSTED"),
    500: (500, "INTERNAL"),
    501: (501, "UNIMPLEMENTED"),
    502: (503, "UNAVAILABLE"),
    503: (503, "UNAVAILABLE"),
    504: (504, "DEADLINE_EXCEEDED"),
    505: (501, "UNIMPLEMENTED"),
}
"""By HTTP's status: Google's code, and its name; any other that begins with 4 is INVALID_ARGUMENT."""

_TYPES: Final = "type.googleapis.com/google.rpc."


def _gemini(row: Row, said: Said) -> dict[str, Any]:
    code, status = _GOOGLES.get(row.status, (400, "INVALID_ARGUMENT"))
    info = {"@type": f"{_TYPES}ErrorInfo", "reason": said.code.upper(), "domain": "spend-sidecar"}
    details: list[dict[str, Any]] = [info | ({"metadata": {"field": said.param}} if said.param else {})]
    if said.wait_ms is not None:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{said.wait_ms / 1000:g}s"})
    error = {"code": code, "message": said.message, "status": status, "details": details, "spend": said.spend}
    return {"error": error}


_AMAZONS: Final[Mapping[int, str]] = {
    401: "AccessDeniedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    500: "InternalServerException",
    502: "ServiceUnavailableException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
"""By HTTP's status: the exception of Amazon's clients; any other is a ValidationException."""


def amazons_type(row: Row, *, retry: bool) -> str:
    """The exception that Amazon's clients raise: throttling is tried again by them, a quota is not."""
    if row.status == 429:
        return "ThrottlingException" if retry else "ServiceQuotaExceededException"
    return _AMAZONS.get(row.status, "ValidationException")


def _bedrock(row: Row, said: Said) -> dict[str, Any]:
    del row  # its exception stands in a header
    return {"message": said.message, "code": said.code, "spend": said.spend}


def _cohere(row: Row, said: Said) -> dict[str, Any]:
    del row
    return {"id": said.request_id, "message": said.message, "code": said.code, "spend": said.spend}


WRITERS: Final[Mapping[Shape, Callable[[Row, Said], dict[str, Any]]]] = {
    Shape.OPENAI: _openai,
    Shape.ANTHROPIC: _anthropic,
    Shape.OLLAMA: _ollama,
    Shape.GEMINI: _gemini,
    Shape.BEDROCK: _bedrock,
    Shape.COHERE: _cohere,
}
"""One for every shape; a test holds them against each other."""
