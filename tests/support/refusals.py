"""The plainest shape for refusals, for servers in tests that have no `proxy.deny` around them."""

from __future__ import annotations

import json

from sidecar.proxy.refusals import Refusal, RefusalReason, Reply

_STATUSES = {
    RefusalReason.VERSION: 505,
    RefusalReason.TRANSFER_CODING: 501,
    RefusalReason.UPGRADE: 501,
    RefusalReason.EXPECTATION: 417,
    RefusalReason.HEAD_TOO_LARGE: 431,
    RefusalReason.HEAD_TOO_SLOW: 408,
    RefusalReason.HOST: 421,
    RefusalReason.BROWSER: 403,
    RefusalReason.BODY_TOO_LARGE: 413,
    RefusalReason.BODY_TOO_SLOW: 408,
    RefusalReason.BODY_CODING: 415,
    RefusalReason.OVERLOADED: 503,
    RefusalReason.INTERNAL: 500,
    RefusalReason.UPSTREAM_UNREACHABLE: 502,
    RefusalReason.UPSTREAM_BROKEN: 502,
    RefusalReason.UPSTREAM_TIMEOUT: 504,
}


def plain_refusal(target: str, refusal: Refusal) -> Reply:
    """A `RefusalShape`: the status that HTTP has for the reason, 400 where it has none of its own."""
    del target
    body = json.dumps({"error": {"code": refusal.reason.value, "message": refusal.message}}).encode()
    return _STATUSES.get(refusal.reason, 400), [(b"Content-Type", b"application/json")], body
