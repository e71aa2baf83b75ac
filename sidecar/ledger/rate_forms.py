"""Rate limits as people write them, checked field by field before anything is done."""

from __future__ import annotations

from typing import Final

from sidecar.core.credits.scopes import is_pattern
from sidecar.core.governance.budgets import DIMENSIONS, Each
from sidecar.core.governance.rate_limits import MAX_RATE, Counts
from sidecar.core.governance.tenancy import Node
from sidecar.ledger.administration import NewRateLimit, RateLimitRemoval
from sidecar.ledger.forms import Problems, check_path, check_reason, one_of

MAX_WINDOW_S: Final = 86_400
"""A window of a rate limit is at most a day: what is longer is a budget's period."""


def rate_limit(form: NewRateLimit) -> tuple[str, tuple[Node, ...]]:
    """The customer, and the nodes as named, of a rate limit to set."""
    problems = Problems()
    name, nodes = check_path(problems, form.path)
    if form.counts not in set(Counts):
        problems.add("invalid_field", "counts", one_of(Counts))
    elif form.counts == Counts.CONCURRENT and form.window_s:
        problems.add("invalid_field", "window_s", "0: calls at once are counted in no window")
    elif form.counts != Counts.CONCURRENT and not 1 <= form.window_s <= MAX_WINDOW_S:
        problems.add("invalid_field", "window_s", f"how long a window is: 1 to {MAX_WINDOW_S} seconds")
    if not 0 <= form.limit <= MAX_RATE:
        problems.add("invalid_field", "limit", f"a whole number from 0 to {MAX_RATE}")
    if form.each not in set(Each):
        problems.add("invalid_field", "each", one_of(Each))
    for dimension, pattern in form.match.items():
        if dimension not in DIMENSIONS or not is_pattern(pattern):
            problems.add("invalid_field", "match", f"a pattern for any of {', '.join(DIMENSIONS)}")
    problems.raise_any()
    return name, nodes


def removal(form: RateLimitRemoval) -> None:
    """Refuse a removal that does not say why."""
    problems = Problems()
    check_path(problems, form.customer, field="customer")
    check_reason(problems, form.reason)
    problems.raise_any()
