"""What a request can use at most, before anything of it is priced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.providers.dialect import BadRequest, Dialect, RequestFacts
from sidecar.providers.held_by_id import held_in
from sidecar.proxy.contexts import Contexts
from sidecar.proxy.makers import Apart
from sidecar.proxy.route import Route, not_taken
from sidecar.proxy.unfit import Unfit, UnfitReason

NOT_CONTINUED: Final = Unfit(
    UnfitReason.INVALID_REQUEST,
    "the earlier answer that this request goes on from is none of this customer's that is known here: with a provider"
    " key of the sidecar's, it must be its own, made through this sidecar (upstreams.NAME.stored_for)",
    code="previous_response_not_found",
)

NOT_NAMED: Final = Unfit(
    UnfitReason.INVALID_REQUEST,
    "this request names what is held at the provider by its id (a file, a conversation, a container, an item of an"
    " earlier answer) and is none of this customer's that is known here: with a provider key of the sidecar's, it must"
    " be made through this sidecar by the same customer, or be listed in upstreams.NAME.shared",
    code="not_found",
)


def estimate(
    dialect: Dialect,
    body: bytes,
    route: Route | None = None,
    models: Mapping[str, str] | None = None,
    contexts: Contexts | None = None,
    *,
    apart: Apart | None = None,
) -> RequestFacts | Unfit:
    """Read a body's ceiling of usage and what else matters before the call, or say why it cannot be taken.

    Args:
        dialect: the protocol.
        body: as the caller sent it.
        route: where it goes; None where nothing stands in its path and everything is taken.
        models: what the rate cards call a model that callers name otherwise; None: nothing.
        contexts: of earlier answers that a request may continue; None: none are known.
        apart: what of the provider's things is this customer's; None: whoever asks may continue and name them.
    """
    try:
        facts = dialect.read_request(body) if route is None else dialect.read_request(body, route.target)
    except BadRequest as bad:
        return Unfit(UnfitReason.INVALID_REQUEST, bad.message, param=bad.param, code=bad.code)
    if facts.later and route is not None and facts.later not in route.later:
        return Unfit(UnfitReason.ENDPOINT_NOT_METERED, not_taken(facts.later, route.upstream), param=facts.later)
    if models is not None:
        facts = facts.priced_as(models)
    # What brings input by its id leaves a call without a bound: only of such a body is all looked through.
    if apart is not None and facts.ceiling.unbounded and not all(map(apart.has, held_in(body))):
        return NOT_NAMED
    if facts.continues:
        if apart is not None and not apart.has(facts.continues):
            return NOT_CONTINUED
        if contexts is not None:
            return contexts.bounded(facts)
    return facts
