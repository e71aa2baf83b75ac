"""The body of a refusal, written as each protocol writes its errors.

Our own facts ride inside, in the part of a body that every client keeps: the object `spend`.

Sources: the error sections of the OpenAI and Anthropic API references, checked 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sidecar.providers.dialect import Shape

_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Row:
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


def error_body(shape: Shape, row: Row, said: Said) -> bytes:
    """The body, in JSON."""
    return _ENCODER.encode(WRITERS[shape](row, said))


def _openai(row: Row, said: Said) -> dict[str, Any]:
    error = {"message": said.message, "type": row.openai_type, "param": said.param or None, "code": said.code}
    return {"error": error | {"spend": said.spend}}


def _anthropic(row: Row, said: Said) -> dict[str, Any]:
    error = {"type": row.anthropic_type, "message": said.message, "spend": said.spend}
    return {"type": "error", "error": error, "request_id": said.request_id}


WRITERS: Final[Mapping[Shape, Callable[[Row, Said], dict[str, Any]]]] = {
    Shape.OPENAI: _openai,
    Shape.ANTHROPIC: _anthropic,
}
"""One for every shape; a test holds them against each other."""
