"""What a request can use at most, before anything of it is priced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.providers.dialect import BadRequest, Dialect, RequestFacts
from sidecar.proxy.contexts import Contexts
from sidecar.proxy.makers import Makers
from sidecar.proxy.route import Route, not_taken
from sidecar.proxy.unfit import Unfit, UnfitReason

NOT_CONTINUED: Final = Unfit(
    UnfitReason.INVALID_REQUEST,
    "the earlier answer that this request goes on from is none of this customer's that is known here: with a provider"
    " key of the sidecar's, it must be its own, made through this sidecar (upstreams.NAME.stored_for)",
    code="previous_response_not_found",
)


def estimate(
    dialect: Dialect,
    body: bytes,
    route: Route | None = None,
    models: Mapping[str, str] | None = None,
    contexts: Contexts | None = None,
    *,
    makers: Makers | None = None,
    asker: tuple[str, str] = ("", ""),
) -> RequestFacts | Unfit:
    """Read a body's ceiling of usage and what else matters before the call, or say why it cannot be taken.

    Args:
        dialect: the protocol.
        body: as the caller sent it.
        route: where it goes; None where nothing stands in its path and everything is taken.
        models: what the rate cards call a model that callers name otherwise; None: nothing.
        contexts: of earlier answers that a request may continue; None: none are known.
        makers: who made those; None: whoever asks may continue them.
        asker: by whose prices, and for which customer.
    """
    try:
        facts = dialect.read_request(body) if route is None else dialect.read_request(body, route.target)
    except BadRequest as bad:
        return Unfit(UnfitReason.INVALID_REQUEST, bad.message, param=bad.param, code=bad.code)
    if facts.later and route is not None and facts.later not in route.later:
        return Unfit(UnfitReason.ENDPOINT_NOT_METERED, not_taken(facts.later, route.upstream), param=facts.later)
    if models is not None:
        facts = facts.priced_as(models)
    if facts.continues:
        if makers is not None and not makers.is_of(asker[0], facts.continues, asker[1]):
            return NOT_CONTINUED
        if contexts is not None:
            return contexts.bounded(facts)
    return facts
