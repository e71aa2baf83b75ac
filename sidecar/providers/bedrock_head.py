"""What Bedrock's Invoke is asked for, and answers, in its head and not in its body: a dearer tier, a guardrail.

Source: boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json`, InvokeModelRequest and InvokeModelResponse;
checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sidecar.providers.dialect import RequestFacts
from sidecar.providers.request_json import shown

_DEFAULTS: Final = frozenset({"", "default", "standard"})
_SERVED: Final = re.compile(
    rb"^x-amzn-bedrock-(service-tier|performanceconfig-latency):[ \t]*([A-Za-z-]{1,32})[ \t]*\r?$",
    re.ASCII | re.IGNORECASE | re.MULTILINE,
)


def with_head(facts: RequestFacts, fields: Mapping[bytes, bytes]) -> RequestFacts:
    """The facts of a request with what its head asks for, its header names in lower case."""
    latency = _word(fields, b"x-amzn-bedrock-performanceconfig-latency")
    tier = _word(fields, b"x-amzn-bedrock-service-tier")
    asked = tier if latency in _DEFAULTS else f"latency-{latency}"
    ceiling = facts.ceiling
    if asked not in _DEFAULTS:
        ceiling = msgspec.structs.replace(ceiling, tier=asked)
    if b"x-amzn-bedrock-guardrailidentifier" in fields:
        reason = "guardrailIdentifier: its policies are billed beside the tokens"
        ceiling = msgspec.structs.replace(ceiling, unbounded=(*ceiling.unbounded, reason))
    return facts if ceiling is facts.ceiling else msgspec.structs.replace(facts, ceiling=ceiling)


def tier_served(lines: bytes) -> str | None:
    """The tier that an answer's header lines tell of; None where that is the default, or not said."""
    told = {name.lower(): word.decode().lower() for name, word in _SERVED.findall(lines)}
    latency, tier = told.get(b"performanceconfig-latency", ""), told.get(b"service-tier", "")
    if latency not in _DEFAULTS:
        return f"latency-{latency}"
    return None if tier in _DEFAULTS else tier


def _word(fields: Mapping[bytes, bytes], name: bytes) -> str:
    return shown(fields.get(name, b"").decode("latin-1").strip().lower())
