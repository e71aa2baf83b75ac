"""What a sidecar counts, read from its /metrics."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 3.0
MAX_BYTES: Final = 8 * 1024 * 1024

_SAMPLE: Final = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Answer:
    """What a small HTTP server said. `status` 0: nothing, and `problem` says why."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    def header(self, name: str) -> str:
        """A header's value, `` for none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def ask(address: str, path: str, *, timeout_s: float = TIMEOUT_S, headers: dict[str, str] | None = None) -> Answer:
    """One GET; whatever goes wrong is in the answer."""
    try:
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    except (ValueError, http.client.HTTPException):
        return Answer(0, problem="not an address")
    try:
        connection.request("GET", path, headers=headers or {})
        got = connection.getresponse()
        return Answer(got.status, got.read(MAX_BYTES), tuple(got.getheaders()))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, problem=str(error) or type(error).__name__)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Counts:
    """A sidecar's own figures at one scrape. `denied` and `unfit` are by reason."""

    admitted: int
    denied: dict[str, int]
    unfit: dict[str, int]
    open_calls: int
    outbox_depth: int
    outbox_age_s: float
    settle_errors: int


def read_counts(text: str) -> Counts | None:
    """The counts in a scrape; None where it is not a sidecar's."""
    samples = [(m[1], dict(_LABEL.findall(m[2] or "")), _number(m[3])) for m in _SAMPLE.finditer(text)]
    plain = {name: value for name, labels, value in samples if not labels}
    if "spend_outbox_depth" not in plain:
        return None
    decisions = [(labels, value) for name, labels, value in samples if name == "spend_decisions_total"]
    unfit = {labels["reason"]: int(value) for name, labels, value in samples if name == "spend_unfit_requests_total"}
    denied: dict[str, int] = {}
    for labels, value in decisions:
        if labels.get("outcome") == "denied":
            reason = labels.get("reason", "")
            denied[reason] = denied.get(reason, 0) + int(value)
    return Counts(
        admitted=sum(int(value) for labels, value in decisions if labels.get("outcome") == "admitted"),
        denied=denied,
        unfit=unfit,
        open_calls=int(plain.get("spend_holds_open", 0)),
        outbox_depth=int(plain["spend_outbox_depth"]),
        outbox_age_s=plain.get("spend_outbox_age_seconds", 0.0),
        settle_errors=int(plain.get("spend_settle_errors_total", 0)),
    )


def scrape(health: str) -> Counts | None:
    """The counts of the sidecar whose health address this is; None where it does not answer as one."""
    answer = ask(health, "/metrics")
    return read_counts(answer.body.decode("utf-8", "replace")) if answer.status == 200 else None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if value == value and abs(value) < 1e18 else 0.0  # noqa: PLR0124 (NaN is not itself)
