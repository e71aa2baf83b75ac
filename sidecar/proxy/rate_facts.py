"""What a refusal tells of a rate limit that had no room: figures that clients of OpenAI know how to read.

Source: https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-…` headers), checked 2026-11.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.core.governance.decisions import Consulted
from sidecar.core.governance.rate_limits import Counts
from sidecar.proxy.refusals import Header

RATE_LIMIT: Final = "rate_limit"
"""The kind of a `Consulted` that is a rate limit: its figures count what its `currency` says."""


def rate_facts(consulted: Consulted) -> dict[str, Any]:
    """A rate limit as it stood, for the `spend` object: plain counts."""
    facts: dict[str, Any] = {"unit": consulted.currency, "limit": consulted.limit}
    if consulted.child:
        facts["child"] = consulted.child
    return facts | {"used": consulted.used or 0, "remaining": consulted.remaining or 0}


def rate_headers(binding: Consulted | None) -> list[Header]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of the limit that refused; none for any other."""
    if binding is None or binding.kind != RATE_LIMIT or binding.currency == Counts.CONCURRENT:
        return []
    kind = binding.currency.encode()
    headers = [
        (b"x-ratelimit-limit-" + kind, b"%d" % binding.limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % (binding.remaining or 0)),
    ]
    if binding.resets_in_ms is not None:
        headers.append((b"x-ratelimit-reset-" + kind, b"%ds" % -(-binding.resets_in_ms // 1000)))
    return headers
