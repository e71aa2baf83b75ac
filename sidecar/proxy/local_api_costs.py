"""The three numbers that a check tells of a call: its bound, its cheap bound, and what such calls have cost (L0)."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling, Unbounded, price_ceiling
from sidecar.providers.cheap_bounds import cheap_bound
from sidecar.providers.dialect import BadRequest
from sidecar.providers.registry import dialect_named
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.local_api_decide import Wanted
from sidecar.proxy.local_api_problems import Refused
from sidecar.proxy.local_api_types import Amount, CheckRequest, amount

PROTOCOL: Final = "openai.chat"
"""How a request is read whose protocol is not named."""


def ceiling_asked(asked: CheckRequest) -> Ceiling:
    """The most that a call can use: by its tokens as asked, or by the body that it would have.

    Raises:
        Refused: both are given, the protocol is not known, or the body cannot be taken.
    """
    if asked.request is None:
        return Ceiling(asked.model, asked.input_tokens, asked.max_output_tokens)
    if asked.input_tokens or asked.max_output_tokens is not None:
        what = "expected either the request or its tokens"
        raise Refused("invalid_body", what, problems={"request": what, "input_tokens": what})
    dialect = dialect_named(asked.protocol or PROTOCOL)
    if dialect is None:
        what = "expected the name of a protocol that is metered, as in the decisions of its calls"
        raise Refused("invalid_body", f"protocol: {what}", problems={"protocol": what})
    body = asked.request if not asked.model else {**asked.request, "model": asked.model}
    try:
        facts = dialect.read_request(msgspec.json.encode(body))
    except BadRequest as bad:
        raise Refused("invalid_body", f"request: {bad.message}", problems={"request": bad.message}) from None
    ceiling = facts.ceiling
    return msgspec.structs.replace(ceiling, model=asked.model) if asked.model else ceiling


def likely_cost(asked: CheckRequest, wanted: Wanted) -> Amount | None:
    """What a call with this body costs at most in 99 of 100, with the longest answer that it may have."""
    bound, ceiling = wanted.bound, wanted.ceiling
    if asked.request is None or bound is None or ceiling is None:
        return None
    tokens = cheap_bound(ceiling.model, msgspec.json.encode(asked.request))
    if tokens is None:
        return None
    cheap = msgspec.structs.replace(ceiling, input_tokens=min(tokens, ceiling.input_tokens))
    try:
        return amount(price_ceiling(cheap, bound.card, bound.currency), bound.currency)
    except Unbounded:
        return None


def expected_cost(asked: CheckRequest, wanted: Wanted, expected: Expectations) -> Amount | None:
    """What 95 of 100 of the latest calls of this model cost at most, by this protocol if one is named."""
    if wanted.bound is None:
        return None
    currency = wanted.currency
    atoms = expected.expected_atoms(wanted.provider, wanted.model, currency.code, protocol=asked.protocol)
    return None if atoms is None else amount(atoms, currency)
