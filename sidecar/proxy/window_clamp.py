"""Shortening an answer so that it fits into a rate limit on tokens: its limit is lowered to what the window has left.

As near a budget (`clamp`), with two differences. Nothing is waited for: a window has room again in seconds, where an
open call ends in less. And all that is left is taken, never half of it: a window is never empty of others' calls, so
that half would shorten every answer twice as much as it must be, and its rest comes back by itself.
"""

from __future__ import annotations

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.rate_limits import Counts
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.clamp import MAX_CLAMPS, Clamp, Shortener, asked_first
from sidecar.proxy.price import Priced
from sidecar.proxy.rate_facts import RATE_LIMIT
from sidecar.proxy.rates import UNKNOWN_OUTPUT_TOKENS


def wants_fewer_tokens(denied: Denied) -> bool:
    """Whether it was a window of tokens that had no room."""
    window = denied.binding
    return (
        denied.reason is Reason.RATE_LIMITED
        and window is not None
        and window.kind == RATE_LIMIT
        and window.currency == Counts.TOKENS
    )


def shortened_to_window(
    facts: RequestFacts,
    clamp: Clamp | None,
    bound: Priced | None,
    denied: Denied,
    *,
    shorten: Shortener,
    floor_tokens: int,
) -> tuple[RequestFacts, Clamp] | None:
    """A request that may fit where this one did not; None: it is not to be shortened, or not enough is left.

    Args:
        facts: of the request.
        clamp: how it was shortened already, for whatever reason.
        bound: what it can cost as it is; None: it has no price, and an answer without a limit is taken to be as
            long as the window was asked for it.
        denied: why it may not run.
        shorten: lowers the output limit.
        floor_tokens: the least that an answer may be shortened to.
    """
    window = denied.binding
    times = 0 if clamp is None else clamp.times
    if not wants_fewer_tokens(denied) or window is None or window.remaining is None or times >= MAX_CLAMPS:
        return None
    ceiling = facts.ceiling
    longest = UNKNOWN_OUTPUT_TOKENS if bound is None else bound.card.max_output_tokens
    limit = longest if ceiling.output_limit is None else ceiling.output_limit
    if bound is not None and limit > longest:  # no such answer exists: a mistake, which is not to pass for a wish
        return None
    tokens = (window.remaining - ceiling.input_tokens) // ceiling.choices
    if not floor_tokens <= tokens < limit:
        return None
    shorter = shorten(facts, tokens)
    return None if shorter is None else (shorter, Clamp(asked_first(facts, clamp), times + 1))
