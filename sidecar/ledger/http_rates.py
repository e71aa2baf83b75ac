"""Rate limits over HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.governance.rights import Reach, Right
from sidecar.ledger.administration import Administration, NewRateLimit, RateLimitRemoval
from sidecar.ledger.http_fields import page_of
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_routes import PAGE, Call, Route, get, post
from sidecar.ledger.views import RateLimitView


def rate_routes(administration: Administration) -> Iterable[Route]:
    """The rows of the table that are about rate limits."""

    async def set_one(call: Call) -> object:
        form = call.read(NewRateLimit)
        if call.scope.node is not None and form.path.rpartition("/")[2] == str(call.scope.node):
            raise RequestRefused("forbidden", f"the limits of {call.scope.node} itself are set above it")
        return await administration.set_rate_limit(form, call.act)

    async def remove(call: Call) -> object:
        return await administration.remove_rate_limit(call.read(RateLimitRemoval), call.act)

    async def all_of(call: Call) -> object:
        return page_of(await administration.rate_limits(call.parts["customer"]), "limit_id", call)

    path, limits = "/v1/rate-limits", Right.LIMITS
    return (
        post(path, limits, set_one, NewRateLimit, RateLimitView, reach=Reach.NODE),
        post(f"{path}/remove", limits, remove, RateLimitRemoval, RateLimitView, reach=Reach.CUSTOMER),
        get(
            "/v1/customers/{customer}/rate-limits", Right.USAGE, all_of, RateLimitView,
            query=PAGE, listing=True, reach=Reach.NODE,
        ),
    )  # fmt: skip
