"""Log lines: one per event, on standard error, with secrets taken out at the very end.

An event is a word (`request_settled`) and its facts. They are given as
`logger.info("request_settled", extra={"facts": {...}})`; a line is only put together if somebody
wants it. Redaction works on the finished line, whoever wrote it, so that a key inside an
exception's text or another library's message is caught too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

MAX_LINE_CHARACTERS: Final = 8192
"""A longer line is cut: what is logged is ours, so a longer one is a mistake."""

MAX_TRACE_FRAMES: Final = 12
"""Innermost frames of a fault of ours that are written."""

REDACTED: Final = "[redacted]"

_SECRETS: Final = re.compile(
    r"\bsk-[A-Za-z0-9_-]{4,}"  # OpenAI, Anthropic and most that copy them; ours too (sk-spend-…)
    r"|\bAIza[A-Za-z0-9_-]{16,}"  # Google
    r"|\bspend_(?:admin|sidecar)_[a-z0-9_]{8,}"  # ours, for the ledger
    r"|\b(?:gsk|xai|pplx|r8|hf|ghp|gho)[-_][A-Za-z0-9]{8,}"
    r"|\bey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # a JWT
)
_CREDENTIALS: Final = re.compile(
    r"((?:authorization|x-api-key|x-goog-api-key|api[-_]key|cookie)\\?[\"']?\s*[:=,]\s*(?:b?\\?[\"'])?)"
    r"(?:(?:bearer|basic)\s+)?[^\s\"',;\\)}]+",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+[^\s\"',;\\)}]+", re.IGNORECASE)
_QUERY_KEY: Final = re.compile(r"([?&]key=)[^&\s\"']+", re.IGNORECASE)
_LOADED: Final[list[Callable[[], Iterable[str]]]] = []
"""Who knows secrets that this process has loaded; asked at each line, as keys are rotated."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:@/+-]+", re.ASCII)

_OURS: Final = "sidecar"
_NOISY: Final = ("aiohttp", "asyncio", "aiohttp.server", "aiohttp.access")


def redact_also(secrets: Callable[[], Iterable[str]]) -> Callable[[], None]:
    """Take these out of every line from now on, verbatim; gives what ends it, once their owner is gone."""
    _LOADED.append(secrets)
    return lambda: _LOADED.remove(secrets)


def loaded_secrets() -> list[str]:
    """Every secret that somebody has told of, the longest first: a part of one must not hide the rest of it."""
    return sorted({secret for secrets in tuple(_LOADED) for secret in secrets()}, key=len, reverse=True)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without anything that looks like a credential, and without `secrets` verbatim."""
    for secret in secrets:
        if len(secret) >= 8:  # a shorter one would blacken ordinary words
            text = text.replace(secret, REDACTED)
    text = _SECRETS.sub(REDACTED, text)
    text = _BEARER.sub(rf"\g<1> {REDACTED}", text)
    text = _CREDENTIALS.sub(rf"\g<1>{REDACTED}", text)
    return _QUERY_KEY.sub(rf"\g<1>{REDACTED}", text)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`form` is `text` (key=value, for people) or `json` (one object a line); `level` a name of logging's."""

    form: Literal["text", "json"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class LineFormatter(logging.Formatter):
    """One event, one line: control characters are escaped, faults are folded, secrets are gone."""

    def __init__(self, form: str, *, secrets: Callable[[], Iterable[str]] = loaded_secrets) -> None:
        """`secrets` is asked at each line for the secrets that this process has loaded."""
        super().__init__()
        if form not in {"text", "json"}:
            raise ValueError(f"expected text or json, got {form!r}")
        self._write = _json_line if form == "json" else _text_line
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
        }
        if record.name.partition(".")[0] != _OURS:
            facts["logger"] = record.name
        facts |= getattr(record, "facts", None) or {}
        if record.exc_info is not None and record.exc_info[1] is not None:
            facts |= _fault(record.exc_info[1], whole=record.name.partition(".")[0] == _OURS)
        return redact(self._write(facts), self._secrets())[:MAX_LINE_CHARACTERS]


def configure(
    options: LogOptions, *, stream: TextIO | None = None, secrets: Callable[[], Iterable[str]] = loaded_secrets
) -> None:
    """Send every logger of this process through one handler, in place of whatever was set up before.

    Libraries are heard from WARNING on: at INFO they repeat requests.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(options.form, secrets=secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(options.level.upper())
    for name in _NOISY:
        noisy = logging.getLogger(name)
        noisy.handlers.clear()
        noisy.propagate = True
        noisy.setLevel(logging.WARNING)


def _text_line(facts: dict[str, Any]) -> str:
    head = f"{facts.pop('at')} {facts.pop('level'):<7} {_unbroken(facts.pop('event'))}"
    return " ".join([head, *(f"{name}={_plain(value)}" for name, value in facts.items() if value is not None)])


def _json_line(facts: dict[str, Any]) -> str:
    present = {name: value for name, value in facts.items() if value is not None}
    return json.dumps(present, ensure_ascii=True, default=str)


def _plain(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=True)


def _unbroken(text: str) -> str:
    """The text with every control character escaped: a line that came in must not look like two of ours."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=True)[1:-1]


def _fault(fault: BaseException, *, whole: bool) -> dict[str, str]:
    """A fault as facts; of a library's only what and where, of our own the innermost frames."""
    frames = traceback.extract_tb(fault.__traceback__)[-MAX_TRACE_FRAMES if whole else -1 :]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}:{frame.name}" for frame in reversed(frames))
    return {"fault": f"{type(fault).__name__}: {fault}"[:512], "where": where}
